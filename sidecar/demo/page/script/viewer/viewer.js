// The viewer of one study: a strip of series, the canvas, and its controls.

import { attempt, byId, day, el, modalityName, plural, say } from "../dom.js";
import { picture } from "../thumbnails.js";
import { isDrawable } from "./attributes.js";
import * as controls from "./controls.js";
import { documentView } from "./document.js";
import { Frames, readSeries } from "./frames.js";
import { listen } from "./gestures.js";
import { fullWindow } from "./pixels.js";
import { Screen } from "./screen.js";

const DEFAULT_RATE = 12;
const REDRAW_MS = 150;

const HINT = "Drag does what is chosen above. Wheel and arrow keys scroll; with Shift a drag moves. "
  + "Two fingers zoom, as do plus and minus; 0 resets, the space bar plays.";

export class Viewer {
  constructor(place) {
    const actions = this._actions();
    this._controls = controls.makeControls(actions);
    this._canvas = el("canvas", {
      id: "canvas", tabindex: "0", role: "application", aria: {
        label: "Image", describedby: "canvas-hint", roledescription: "image viewer",
      },
    });
    this._about = el("p", { class: "overlay", id: "about-image" });
    this._wait = el("p", { class: "overlay waiting", hidden: true });
    this._document = el("div", { hidden: true });
    this._stage = el("div", { class: "stage" }, this._canvas, this._about, this._wait);
    this._strip = el("ul", { class: "strip", aria: { label: "Series" } });
    this._heading = el("p", { class: "lead", id: "viewer-study" });
    this._work = el("div", { class: "work" }, this._controls.above, this._stage,
      this._controls.below, el("p", { class: "quiet", id: "canvas-hint" }, HINT));
    place.replaceChildren(this._heading, el("div", { class: "viewer" }, this._strip,
      el("div", {}, this._document, this._work)));
    this._screen = new Screen(this._canvas);
    listen(this._canvas, actions, this._controls.toolOf);
    this.close();
  }

  _actions() {
    return {
      scroll: (steps) => this._goTo(this._index + steps),
      scrollTo: (end) => this._goTo(end === "first" ? 0 : Infinity),
      goTo: (index) => this._goTo(index),
      window: (dx, dy) => this._drag(dx, dy),
      setWindow: (center, width) => this._setWindow(center, width, -1),
      preset: (index) => index >= 0 && this._usePreset(index),
      move: (dx, dy) => this._screen.move(dx, dy),
      zoom: (factor, x, y) => this._screen.zoomBy(factor, x, y),
      reset: () => this._reset(),
      invert: () => this._invert(),
      play: () => this._play(this._timer === null),
    };
  }

  /** Forget the study, and end what is still fetched. */
  close() {
    this._play(false);
    this._abort?.abort();
    this._abort = null;
    this._frames = null;
    this._index = 0;
    this._window = null;
    this._presets = [];
    this._screen.clear();
    this._strip.replaceChildren();
    this._document.hidden = this._work.hidden = true;
    this._heading.replaceChildren(el("a", { href: "#studies" }, "Choose a study"), " first.");
  }

  /** Stop playing. */
  pause() {
    this._play(false);
  }

  /** Open a study at one of its series. */
  async open(study, first = study.series[0]) {
    this.close();
    this._study = study;
    this._heading.textContent = `${study.description}, ${day(study.started)}`;
    this._strip.replaceChildren(...study.series.map((series) => this._stripItem(series)));
    if (first) await this._choose(first);
    else this._heading.textContent = "This study has no series to show.";
  }

  _stripItem(series) {
    const { box, load } = picture(this._study, series);
    load().catch(() => {});
    return el("li", {}, el("button", {
      type: "button", data: { series: series.uid },
      onclick: () => attempt(() => this._choose(series)),
    }, box, el("span", {}, el("strong", {}, series.description || modalityName(series.modality)),
      el("small", {}, `${modalityName(series.modality)}, ${plural(series.count ?? 0, "file")}`))));
  }

  async _choose(series) {
    this._play(false);
    this._abort?.abort();
    const abort = this._abort = new AbortController();
    for (const choice of this._strip.querySelectorAll("button")) {
      choice.setAttribute("aria-pressed", String(choice.dataset.series === series.uid));
    }
    this._series = series;
    this._frames = null;
    this._screen.clear();
    this._screen.reset();
    this._document.hidden = true;
    this._work.hidden = false;
    this._showWait("Fetching …");
    const instances = await readSeries(this._study.root, series.uid,
      (left) => this._showWait(`The archive is fetching it. Trying again in ${left} s.`),
      abort.signal);
    if (abort.signal.aborted) return;
    await this._begin(new Frames(this._study.root, series.uid, instances, abort.signal), instances);
  }

  async _begin(frames, instances) {
    this._showWait("");
    const document = instances.find((instance) => instance.document)?.document;
    this._work.hidden = frames.length === 0;
    if (document) {
      this._document.replaceChildren(await documentView(document));
      this._document.hidden = false;
    } else if (frames.length === 0) {
      this._document.replaceChildren(el("p", {}, "This series has nothing to draw."));
      this._document.hidden = false;
    }
    if (frames.length === 0) return;
    this._frames = frames;
    this._isFirst = true;
    await this._goTo(frames.list[0].image.frames > 1 ? 0 : Math.floor(frames.length / 2));
  }

  _showWait(text) {
    this._wait.hidden = !text;
    this._wait.textContent = text;
  }

  async _goTo(wanted) {
    const frames = this._frames;
    if (!frames) return;
    const index = Math.min(frames.length - 1, Math.max(0, wanted));
    this._index = index;
    const noun = frames.list[index].image.frames > 1 ? "Frame" : "Image";
    controls.showPosition(this._controls, index, frames.length, noun);
    try {
      const shown = await frames.get(index);
      if (this._frames !== frames || this._index !== index) return;
      this._show(shown, frames.list[index].image);
      frames.ahead(index);
    } catch (problem) {
      if (this._frames === frames && problem.name !== "AbortError") say(problem.message, true);
    }
  }

  _show(shown, image) {
    if (this._isFirst) {
      this._isFirst = false;
      const isGrey = image.samples === 1;
      const full = shown.values && isGrey ? fullWindow(shown.values, image) : null;
      this._presets = isGrey ? controls.presetsOf(image, this._series.modality, full) : [];
      controls.showPresets(this._controls, this._presets);
      this._window = null;
      if (this._presets.length > 0) this._usePreset(0, false);
    }
    this._shown = shown;
    if (shown.values) this._screen.show(shown.values, image, this._window);
    else this._showDrawn(shown, image);
    this._describe(image, shown);
  }

  /** Show what the server has drawn, and ask for it again if that was in another window. */
  _showDrawn(shown, image) {
    this._screen.showBitmap(shown.bitmap, image);
    clearTimeout(this._later);
    const { _window: wanted, _frames: frames, _index: index } = this;
    const had = shown.window ?? this._presets[0];
    if (!isDrawable(image) || !wanted) return;
    if (had.center === wanted.center && had.width === wanted.width) return;
    this._later = setTimeout(() => attempt(async () => {
      const drawn = await frames.drawn(image, frames.list[index].frame, wanted);
      if (this._frames === frames && this._index === index) this._show(drawn, image);
    }), REDRAW_MS);
  }

  _describe(image, shown) {
    const how = shown.values ? "drawn here from the stored values" : "drawn by the archive";
    const where = image.location === null ? "" : ` · ${image.location.toFixed(1)} mm`;
    this._about.textContent = `${image.columns} × ${image.rows}${where} · ${how}`;
    this._canvas.setAttribute("aria-label",
      `${this._series.description || modalityName(this._series.modality)}, ${
        this._controls.place.textContent}`);
  }

  _redraw() {
    if (!this._frames || !this._shown) return;
    this._show(this._shown, this._frames.list[this._index].image);
  }

  _usePreset(index, isRedrawn = true) {
    const { center, width } = this._presets[index];
    this._setWindow(center, width, index, isRedrawn);
  }

  _setWindow(center, width, preset, isRedrawn = true) {
    if (!Number.isFinite(center) || !Number.isFinite(width)) return;
    this._window = { center, width: Math.max(1, width) };
    controls.showWindow(this._controls, this._window, preset);
    if (isRedrawn) this._redraw();
  }

  _drag(dx, dy) {
    if (!this._window) return;
    const step = Math.max(0.5, this._window.width / 300);
    this._setWindow(this._window.center + dy * step, this._window.width + dx * step, -1);
  }

  _reset() {
    this._screen.reset();
    if (this._presets.length > 0) this._usePreset(0);
    else this._redraw();
  }

  _invert() {
    this._screen.isInverted = !this._screen.isInverted;
    byId("invert").setAttribute("aria-pressed", String(this._screen.isInverted));
    this._redraw();
  }

  _play(isPlaying) {
    clearTimeout(this._timer ?? undefined);
    this._timer = null;
    this._controls.play.textContent = isPlaying ? "Stop" : "Play";
    this._controls.play.setAttribute("aria-pressed", String(isPlaying));
    if (!isPlaying || !this._frames) return;
    const { frameTime } = this._frames.list[0].image;
    const pause = frameTime > 0 ? Math.max(frameTime, 16) : 1_000 / DEFAULT_RATE;
    const step = async () => {
      const begun = performance.now();
      await this._goTo((this._index + 1) % this._frames.length);
      if (this._timer === null) return;
      this._timer = setTimeout(step, Math.max(0, pause - (performance.now() - begun)));
    };
    this._timer = setTimeout(step, pause);
  }
}

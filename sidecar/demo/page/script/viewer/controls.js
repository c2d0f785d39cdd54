// The controls below and above the canvas.

import { button, el } from "../dom.js";

const CT_PRESETS = [
  { name: "Brain", center: 40, width: 80 }, { name: "Soft tissue", center: 40, width: 400 },
  { name: "Bone", center: 600, width: 2800 }, { name: "Lung", center: -600, width: 1500 },
];
const TOOLS = [["window", "Brightness"], ["move", "Move"], ["scroll", "Scroll"]];

/** Return what a drag does, as a group of radio buttons, and a function that says which is on. */
function toolGroup() {
  let tool = "window";
  const group = el("fieldset", { class: "tools" }, el("legend", {}, "Drag to"),
    TOOLS.map(([value, label]) => el("label", {},
      el("input", {
        type: "radio", name: "tool", value, checked: value === tool,
        onchange: () => { tool = value; },
      }), el("span", {}, label))));
  return { group, toolOf: () => tool };
}

function numberField(label, id, onchange) {
  const input = el("input", { type: "number", id, step: "1", onchange });
  return { field: el("label", { class: "number" }, el("span", {}, label), input), input };
}

/** The window: presets, and two numbers for those who do not drag. */
function windowFields(actions) {
  const preset = el("select", {
    id: "preset", onchange: () => actions.preset(Number(preset.value)),
  });
  const changed = () => actions.setWindow(Number(center.input.value), Number(width.input.value));
  const center = numberField("Level", "window-center", changed);
  const width = numberField("Width", "window-width", changed);
  width.input.min = "1";
  const box = el("div", { class: "window-fields" },
    el("label", {}, el("span", {}, "Preset"), preset), center.field, width.field);
  return { box, preset, center: center.input, width: width.input };
}

/** Return the presets of a series: its own, those for its modality, and its full range. */
export function presetsOf(image, modality, full) {
  const known = modality === "CT" ? CT_PRESETS : [];
  const stored = image.windows;
  const extra = known.filter(({ center, width }) =>
    !stored.some((one) => one.center === center && one.width === width));
  return [...stored, ...extra, ...(full ? [full] : [])];
}

/** Make all controls. `actions` has what they do. */
export function makeControls(actions) {
  const { group, toolOf } = toolGroup();
  const window = windowFields(actions);
  const position = el("input", {
    type: "range", id: "position", min: "1", value: "1", aria: { label: "Image" },
    oninput: () => actions.goTo(Number(position.value) - 1),
  });
  const play = button("Play", actions.play, { id: "play", aria: { pressed: "false" } });
  const place = el("output", { id: "place", for: "position" });
  const buttons = el("div", { class: "buttons" },
    button("+", () => actions.zoom(1.25), { class: "small", aria: { label: "Zoom in" } }),
    button("−", () => actions.zoom(0.8), { class: "small", aria: { label: "Zoom out" } }),
    button("Invert", actions.invert, { class: "small", id: "invert", aria: { pressed: "false" } }),
    button("Reset", actions.reset, { class: "small" }));
  return {
    above: el("div", { class: "toolbar" }, group, window.box, buttons),
    below: el("div", { class: "position" }, play, position, place),
    toolOf, window, position, play, place,
  };
}

/** Fill in the presets. */
export function showPresets({ window }, presets) {
  window.preset.replaceChildren(
    ...presets.map(({ name }, index) => el("option", { value: String(index) }, name)),
    el("option", { value: "-1" }, "Own"));
  window.box.hidden = presets.length === 0;
}

/** Show a window; `index` is that of its preset, -1 for none. */
export function showWindow({ window }, { center, width }, index) {
  window.center.value = String(Math.round(center));
  window.width.value = String(Math.round(width));
  window.preset.value = String(index);
}

/** Show where we are in a series. */
export function showPosition({ position, place, play, below }, index, length, noun) {
  position.max = String(Math.max(1, length));
  position.value = String(index + 1);
  place.textContent = `${noun} ${index + 1} of ${length}`;
  position.setAttribute("aria-valuetext", place.textContent);
  play.hidden = position.hidden = length < 2;
  below.classList.toggle("single", length < 2);
}

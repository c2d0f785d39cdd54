// The frames of a series: fetched when they are wanted, a few at a time, some of them kept.

import { whenReady, withToken } from "../http.js";
import { onePart } from "../multipart.js";
import { describe, isDrawable } from "./attributes.js";
import { frameLength, valuesOf } from "./pixels.js";

const RAW = 'multipart/related; type="application/octet-stream"';
const DRAWN = "image/jpeg, image/png";
const AT_ONCE = 4;
const MAXIMUM_BYTES = 256e6;

/** Return the instances of a series by number. Throws a Problem. */
export async function readSeries(root, seriesUid, onWait, signal) {
  const url = `${root}/series/${seriesUid}/metadata`;
  const { response, exchange } = await whenReady(
    () => withToken(url, "application/dicom+json", { signal }), onWait, signal);
  const datasets = response.status === 204 ? [] : await response.json();
  exchange.preview = `(metadata of ${datasets.length} instances)`;
  return datasets.map(describe).sort((one, other) => one.number - other.number);
}

/** A series as a list of frames. Each is stored values, or a picture that the server has drawn. */
export class Frames {
  constructor(root, seriesUid, instances, signal) {
    this._base = `${root}/series/${seriesUid}/instances`;
    this._group = seriesUid;
    this._signal = signal;
    this._kept = new Map();
    this._bytes = 0;
    this._waiting = [];
    this._flying = new Map();
    this.list = instances.filter(({ hasPixels }) => hasPixels).flatMap((image) =>
      Array.from({ length: image.frames }, (_, index) => ({ image, frame: index + 1 })));
  }

  get length() {
    return this.list.length;
  }

  /** Return a frame that is kept, or undefined. */
  peek(index) {
    return this._kept.get(index)?.value;
  }

  /** Return a frame, before all those that wait to be fetched ahead. */
  get(index) {
    return this._ask(index, (job) => this._waiting.unshift(job));
  }

  /** Fetch frames ahead, the nearest first; nobody waits for them. */
  ahead(from) {
    this._waiting = this._waiting.filter(({ isAhead }) => !isAhead);
    const order = this.list.map((_, index) => index).filter((index) => !this._kept.has(index))
      .sort((one, other) => Math.abs(one - from) - Math.abs(other - from));
    const room = Math.floor((MAXIMUM_BYTES - this._bytes) / Math.max(1, this._size(from)));
    for (const index of order.slice(0, Math.max(0, room))) {
      this._ask(index, (job) => this._waiting.push({ ...job, isAhead: true })).catch(() => {});
    }
  }

  _size(index) {
    return frameLength(this.list[index].image);
  }

  _ask(index, enqueue) {
    const kept = this.peek(index);
    if (kept) return Promise.resolve(kept);
    if (this._flying.has(index)) return this._flying.get(index);
    return new Promise((resolve, reject) => {
      enqueue({ index, resolve, reject, isAhead: false });
      this._next();
    });
  }

  _next() {
    if (this._signal.aborted) {
      const left = this._waiting.splice(0);
      left.forEach(({ reject }) => reject(new DOMException("cancelled", "AbortError")));
      return;
    }
    if (this._flying.size >= AT_ONCE || this._waiting.length === 0) return;
    const { index, resolve, reject } = this._waiting.shift();
    const begun = this.peek(index) ?? this._flying.get(index) ?? this._begin(index);
    Promise.resolve(begun).then(resolve, reject);
    this._next();
  }

  _begin(index) {
    const fetched = this._fetch(this.list[index]).then((value) => {
      this._keep(index, value);
      return value;
    }).finally(() => {
      this._flying.delete(index);
      this._next();
    });
    this._flying.set(index, fetched);
    return fetched;
  }

  _keep(index, value) {
    if (this._kept.has(index)) return;
    this._kept.set(index, { value });
    this._bytes += this._size(index);
    for (const [oldest] of this._kept) {
      if (this._bytes <= MAXIMUM_BYTES || oldest === index) break;
      this._kept.delete(oldest);
      this._bytes -= this._size(oldest);
    }
  }

  async _fetch({ image, frame }) {
    if (isDrawable(image) && !image.isServerDrawn) {
      try {
        const url = `${this._base}/${image.uid}/frames/${frame}`;
        const bytes = await onePart((await this._request(url, RAW)).response);
        return { values: valuesOf(bytes, image) };
      } catch (problem) {
        if (this._signal.aborted) throw problem;
        image.isServerDrawn = true;  // Compressed in a way that is not undone: the server draws it.
      }
    }
    return this.drawn(image, frame);
  }

  _request(url, accept) {
    const options = { signal: this._signal, group: `${this._group} ${accept}` };
    return whenReady(() => withToken(url, accept, options), null, this._signal);
  }

  /** Return a frame as the server draws it, with a window if it is grey. */
  async drawn(image, frame, window = null) {
    const query = window
      ? `?window=${window.center.toFixed(1)},${window.width.toFixed(1)},linear` : "";
    const url = `${this._base}/${image.uid}/frames/${frame}/rendered${query}`;
    const { response } = await this._request(url, DRAWN);
    return { bitmap: await createImageBitmap(await response.blob()), window };
  }
}

// Fetch a study series by series. What has come and was verified is not fetched again.

import { Problem, whenReady, withToken } from "./http.js";
import { isWhole, readZip } from "./zip.js";

export class Transfer {
  /** `onChange` is called for each piece; `onSeries` gets the files of a series that is whole. */
  constructor(study, onChange, onSeries = null) {
    this.study = study;
    this.parts = study.series.map((series) => ({
      series, state: "waiting", bytes: 0, verified: 0, files: [],
    }));
    this._onChange = onChange;
    this._onSeries = onSeries;
    this._abort = null;
  }

  get isRunning() {
    return this._abort !== null;
  }

  get isBegun() {
    return this.parts.some(({ state }) => state !== "waiting");
  }

  get isDone() {
    return this.parts.every(({ state }) => state === "done");
  }

  get bytes() {
    return this._sum((part) => part.bytes);
  }

  get verified() {
    return this._sum((part) => part.verified);
  }

  get expected() {
    return this._sum(({ series }) => series.count ?? 0);
  }

  _sum(count) {
    return this.parts.reduce((sum, part) => sum + count(part), 0);
  }

  /** Return the files of all series. */
  get files() {
    return this.parts.flatMap(({ files }) => files);
  }

  /** Begin, or go on with the series that are not there yet. Throws a Problem. */
  async run() {
    this._abort = new AbortController();
    try {
      for (const part of this.parts) {
        if (part.state !== "done") await this._fetch(part, this._abort.signal);
      }
    } finally {
      this._abort = null;
      this._onChange();
    }
  }

  cancel() {
    this._abort?.abort();
  }

  _set(part, changes) {
    Object.assign(part, changes);
    this._onChange();
  }

  async _fetch(part, signal) {
    this._set(part, { state: "running", bytes: 0, verified: 0, files: [] });
    try {
      const url = `${this.study.root}/series/${part.series.uid}`;
      const { response } = await whenReady(() => withToken(url, "application/zip", { signal }),
        (left) => this._set(part, { state: `waiting, ${left} s` }), signal);
      this._set(part, { state: "running" });
      const files = await readZip(await this._receive(part, response));
      await this._verify(part, files, signal);
      await this._onSeries?.(files);
      this._set(part, { state: "done", files });
    } catch (problem) {
      const isCancelled = signal.aborted;
      this._set(part, { state: isCancelled ? "cancelled" : "failed", verified: 0 });
      if (isCancelled) throw new DOMException("cancelled", "AbortError");
      throw problem instanceof Problem ? problem
        : new Problem(`The series did not come whole. ${problem.message}`);
    }
  }

  async _receive(part, response) {
    const pieces = [];
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return new Blob(pieces);
      pieces.push(value);
      this._set(part, { bytes: part.bytes + value.length });
    }
  }

  async _verify(part, files, signal) {
    for (const file of files) {
      if (!await isWhole(file)) throw new Problem("A file is not as it was sent.");
      signal.throwIfAborted();
      this._set(part, { verified: part.verified + 1 });
    }
    const { count } = part.series;
    if (count !== null && files.length !== count) {
      throw new Problem(`${files.length} files came, and the series has ${count}.`);
    }
  }
}

// The canvas: a frame, fitted, zoomed and moved.

import { paint } from "./pixels.js";

const MAXIMUM_ZOOM = 16;

export class Screen {
  constructor(canvas) {
    this.canvas = canvas;
    this._frame = document.createElement("canvas");
    this._image = null;
    this.isInverted = false;
    this.reset();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Show the whole image again, upright. */
  reset() {
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
  }

  /** Take a frame of stored values, with the window to show it in. */
  show(values, image, window) {
    const frame = this._frame;
    if (frame.width !== image.columns || frame.height !== image.rows || !this._data) {
      frame.width = image.columns;
      frame.height = image.rows;
      this._data = new ImageData(image.columns, image.rows);
    }
    paint(this._data.data, values, image, window, this.isInverted);
    frame.getContext("2d").putImageData(this._data, 0, 0);
    this._image = image;
    this.draw();
  }

  /** Take a picture that the server has drawn. */
  showBitmap(bitmap, image) {
    this._frame.width = bitmap.width;
    this._frame.height = bitmap.height;
    this._data = null;
    const context = this._frame.getContext("2d");
    context.filter = this.isInverted ? "invert(1)" : "none";
    context.drawImage(bitmap, 0, 0);
    this._image = image;
    this.draw();
  }

  /** Show nothing. */
  clear() {
    this._image = null;
    this.draw();
  }

  /** Return how many pixels of the canvas a column of the image has, and a row. */
  _scale() {
    const aspect = this._image.aspect;
    const fit = Math.min(this.canvas.width / this._frame.width,
      this.canvas.height / (this._frame.height * aspect));
    return [fit * this.zoom, fit * this.zoom * aspect];
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const context = canvas.getContext("2d");
    if (this._image === null) return;
    const [across, down] = this._scale();
    context.imageSmoothingQuality = "high";
    context.setTransform(across, 0, 0, down,
      canvas.width / 2 + this.x * ratio, canvas.height / 2 + this.y * ratio);
    context.drawImage(this._frame, -this._frame.width / 2, -this._frame.height / 2);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** Move by pixels of the page. */
  move(x, y) {
    this.x += x;
    this.y += y;
    this.draw();
  }

  /** Zoom about a point of the canvas, by default its middle (in pixels of the page). */
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const zoom = Math.min(MAXIMUM_ZOOM, Math.max(0.5, this.zoom * factor));
    const done = zoom / this.zoom;
    const [dx, dy] = [x - this.canvas.clientWidth / 2, y - this.canvas.clientHeight / 2];
    this.x = dx - (dx - this.x) * done;
    this.y = dy - (dy - this.y) * done;
    this.zoom = zoom;
    this.draw();
  }
}

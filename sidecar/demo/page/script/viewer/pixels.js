// From stored values to grey or colour (PS3.3 C.7.6.3, C.11.1, C.11.2.1.2). No DOM here.

/** Return the length in bytes of an uncompressed frame. */
export const frameLength = ({ rows, columns, samples, bits }) =>
  (rows * columns * samples * bits) / 8;

/** Return the stored values of a frame as an array of their kind. Throws if some are missing. */
export function valuesOf(bytes, image) {
  const length = frameLength(image);
  // A frame of odd length has a byte of padding.
  const padding = bytes.length - length;
  if (padding !== 0 && padding !== 1) throw new Error("not an uncompressed frame");
  const copy = bytes.slice(0, length).buffer;
  if (image.bits === 8) return signed(new Uint8Array(copy), image, Int8Array);
  return signed(new Uint16Array(copy), image, Int16Array);
}

/** Bits above the stored ones may hold anything. */
function signed(values, { stored, bits, isSigned, samples }, Signed) {
  if (samples > 1) return values;
  const shift = bits - stored;
  if (!isSigned) {
    const mask = 2 ** stored - 1;
    if (shift > 0) values.forEach((value, index) => { values[index] = value & mask; });
    return values;
  }
  const same = new Signed(values.buffer);
  if (shift > 0) {
    const whole = 32 - stored;
    same.forEach((value, index) => { same[index] = (value << whole) >> whole; });
  }
  return same;
}

/** Return the window that shows all values of a frame. */
export function fullWindow(values, { slope, intercept }) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const ends = [low * slope + intercept, high * slope + intercept].sort((a, b) => a - b);
  return { name: "Full range", center: (ends[0] + ends[1] + 1) / 2, width: ends[1] - ends[0] + 1 };
}

/** Return a table from each possible stored value to grey: the linear function of C.11.2.1.2.1. */
function greyTable({ bits, isSigned, slope, intercept, photometric }, { center, width }) {
  const size = 2 ** bits;
  const table = new Uint8ClampedArray(size);
  const isInverted = photometric === "MONOCHROME1";
  const range = Math.max(width - 1, 1e-6);
  for (let index = 0; index < size; index++) {
    const value = (isSigned && index >= size / 2 ? index - size : index) * slope + intercept;
    const grey = ((value - (center - 0.5)) / range + 0.5) * 255;
    table[index] = isInverted ? 255 - Math.min(255, Math.max(0, grey)) : grey;
  }
  return table;
}

/** Paint a frame into the RGBA bytes of an image of the same size. */
export function paint(rgba, values, image, window, isInverted = false) {
  const count = image.rows * image.columns;
  if (image.samples === 3) return paintColor(rgba, values, image, count, isInverted);
  const table = greyTable(image, window);
  const mask = table.length - 1;
  for (let index = 0, at = 0; index < count; index++, at += 4) {
    const grey = table[values[index] & mask];
    rgba[at] = rgba[at + 1] = rgba[at + 2] = isInverted ? 255 - grey : grey;
    rgba[at + 3] = 255;
  }
  return rgba;
}

function paintColor(rgba, values, { isPlanar }, count, isInverted) {
  const [step, plane] = isPlanar ? [1, count] : [3, 1];
  for (let index = 0, at = 0; index < count; index++, at += 4) {
    for (let sample = 0; sample < 3; sample++) {
      const value = values[index * step + sample * plane];
      rgba[at + sample] = isInverted ? 255 - value : value;
    }
    rgba[at + 3] = 255;
  }
  return rgba;
}

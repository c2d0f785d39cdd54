// Read and write ZIPs of files that are stored without compression (APPNOTE 6.3.10).

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END_BYTES = 22;
const LIMIT = 0xffffffff;

const table = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** Return the CRC-32 of bytes. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ table[(value ^ byte) & 0xff];
  return (value ^ 0xffffffff) >>> 0;
}

const viewOf = async (blob, from, length) =>
  new DataView(await blob.slice(from, from + length).arrayBuffer());

async function endOf(blob) {
  const view = await viewOf(blob, Math.max(0, blob.size - END_BYTES), END_BYTES);
  if (view.byteLength < END_BYTES || view.getUint32(0, true) !== END) {
    throw new Error("The ZIP breaks off: its directory is missing.");
  }
  return {
    count: view.getUint16(10, true), size: view.getUint32(12, true),
    offset: view.getUint32(16, true),
  };
}

/** Return the files of a ZIP: name, CRC-32, and their bytes as a part of the Blob. */
export async function readZip(blob) {
  const end = await endOf(blob);
  const directory = await viewOf(blob, end.offset, end.size);
  const files = [];
  for (let at = 0; files.length < end.count;) {
    if (directory.getUint32(at, true) !== CENTRAL || directory.getUint16(at + 10, true) !== 0) {
      throw new Error("The ZIP has a file that this page cannot read.");
    }
    const [nameLength, extra, comment] = [28, 30, 32].map((from) =>
      directory.getUint16(at + from, true));
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, nameLength));
    files.push({
      name, crc: directory.getUint32(at + 16, true),
      blob: await contentOf(blob, directory.getUint32(at + 42, true),
        directory.getUint32(at + 24, true)),
    });
    at += 46 + nameLength + extra + comment;
  }
  return files;
}

async function contentOf(blob, offset, size) {
  const head = await viewOf(blob, offset, 30);
  if (head.getUint32(0, true) !== LOCAL) throw new Error("The ZIP is damaged.");
  const begin = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  return blob.slice(begin, begin + size);
}

/** Say whether a file is what was sent, and DICOM (PS3.10 7.1). */
export async function isWhole({ blob, crc }) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return String.fromCharCode(...bytes.subarray(128, 132)) === "DICM" && crc32(bytes) === crc;
}

/** Return a header: 16-bit numbers are given as [value], 32-bit numbers as a value. */
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, field) =>
    sum + (Array.isArray(field) ? 2 : 4), 0)));
  let at = 0;
  for (const field of fields) {
    if (Array.isArray(field)) {
      view.setUint16(at, field[0], true);
      at += 2;
    } else {
      view.setUint32(at, field, true);
      at += 4;
    }
  }
  return view.buffer;
}

const DAY_ZERO = [0x21];  // 1980-01-01: the files have no time.

/** Return one ZIP of files that `readZip` has read; names that stand twice get a number. */
export function writeZip(files) {
  const pieces = [];
  const directory = [];
  const used = new Map();
  let offset = 0;
  for (const { name, crc, blob } of files) {
    const times = (used.get(name) ?? 0) + 1;
    used.set(name, times);
    const unique = new TextEncoder()
      .encode(times === 1 ? name : name.replace(/(\.[^./]*)?$/, `-${times}$1`));
    const common = [[0], [0], [0], DAY_ZERO, crc, blob.size, blob.size, [unique.length], [0]];
    const head = packed(LOCAL, [20], ...common);
    directory.push(packed(CENTRAL, [20], [20], ...common, [0], [0], [0], 0, offset), unique);
    pieces.push(head, unique, blob);
    offset += head.byteLength + unique.length + blob.size;
  }
  const size = directory.reduce((sum, piece) => sum + piece.byteLength, 0);
  if (offset + size > LIMIT || files.length > 0xfffe) throw new Error("Too large for one ZIP.");
  const count = [files.length];
  return new Blob([...pieces, ...directory, packed(END, [0], [0], count, count, size, offset, [0])],
    { type: "application/zip" });
}

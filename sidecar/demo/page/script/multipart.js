// multipart/related (RFC 2387) as DICOMweb sends it (PS3.18 8.6.1).

const ascii = new TextDecoder("ascii");
const encoder = new TextEncoder();

function find(bytes, wanted, from) {
  const first = wanted[0];
  for (let at = bytes.indexOf(first, from); at !== -1; at = bytes.indexOf(first, at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}

function boundaryOf(contentType) {
  const match = /;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType);
  if (!match) throw new Error("The answer is no multipart.");
  return match[1] ?? match[2];
}

const headersOf = (text) => Object.fromEntries(text.split("\r\n").filter(Boolean).map((line) => {
  const colon = line.indexOf(":");
  return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
}));

/** Return the parts of a body, each with its headers and bytes. Throws if the body is cut. */
export function parts(body, contentType) {
  const bytes = new Uint8Array(body);
  const delimiter = encoder.encode(`\r\n--${boundaryOf(contentType)}`);
  const blank = encoder.encode("\r\n\r\n");
  // The first delimiter may stand at the very beginning, without its line break.
  let at = find(bytes, delimiter.subarray(2), 0);
  if (at === -1) throw new Error("The answer has no part.");
  at += delimiter.length - 2;
  const found = [];
  while (!(bytes[at] === 45 && bytes[at + 1] === 45)) {
    const head = find(bytes, blank, at);
    if (head === -1) throw new Error("The answer breaks off.");
    const headers = headersOf(ascii.decode(bytes.subarray(at, head)));
    const begin = head + blank.length;
    const length = Number.parseInt(headers["content-length"], 10);
    const end = find(bytes, delimiter, Number.isNaN(length) ? begin : begin + length);
    if (end === -1) throw new Error("The answer breaks off.");
    found.push({ headers, bytes: bytes.subarray(begin, end) });
    at = end + delimiter.length;
  }
  return found;
}

/** Return the bytes of an answer of one part, in a multipart or alone. */
export async function onePart(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const body = await response.arrayBuffer();
  return /^multipart\//i.test(type) ? parts(body, type)[0].bytes : new Uint8Array(body);
}

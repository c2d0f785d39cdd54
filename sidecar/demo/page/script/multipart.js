// multipart/related (RFC 2387) as DICOMweb sends it (PS3.18 8.6.1).

const ascii = new TextDecoder("ascii");
const encoder = new TextEncoder();

/** Return where a text begins. Throws if it is not there: the body was cut. */
function find(bytes, text, from = 0) {
  const wanted = encoder.encode(text);
  for (let at = bytes.indexOf(wanted[0], from); at !== -1; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  throw new Error("The answer breaks off.");
}

function boundaryOf(contentType) {
  const match = /;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType);
  if (!match) throw new Error("The answer is no multipart.");
  return match[1] ?? match[2];
}

/** Return the bytes of an answer, or of the first part of its multipart. Throws if it is cut. */
export async function onePart(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (!/^multipart\//i.test(type)) return bytes;
  const delimiter = `--${boundaryOf(type)}`;
  const head = find(bytes, delimiter);
  const begin = find(bytes, "\r\n\r\n", head) + 4;
  const length = /^content-length:\s*(\d+)/im.exec(ascii.decode(bytes.subarray(head, begin)));
  return bytes.subarray(begin, find(bytes, `\r\n${delimiter}`, begin + Number(length?.[1] ?? 0)));
}

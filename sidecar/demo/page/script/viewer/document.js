// An encapsulated document (PS3.3 A.45.1): a PDF, which opens beside the page.

import { el } from "../dom.js";
import { Problem, withToken } from "../http.js";
import { onePart } from "../multipart.js";

const RAW = 'multipart/related; type="application/octet-stream", application/octet-stream;q=0.5';

async function bytesOf({ url, inline }) {
  if (inline !== null) return Uint8Array.from(atob(inline), (letter) => letter.charCodeAt(0));
  const { response } = await withToken(url, RAW);
  return onePart(response);
}

/** Return links that open and save a document. Throws a Problem if it is no PDF. */
export async function documentView(document) {
  const bytes = await bytesOf(document);
  const content = bytes.subarray(0, document.length ?? bytes.length);
  const isPdf = document.mediaType === "application/pdf" &&
    new TextDecoder("ascii").decode(content.subarray(0, 5)) === "%PDF-";
  if (!isPdf) throw new Problem("This document is no PDF, so the page does not open it.");
  const url = URL.createObjectURL(new Blob([content], { type: "application/pdf" }));
  return el("div", { class: "document" },
    el("p", {}, el("strong", {}, document.title)),
    el("p", { class: "quiet" }, `PDF, ${Math.ceil(content.length / 1_000)} kB`),
    el("p", { class: "buttons" },
      el("a", { class: "button primary", href: url, target: "_blank", rel: "noopener" },
        "Open the document"),
      el("a", { class: "button", href: url, download: "document.pdf" }, "Save it")));
}

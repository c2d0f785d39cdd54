// Thumbnails of series. A link cannot send the token, so they are fetched and kept as blob: URLs.

import { el, modalityName } from "./dom.js";
import { whenReady, withToken } from "./http.js";
import { sessions, session } from "./session.js";

const kept = new Map();

sessions.addEventListener("change", () => {
  if (session.token !== null) return;
  for (const url of kept.values()) URL.revokeObjectURL(url);
  kept.clear();
});

/** Return the blob: URL of a series' thumbnail. Throws a Problem. */
export async function thumbnail(study, series, onWait = null) {
  if (!kept.has(series.uid)) {
    const url = `${study.root}/series/${series.uid}/thumbnail?viewport=256,256`;
    const { response } = await whenReady(() => withToken(url, "image/jpeg, image/png"), onWait);
    kept.set(series.uid, URL.createObjectURL(await response.blob()));
  }
  return kept.get(series.uid);
}

const NO_PICTURE = ["DOC", "SR", "PR", "RTPLAN", "RTSTRUCT", "KO"];

/** Say whether a series can have a picture at all. */
export const isPictured = ({ modality }) => !NO_PICTURE.includes(modality);

/** Return a picture of a fixed size with the modality in it until the thumbnail is there. */
export function picture(study, series) {
  const box = el("span", { class: "picture", aria: { hidden: "true" } },
    el("span", {}, series ? series.modality : "?"));
  const load = async (onWait) => {
    if (!series || !isPictured(series)) return;
    const url = await thumbnail(study, series, onWait);
    box.replaceChildren(el("img", { src: url, alt: "", title: modalityName(series.modality) }));
  };
  return { box, load };
}

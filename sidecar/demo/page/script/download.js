// The page "Download": choose a study, fetch it with progress, save it.

import { attempt, button, byId, bytes, day, el, modalityName, say } from "./dom.js";
import { studies } from "./studies.js";
import { Transfer } from "./transfer.js";
import { writeZip } from "./zip.js";

const KEEP_URL_MS = 60_000;

let transfer = null;
let folder = null;

const canSaveFiles = () => "showDirectoryPicker" in window;

/** Save a Blob under a name. */
function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEEP_URL_MS);
}

/** Write files into the chosen folder, in folders of their series. */
async function writeFiles(files) {
  for (const { name, blob } of files) {
    const steps = name.split("/");
    let place = folder;
    for (const step of steps.slice(0, -1)) {
      place = await place.getDirectoryHandle(step, { create: true });
    }
    const file = await place.getFileHandle(steps.at(-1), { create: true });
    await blob.stream().pipeTo(await file.createWritable());
  }
}

/** Begin anew, or resume. */
async function start() {
  if (transfer.isDone || !transfer.isBegun) {
    const form = document.querySelector("input[name=form]:checked").value;
    folder = form === "files" ? await window.showDirectoryPicker({ mode: "readwrite" }) : null;
    transfer = new Transfer(transfer.study, drawProgress, folder && writeFiles);
  }
  const running = transfer;
  say("The download has begun.");
  await running.run();
  if (transfer !== running) return;
  const { files, study } = running;
  if (folder === null) save(writeZip(files), `study-${study.started?.slice(0, 10)}.zip`);
  say(`Saved: ${running.verified} files, ${bytes(running.bytes)}, all verified.`);
}

async function startOrSay() {
  await attempt(start);
  drawProgress();
}

function cancel() {
  transfer.cancel();
  say("Cancelled. Resume goes on with the series that are missing.");
}

const LABELS = { waiting: "waiting", running: "coming", done: "verified", failed: "failed" };

function row({ series, state, bytes: received, verified }) {
  return el("tr", { data: { state } },
    el("th", { scope: "row" }, series.description || modalityName(series.modality)),
    el("td", {}, `${verified} of ${series.count ?? "?"}`),
    el("td", {}, bytes(received)),
    el("td", {}, el("span", { class: `badge ${state === "done" ? "good" : "wait"}` },
      LABELS[state] ?? state)));
}

function drawProgress() {
  if (transfer === null) return;  // Somebody has logged out.
  const { parts, expected, verified, bytes: received, isRunning } = transfer;
  byId("progress").max = Math.max(1, expected);
  byId("progress").value = verified;
  byId("progress-text").textContent =
    `${bytes(received)}, ${verified} of ${expected} instances verified`;
  byId("download-rows").replaceChildren(...parts.map(row));
  const isPartial = !transfer.isDone && verified + received > 0;
  byId("start").textContent = isPartial ? "Resume" : "Download";
  byId("start").disabled = isRunning;
  byId("cancel").disabled = !isRunning;
}

function choice() {
  const select = el("select", { id: "download-study", onchange: () => choose(select.value) },
    studies.list.map((study) => el("option",
      { value: study.uid, selected: study.uid === transfer.study.uid },
      `${study.description}, ${day(study.started)}`)));
  return el("label", { class: "field" }, el("span", {}, "Study"), select);
}

function forms() {
  const radio = (value, label, more) => el("label", {},
    el("input", { type: "radio", name: "form", value, ...more }), el("span", {}, label));
  const hint = canSaveFiles() ? null
    : el("p", { class: "quiet" }, "This browser does not let a page write into a folder.");
  return [el("fieldset", { class: "tools" }, el("legend", {}, "Save as"),
    radio("zip", "One ZIP", { checked: true }),
    radio("files", "DICOM files in a folder", { disabled: !canSaveFiles() })), hint];
}

/** Take another study, or the first one where that is not listed. */
function choose(uid) {
  const study = studies.list.find((one) => one.uid === uid) ?? studies.list[0];
  if (transfer?.study.uid !== study?.uid) {
    transfer?.cancel();
    transfer = study ? new Transfer(study, drawProgress) : null;
  }
  if (byId("progress")) drawProgress();
}

/** Show the page, with a study chosen. */
export function showDownload(study = transfer?.study) {
  byId("download").replaceChildren();
  choose(study?.uid);
  if (transfer === null) {
    byId("download").append(el("p", {}, "There is no study to download."));
    return;
  }
  byId("download").replaceChildren(
    el("div", { class: "panel" }, choice(), ...forms().filter(Boolean),
      el("p", { class: "buttons" },
        button("Download", startOrSay, { id: "start", class: "primary" }),
        button("Cancel", cancel, { id: "cancel" })),
      el("progress", { id: "progress", aria: { labelledby: "progress-text" } }),
      el("p", { id: "progress-text" })),
    el("div", { class: "scroll", tabindex: "0", role: "region", aria: { label: "Series" } },
      el("table", {},
        el("thead", {}, el("tr", {}, ["Series", "Verified", "Size", "State"].map((title) =>
          el("th", { scope: "col" }, title)))),
        el("tbody", { id: "download-rows" }))));
  drawProgress();
}

/** Stop, and forget what has come. */
export function clearDownload() {
  transfer?.cancel();
  transfer = folder = null;
  byId("download").replaceChildren();
}

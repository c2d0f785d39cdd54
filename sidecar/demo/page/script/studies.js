// The page "Studies": a card for each study, also for one that opens later.

import { button, byId, day, el, modalityName, plural, say } from "./dom.js";
import { searchStudies } from "./fhir.js";
import { readGuide } from "./guide.js";
import { session } from "./session.js";
import { isPictured, picture } from "./thumbnails.js";

const AGAIN_SECONDS = 5;

/** What the other pages work with. */
export const studies = { list: [], guide: [] };

let timers = [];
let open = () => {};
let download = () => {};

/** Say what the buttons of a card do. */
export function onChoice(actions) {
  ({ open, download } = actions);
}

/** Forget all cards. */
export function clearStudies() {
  timers.forEach(clearInterval);
  timers = [];
  studies.list = [];
  byId("cards").replaceChildren();
}

/** Ask for the studies and show them. */
export async function loadStudies() {
  const [list, guide] = await Promise.all([
    searchStudies(), readGuide().catch(() => studies.guide),
  ]);
  clearStudies();
  Object.assign(studies, { list, guide });
  const found = new Set(list.map(({ uid }) => uid));
  const later = guide.filter(({ patient, study, opens_at: opensAt }) =>
    patient === session.patient && opensAt && !found.has(study));
  byId("cards").replaceChildren(...list.map(card), ...later.map(closedCard));
  say(`${plural(list.length, "study", "studies")} of ${session.name || session.patient}.`);
}

const guided = ({ uid }) => studies.guide.find(({ study }) => study === uid);

function hiddenNote(study) {
  const known = guided(study)?.series ?? [];
  const hidden = known.filter((series) => series.hidden).length;
  if (!hidden) return null;
  return el("p", { class: "note" }, el("span", { class: "badge wait" }, "withheld"),
    ` ${hidden} of its ${known.length} series.`);
}

function slowNote(study) {
  const seconds = guided(study)?.tape_seconds;
  if (!seconds) return null;
  return el("p", { class: "note" }, el("span", { class: "badge wait" }, "on tape"),
    ` The archive fetches it in some ${seconds} seconds.`);
}

function card(study) {
  const pictured = study.series.find(isPictured) ?? study.series[0];
  const { box, load } = picture(study, pictured);
  const wait = el("p", { class: "note waiting", hidden: true });
  load((left) => {
    wait.hidden = false;
    wait.textContent = `Not there yet (503). Asking again in ${left} s.`;
  }).then(() => {
    if (wait.hidden) return;
    wait.textContent = "Now it is there.";
    // Elsewhere the line is about what is done there: a download that was saved, a refusal.
    if (!byId("page-studies").hidden) say(`${study.description} has come from the archive.`);
  }).catch((problem) => {
    wait.hidden = problem.exchange?.status === 406;  // It has no image, which is no fault.
    wait.textContent = problem.message;
  });
  const kinds = [...new Set(study.modalities.map(modalityName))].join(", ");
  const note = guided(study)?.note;
  return el("li", { class: "card", data: { study: study.uid } },
    box,
    el("div", { class: "words" },
      el("h2", {}, study.description),
      el("p", { class: "quiet" }, `${kinds} · ${day(study.started)}`),
      el("p", { class: "quiet" }, `${plural(study.seriesCount, "series", "series")}, ${
        plural(study.instanceCount, "file")}`),
      note ? el("p", { class: "note" }, note) : null,
      slowNote(study), hiddenNote(study), wait,
      el("p", { class: "buttons" },
        button("View", () => open(study), {
          class: "primary", aria: { label: `View ${study.description}` },
        }),
        button("Download", () => download(study), {
          aria: { label: `Download ${study.description}` },
        }))));
}

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

function closedCard(study) {
  const opens = new Date(study.opens_at);
  const left = el("span", { class: "countdown" });
  const timer = setInterval(tick, 1_000);
  let late = 0;
  timers.push(timer);
  function tick() {
    const seconds = Math.ceil((opens - Date.now()) / 1_000);
    if (seconds > 0) {
      left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    } else {
      left.textContent = "any moment now";
      late += 1;
      if (late % AGAIN_SECONDS === 0) loadStudies().catch((problem) => say(problem.message, true));
    }
  }
  tick();
  return el("li", { class: "card closed", data: { study: study.study } },
    el("span", { class: "picture", aria: { hidden: "true" } }, el("span", {}, "Not yet")),
    el("div", { class: "words" },
      el("h2", {}, study.title),
      el("p", { class: "note" }, el("span", { class: "badge wait" }, "not yet"),
        ` Your doctor sees it first. It opens at ${clock.format(opens)}, in `, left, "."),
      el("p", { class: "quiet" }, "Until then the server answers as if it did not exist. This page "
        + "knows of it from the demo’s own guide.")));
}

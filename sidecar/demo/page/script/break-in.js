// The page "Break in": a button for each attempt, and the refusal that it got.

import { ATTACKS } from "./attacks.js";
import { attempt, button, byId, el, say } from "./dom.js";
import { badge, exchangeView, why } from "./exchanges.js";
import { readAttacks } from "./guide.js";
import { readJson, send } from "./http.js";
import { session } from "./session.js";
import { studies } from "./studies.js";

const outcomes = new Map();

/** Return what the attempts are made of. */
async function context() {
  const { patient, token, imaging } = session;
  const given = await readAttacks(patient);
  const studiesOf = (one) => `${imaging}/Patient/${one}/$wado-rs/studies`;
  const own = studies.list[0];
  return {
    patient, token, own, isCapability: own.root.includes("/capability/"),
    search: `${imaging}/ImagingStudy?patient=`, mine: studiesOf(patient),
    theirs: studiesOf(given.other_patient), other: given.other_patient, study: given.other_study,
    series: given.other_series, instance: given.other_instance, keys: given.tokens,
    ended: given.expired_capability,
  };
}

/** Judge an answer: a refusal is good, a success is a leak, a failure says nothing. */
function judge(status) {
  if (status >= 400 && status < 500) return "refused";
  return status < 400 ? "leak" : "unclear";
}

const VERDICTS = {
  refused: ["good", "Refused, as it should be"], leak: ["bad", "A leak: the server answered"],
  unclear: ["wait", "No clear answer"],
};

async function run({ title, ask, place }, given) {
  const asked = ask(given);
  if (!asked) {
    place.dataset.outcome = "skipped";
    place.querySelector(".result").replaceChildren(el("p", {}, "Not possible with this server."));
    return;
  }
  const { url, accept, method, token = session.token } = asked;
  const { response, exchange } = await send(url, { method, token, headers: { Accept: accept } });
  const isText = /json/.test(response.headers.get("Content-Type") ?? "");
  const outcome = isText ? await readJson(response, exchange) : null;
  if (!isText) await response.body?.cancel();
  const verdict = judge(response.status);
  const [kind, said] = VERDICTS[verdict];
  outcomes.set(title, verdict);
  place.dataset.outcome = verdict;
  place.querySelector(".result").replaceChildren(
    el("p", {}, badge(response.status, kind), ` ${said}. `,
      el("span", { class: "quiet" }, outcome?.issue?.[0]?.diagnostics ?? "")),
    why(exchange), exchangeView(exchange));
}

function card([title, text, ask]) {
  const made = { title, ask, place: el("li", { class: "attack" }) };
  made.place.append(
    el("h2", {}, title), el("p", {}, text),
    button("Try it", async () => run(made, await context()),
      { class: "small", aria: { label: `Try it: ${title}` } }),
    el("div", { class: "result" }));
  return made;
}

/** Show first that what the attacks ask for exists: its owner's key opens it. */
async function control({ theirs, study, keys }) {
  const { response, exchange } = await send(`${theirs}/${study}/series?limit=1`, {
    token: keys.other_patient, headers: { Accept: "application/dicom+json" },
  });
  await readJson(response, exchange);
  byId("control").replaceChildren(el("p", {}, badge(response.status), response.ok
    ? " The study exists: the other patient’s own key opens it."
    : " The other patient’s own key does not open the study, so the attempts prove little."));
}

async function tryAll(cards) {
  const given = await context();
  await control(given);
  for (const one of cards) await attempt(() => run(one, given));
  const count = (verdict) => [...outcomes.values()].filter((one) => one === verdict).length;
  say(`${count("refused")} attempts were refused, ${count("leak")} leaked, ${
    count("unclear")} had no clear answer.`, count("leak") > 0);
}

/** Show the page. */
export function showBreakIn() {
  if (byId("break-in").children.length > 0) return;
  outcomes.clear();
  const cards = ATTACKS.map(card);
  byId("break-in").replaceChildren(
    el("p", { class: "buttons" }, button("Try all of them", () => tryAll(cards),
      { id: "try-all", class: "primary" })),
    el("div", { id: "control" }),
    el("ul", { class: "attacks" }, cards.map(({ place }) => place)));
}

/** Forget all outcomes. */
export function clearBreakIn() {
  byId("break-in").replaceChildren();
}

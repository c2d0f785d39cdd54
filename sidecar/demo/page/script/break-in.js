// The page "Break in": a button for each attempt, and the refusal that it got.

import { ATTACKS } from "./attacks.js";
import { attempt, button, byId, el, say } from "./dom.js";
import { badge, exchangeView, why } from "./exchanges.js";
import { readAttacks } from "./guide.js";
import { readJson, send } from "./http.js";
import { session } from "./session.js";
import { studies } from "./studies.js";

const outcomes = new Map();

async function context() {
  const target = await readAttacks(session.patient);
  return {
    target, own: studies.list[0], patient: session.patient, imaging: session.imaging,
    token: session.token,
  };
}

/** Judge an answer: a refusal is good, a success is a leak, a failure says nothing. */
function judge(status) {
  if (status >= 400 && status < 500) return "refused";
  return status < 400 ? "leak" : "unclear";
}

const SAID = {
  refused: "Refused, as it should be", leak: "A leak: the server answered",
  unclear: "No clear answer",
};

async function run(attack, place, given) {
  const asked = attack.ask(given);
  if (!asked || asked.token === undefined && "token" in asked) {
    place.dataset.outcome = "skipped";
    place.querySelector(".result").replaceChildren(el("p", {}, "Not possible with this server."));
    return;
  }
  const token = asked.token === undefined ? session.token : asked.token;
  const { response, exchange } = await send(asked.url, {
    method: asked.method, token, headers: { Accept: asked.accept },
  });
  const isText = /json/.test(response.headers.get("Content-Type") ?? "");
  const outcome = isText ? await readJson(response, exchange) : null;
  if (!isText) await response.body?.cancel();
  const verdict = judge(response.status);
  outcomes.set(attack, verdict);
  place.dataset.outcome = verdict;
  place.querySelector(".result").replaceChildren(
    el("p", {}, badge(response.status), ` ${SAID[verdict]}. `,
      el("span", { class: "quiet" }, outcome?.issue?.[0]?.diagnostics ?? "")),
    why(exchange), exchangeView(exchange));
}

function card(attack) {
  const place = el("li", { class: "attack" });
  const start = async () => run(attack, place, await context());
  place.append(
    el("h2", {}, attack.title), el("p", {}, attack.text),
    button("Try it", start, { class: "small", aria: { label: `Try it: ${attack.title}` } }),
    el("div", { class: "result" }));
  return { attack, place };
}

/** Show first that what the attacks ask for exists: its owner's key opens it. */
async function control({ target, imaging }) {
  const root = `${imaging}/Patient/${target.other_patient}/$wado-rs`;
  const url = `${root}/studies/${target.other_study}/series?limit=1`;
  const { response, exchange } = await send(url, {
    token: target.tokens.other_patient, headers: { Accept: "application/dicom+json" },
  });
  await readJson(response, exchange);
  byId("control").replaceChildren(el("p", {}, badge(response.status), response.ok
    ? " The study exists: the other patient’s own key opens it."
    : " The other patient’s own key does not open the study, so the attempts prove little."));
}

async function tryAll(cards) {
  const given = await context();
  await control(given);
  for (const { attack, place } of cards) await attempt(() => run(attack, place, given));
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

// The page "Journey": the four steps of the login, and the time line of all requests.

import { button, byId, el, say } from "./dom.js";
import { copy, exchangeView } from "./exchanges.js";
import { clearJournal, exchanges, journal, MAXIMUM_EXCHANGES } from "./journal.js";
import { logIn } from "./login.js";
import { EHR, forget, session, sessions } from "./session.js";

const STEPS = [
  {
    title: "Find the EHR",
    text: "The app asks the hospital’s record system (the EHR) two things: where do patients log "
      + "in, and where are the images? It needs to know one address alone.",
  },
  {
    title: "Log in, with a secret kept back",
    text: "Your browser goes to the EHR. The app keeps a random secret and sends its fingerprint. "
      + "Who steals the answer on its way cannot use it without the secret. This is called PKCE.",
  },
  {
    title: "Say yes or no",
    text: "The EHR asks you whose data the app may see, and for what. It sends you back with a "
      + "code that is good once, for a minute.",
  },
  {
    title: "Get the key",
    text: "The app changes the code and its secret for an access token. That key names one "
      + "patient. The imaging server checks it each time, and opens that patient’s images only.",
  },
];

function stateOf(number) {
  const own = exchanges.filter((exchange) => exchange.step === number);
  const last = own.at(-1);
  if (last && last.status !== "visited" && !(last.status < 400)) return "failed";
  if (own.length > 0) return "done";
  const isNext = number === 1 || exchanges.some((exchange) => exchange.step === number - 1);
  return isNext ? "next" : "waiting";
}

const SAID = { failed: "Not completed", done: "Done", next: "Next", waiting: "Not yet" };

function token() {
  const minutes = Math.max(0, Math.round((session.expiresAt - Date.now()) / 60_000));
  return el("div", {},
    el("dl", { class: "facts" },
      el("dt", {}, "Patient"), el("dd", {}, el("code", {}, session.patient)),
      el("dt", {}, "Allowed"), el("dd", {}, el("code", {}, session.scope)),
      el("dt", {}, "Good for"), el("dd", {}, `${minutes} minutes`),
      el("dt", {}, "Images at"), el("dd", {}, el("code", {}, session.imaging))),
    el("p", {},
      button("Copy the token as TOKEN=…", () => copy(`TOKEN='${session.token}'`, "The token"),
        { class: "small" }), " ",
      el("span", { class: "quiet" }, "The curl commands of this page use it.")));
}

function actions(number) {
  if (number === 1 && session.token === null) {
    return el("p", {}, button("Log in at the demo EHR", logIn, { id: "log-in", class: "primary" }),
      " ", el("span", { class: "quiet" }, el("code", {}, EHR)));
  }
  return number === 4 && session.token !== null ? token() : null;
}

function stepView({ title, text }, index) {
  const number = index + 1;
  const state = stateOf(number);
  const own = exchanges.filter((exchange) => exchange.step === number);
  return el("li", { class: `step ${state}` },
    el("h2", {}, `${title} `, el("span", { class: "state" }, SAID[state])),
    el("p", {}, text), actions(number), own.map(exchangeView));
}

const shown = new Map();

function addToTimeline(exchange) {
  const item = el("li", {}, exchangeView(exchange));
  const before = shown.get(exchange);
  if (before) {
    if (before.querySelector("details").open) return;
    before.replaceWith(item);
  } else byId("timeline").prepend(item);
  shown.set(exchange, item);
  if (shown.size > MAXIMUM_EXCHANGES) {
    const [oldest, last] = shown.entries().next().value;
    last.remove();
    shown.delete(oldest);
  }
  byId("timeline-empty").hidden = true;
}

function drawTimeline() {
  shown.clear();
  byId("timeline").replaceChildren();
  byId("timeline-empty").hidden = false;
  exchanges.forEach(addToTimeline);
}

function draw() {
  byId("steps").replaceChildren(...STEPS.map(stepView));
}

function logOut() {
  forget();
  clearJournal();
  say("The token is forgotten.");
}

function drawPerson() {
  const person = byId("person");
  if (session.token === null) {
    person.replaceChildren(el("span", { class: "quiet" }, "Not logged in"));
    return;
  }
  person.replaceChildren(el("span", {}, session.name || session.patient),
    button("Log out", logOut, { id: "log-out", class: "small" }));
}

/** Begin to show what happens. */
export function startJourney() {
  draw();
  drawPerson();
  journal.addEventListener("change", ({ detail }) => {
    if (detail === null) drawTimeline();
    else addToTimeline(detail);
    if (detail === null || detail.step !== null) draw();
  });
  sessions.addEventListener("change", () => {
    draw();
    drawPerson();
  });
}

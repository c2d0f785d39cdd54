// How an exchange looks: one line, which opens to the request, the answer, and the reason.

import { button, el, say } from "./dom.js";
import { explain } from "./guide.js";
import { asCurl } from "./journal.js";

const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

const kindOf = (status) =>
  (status === 503 ? "wait" : status === "visited" || status < 400 ? "good" : "refused");

/** Return a badge for a status. */
export const badge = (status, kind = kindOf(status)) =>
  el("span", { class: `badge ${kind}` }, String(status));

function path(exchange) {
  const url = new URL(exchange.url, location.href);
  const text = exchange.url.slice(url.origin.length);
  return exchange.isOurs ? text : `${url.host}${text}`;
}

/** Copy text; without a secure context the browser has no clipboard for scripts. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} is on the clipboard.`);
  } catch {
    const area = el("textarea", { class: "offscreen", aria: { label: what } }, text);
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    say(isCopied ? `${what} is on the clipboard.` : "This browser does not let a page copy.",
      !isCopied);
  }
}

/** Return the reason for an answer, which comes a moment later. */
export function why(exchange) {
  const place = el("div", { class: "why" });
  explain(exchange).then((decision) => {
    if (decision) place.replaceChildren(...reasonOf(decision));
    else if (!exchange.isOurs) place.replaceChildren(el("p", {}, "This is the EHR’s answer."));
  });
  return place;
}

function reasonOf(decision) {
  const title = {
    permitted: "Why was this permitted?", refused: "Why was this refused?",
    waiting: "Why the wait?",
  }[decision.outcome] ?? "What happened?";
  return [
    el("p", {}, el("strong", {}, title), " ", decision.why ?? "",
      decision.reason ? [" ", el("code", { class: "reason" }, decision.reason)] : null),
    decision.requirements?.length ? el("ul", { class: "requirements" },
      decision.requirements.map(({ id, text }) => el("li", {}, el("code", {}, id), ` ${text}`)))
      : null,
  ].filter(Boolean);
}

const lines = (headers) =>
  Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join("\n");

const code = (label, text) =>
  el("pre", { tabindex: "0", role: "group", aria: { label } }, text);

function body(exchange) {
  const asked = [
    `${exchange.method} ${exchange.url}`, lines(exchange.headers),
    exchange.form && `\n${exchange.form}`,
  ].filter(Boolean).join("\n");
  const answered = [
    `${exchange.status}${exchange.ms === null ? "" : ` after ${exchange.ms} ms`}`,
    lines(exchange.answerHeaders), exchange.preview && `\n${exchange.preview}`,
  ].filter(Boolean).join("\n");
  return [
    why(exchange),
    el("p", { class: "label" }, "Request"), code("Request", asked),
    el("p", { class: "label" }, "Answer"), code("Answer", answered),
    exchange.status === "visited" ? null
      : button("Copy as curl", () => copy(asCurl(exchange), "The command"), { class: "small" }),
  ].filter(Boolean);
}

/** Return an exchange as a disclosure; its inside is made when it is opened. */
export function exchangeView(exchange) {
  const count = exchange.count > 1 ? el("span", { class: "count" }, `× ${exchange.count}`) : null;
  const view = el("details", { class: "exchange" },
    el("summary", {},
      el("time", { datetime: new Date(exchange.at).toISOString() }, time.format(exchange.at)),
      el("span", { class: "method" }, exchange.method),
      el("span", { class: "path" }, path(exchange)), count, badge(exchange.status)));
  view.addEventListener("toggle", () => {
    if (view.open && view.children.length === 1) {
      view.append(el("div", { class: "inside" }, body(exchange)));
    }
  });
  return view;
}

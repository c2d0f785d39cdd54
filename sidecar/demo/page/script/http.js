// Requests: each is recorded, none is cached, none has a referrer.

import { mask, maskUrl, preview, previewForm, record, withoutSecrets } from "./journal.js";
import { session } from "./session.js";

const SHOWN_HEADERS = [
  "Content-Type", "Content-Length", "Retry-After", "WWW-Authenticate", "Warning", "X-Request-Id",
];
const MAXIMUM_WAIT_SECONDS = 120;

/** A refusal or a failure, in words for a person. */
export class Problem extends Error {
  constructor(message, exchange = null, retryAfter = null) {
    super(message);
    this.exchange = exchange;
    this.retryAfter = retryAfter;
  }
}

/** Return the exchange of a request that has no answer yet. */
export function began(url, { method = "GET", headers = {}, body = null, step = null, token = null,
  group = null }) {
  const shown = { ...headers };
  const isOurs = new URL(url, location.href).origin === location.origin;
  if (token !== null) shown.Authorization = `Bearer ${mask(token)}`;
  return {
    at: Date.now(), ms: null, step, method, url: maskUrl(url), headers: shown,
    form: body && previewForm(body), isOwnToken: token !== null && token === session.token,
    status: null, answerHeaders: {}, preview: null, isBinary: false, requestId: null, group,
    count: 1, isOurs, curlUrl: withoutSecrets(url),
  };
}

function ended(exchange, response) {
  exchange.status = response.status;
  exchange.ms = Date.now() - exchange.at;
  exchange.requestId = response.headers.get("X-Request-Id");
  for (const name of SHOWN_HEADERS) {
    const value = response.headers.get(name);
    if (value !== null) exchange.answerHeaders[name] = value;
  }
  const type = response.headers.get("Content-Type") ?? "";
  exchange.isBinary = response.ok && !/json/.test(type);
  if (exchange.isBinary) exchange.preview = `(${type.split(";")[0] || "no body"})`;
}

/** Send a request and record it. Returns the answer and its exchange, whatever its status. */
export async function send(url, options = {}) {
  const exchange = began(url, options);
  const { method = "GET", headers = {}, body = null, token = null, signal = null } = options;
  const sent = token === null ? headers : { ...headers, Authorization: `Bearer ${token}` };
  try {
    const response = await fetch(url, {
      method, headers: sent, body, signal, cache: "no-store", referrerPolicy: "no-referrer",
      credentials: "omit",
    });
    ended(exchange, response);
    return { response, exchange };
  } catch (problem) {
    exchange.status = problem.name === "AbortError" ? "cancelled" : "no answer";
    if (problem.name === "AbortError") throw problem;
    throw new Problem("The server cannot be reached. Is the demo still running?", exchange);
  } finally {
    record(exchange);
  }
}

/** Return the JSON of an answer, null if there is none; the exchange gets to show it. */
export async function readJson(response, exchange) {
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
    exchange.preview = text ? preview(value) : "(no body)";
  } catch {
    exchange.preview = text.slice(0, 500);
  }
  record(exchange);
  return value;
}

async function problemOf(response, exchange) {
  const outcome = await readJson(response, exchange) ?? {};
  const said = outcome.issue?.[0]?.diagnostics ?? outcome.error_description ?? outcome.error;
  const wait = Number.parseInt(response.headers.get("Retry-After"), 10);
  return new Problem(said ?? `The server answered ${response.status}.`, exchange,
    response.status === 503 && wait >= 0 ? wait : null);
}

/** Send a request whose answer must be a success. Returns the answer and its exchange. */
export async function request(url, options) {
  const { response, exchange } = await send(url, options);
  if (!response.ok) throw await problemOf(response, exchange);
  return { response, exchange };
}

/** Return the JSON of a successful answer. */
export async function json(url, options) {
  const { response, exchange } = await request(url, options);
  return readJson(response, exchange);
}

/** Send a request with our token, which goes to the imaging server alone. */
export function withToken(url, accept, options = {}) {
  if (session.token === null) throw new Problem("Log in first.");
  if (new URL(url).origin !== new URL(session.imaging).origin) {
    throw new Problem("That address is not on the imaging server, so the token stays here.");
  }
  return request(url, { ...options, token: session.token, headers: { Accept: accept } });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1_000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    }, { once: true });
  });
}

/**
 * Run an action again while it answers 503 with Retry-After, two minutes at most.
 * `onWait` gets the seconds left, each second.
 */
export async function whenReady(action, onWait, signal = null) {
  const end = Date.now() + MAXIMUM_WAIT_SECONDS * 1_000;
  for (;;) {
    try {
      return await action();
    } catch (problem) {
      if (!(problem instanceof Problem) || problem.retryAfter === null || Date.now() > end) {
        throw problem;
      }
      for (let left = Math.max(1, problem.retryAfter); left > 0; left--) {
        onWait?.(left);
        await pause(1, signal);
      }
    }
  }
}

// Every request that the page made, with its secrets masked, so that it can be shown and kept.

const SECRETS = new Set([
  "access_token", "refresh_token", "id_token", "code_verifier", "client_secret",
]);
// In a URL or a form a code logs somebody in. In FHIR's JSON it is a word such as "forbidden".
const SENT_SECRETS = new Set([...SECRETS, "code"]);
const PREVIEW_CHARACTERS = 6_000;
export const MAXIMUM_EXCHANGES = 300;

export const journal = new EventTarget();
export const exchanges = [];

let cleared = 0;

export const mask = (secret) => `••••• (${String(secret).length} characters)`;

/** Return a URL whose parameters have no secret. */
export function withoutSecrets(text) {
  const url = new URL(text, location.href);
  for (const key of url.searchParams.keys()) {
    if (SENT_SECRETS.has(key)) url.searchParams.set(key, "•••••");
  }
  return url.href;
}

/** Return a URL as a person may see it: a capability in its path is a secret, too. */
export function maskUrl(text) {
  const url = new URL(withoutSecrets(text));
  url.pathname = url.pathname.replace(/^\/capability\/([^/]{6})[^/]*/, "/capability/$1…");
  return url.href.replaceAll("%E2%80%A6", "…").replaceAll("%E2%80%A2", "•");
}

const masked = (key, value, secrets = SECRETS) =>
  (secrets.has(key) && typeof value === "string" ? mask(value) : value);

/** Return JSON as indented text, without its secrets, shortened. */
export function preview(value) {
  const text = JSON.stringify(value, (key, part) => masked(key, part), 2)
    .replace(/\/capability\/([^/"]{6})[^/"]*/g, "/capability/$1…");
  if (text.length <= PREVIEW_CHARACTERS) return text;
  return `${text.slice(0, PREVIEW_CHARACTERS)}\n… (${text.length} characters in all)`;
}

/** Return form fields, one on a line, without their secrets. */
export const previewForm = (fields) =>
  [...fields].map(([key, value]) => `${key}=${masked(key, value, SENT_SECRETS)}`).join("\n");

/**
 * Add an exchange, or say that one has changed. Successes of the same group, such as the frames
 * of a series, are counted as one entry.
 */
export function record(exchange) {
  if (exchange.at <= cleared) return;  // It ended late: nobody is to see it any more.
  const first = exchange.group !== null && exchange.status < 300 &&
    exchanges.find((earlier) => earlier.group === exchange.group && earlier.status < 300);
  if (first && first !== exchange) {
    first.count += 1;
    journal.dispatchEvent(new CustomEvent("change", { detail: first }));
    return;
  }
  if (!exchanges.includes(exchange)) {
    exchanges.push(exchange);
    if (exchanges.length > MAXIMUM_EXCHANGES) exchanges.shift();
  }
  journal.dispatchEvent(new CustomEvent("change", { detail: exchange }));
}

/** Take over what was recorded before the browser went to the EHR and back. */
export function restore(earlier) {
  exchanges.unshift(...earlier);
  journal.dispatchEvent(new CustomEvent("change", { detail: null }));
}

/** Forget all exchanges: they have the names and studies of whoever was logged in. */
export function clearJournal() {
  cleared = Date.now();
  exchanges.length = 0;
  journal.dispatchEvent(new CustomEvent("change", { detail: null }));
}

/** Write the exchange as a curl command, in which $TOKEN stands for the access token. */
export function asCurl(exchange) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl -sS -i"];
  if (exchange.method !== "GET") parts.push(`-X ${exchange.method}`);
  for (const [name, value] of Object.entries(exchange.headers)) {
    if (name !== "Authorization") parts.push(`-H ${quoted(`${name}: ${value}`)}`);
    else if (exchange.isOwnToken) parts.push('-H "Authorization: Bearer $TOKEN"');
    else parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  for (const line of exchange.form?.split("\n") ?? []) {
    parts.push(`--data-urlencode ${quoted(line)}`);
  }
  if (exchange.isBinary) parts.push("-o answer");
  return [...parts, quoted(exchange.curlUrl)].join(" \\\n  ");
}

// SMART App Launch 2.2, standalone, with PKCE: find the EHR, log in, be allowed, get a token.

import { began, json, Problem } from "./http.js";
import { exchanges, record, restore } from "./journal.js";
import { CLIENT_ID, EHR, REDIRECT_URI, session, update } from "./session.js";
import { sha256 } from "./sha256.js";

const SCOPE = "launch/patient patient/ImagingStudy.rs patient/Patient.r";
const PENDING = "pending-login";
const FHIR = "application/fhir+json";

const base64url = (bytes) => btoa(String.fromCharCode(...bytes))
  .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function challengeOf(verifier) {
  const bytes = new TextEncoder().encode(verifier);
  if (!crypto.subtle) return base64url(sha256(bytes));
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

/** Step 1: ask the EHR where to log in and where the images are. */
async function discover() {
  const smart = await json(`${EHR}/.well-known/smart-configuration`,
    { step: 1, headers: { Accept: "application/json" } });
  const imaging = (smart.associated_endpoints ?? [])
    .find((endpoint) => endpoint.capabilities.includes("smart-imaging-access"));
  if (!imaging) throw new Problem("This EHR names no imaging server.");
  return {
    authorize: smart.authorization_endpoint, token: smart.token_endpoint, imaging: imaging.url,
  };
}

/** Step 2: go to the EHR, with a challenge whose answer only this page knows. */
export async function logIn() {
  const endpoints = await discover();
  const pending = { state: random(), verifier: random(), endpoints };
  const target = new URL(endpoints.authorize);
  target.search = new URLSearchParams({
    response_type: "code", client_id: CLIENT_ID, redirect_uri: REDIRECT_URI, scope: SCOPE,
    state: pending.state, aud: EHR, code_challenge: await challengeOf(pending.verifier),
    code_challenge_method: "S256",
  });
  record(visit(2, target.href, "(the browser went to the EHR, which asks you to log in)"));
  pending.exchanges = exchanges;
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  location.assign(target);
}

/** Return an exchange that the browser had by itself: it went somewhere. */
function visit(step, url, preview) {
  return { ...began(url, { step }), status: "visited", preview, isOurs: false };
}

/** Steps 3 and 4, when the browser comes back from the EHR. Returns whether somebody logged in. */
export async function finishLogin() {
  const answer = new URLSearchParams(location.search);
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  sessionStorage.removeItem(PENDING);
  if (!answer.has("code") && !answer.has("error")) return false;
  const address = location.href;
  history.replaceState(null, "", "/");  // Remove the code from the address bar.
  if (!pending || answer.get("state") !== pending.state) {
    throw new Problem("That login was not begun here.");
  }
  restore(pending.exchanges);
  if (answer.has("error")) {
    record({ ...visit(3, address, "(the EHR said no)"), status: answer.get("error") });
    const why = answer.get("error_description") ?? "";
    throw new Problem(`Not logged in (${answer.get("error")}). ${why}`);
  }
  record(visit(3, address, "(the EHR sent the browser back with a code)"));
  await redeem(pending, answer.get("code"));
  return true;
}

/** Step 4: change the code for a token. Only who knows the verifier can. */
async function redeem({ endpoints, verifier }, code) {
  const granted = await json(endpoints.token, {
    step: 4, method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", code, redirect_uri: REDIRECT_URI, client_id: CLIENT_ID,
      code_verifier: verifier,
    }),
  });
  if (!granted.patient) {
    throw new Problem("No patient came with the token: launch/patient was not allowed.");
  }
  update({
    token: granted.access_token, patient: granted.patient, scope: granted.scope,
    imaging: endpoints.imaging, expiresAt: Date.now() + granted.expires_in * 1_000,
  });
  await readName();
}

/** Read the patient's name at the EHR, if that was allowed. */
async function readName() {
  if (!/(^| )patient\/(Patient|\*)\.(read|c?ru?d?s?)/.test(session.scope)) return;
  const patient = await json(`${EHR}/Patient/${encodeURIComponent(session.patient)}`,
    { headers: { Accept: FHIR }, token: session.token });
  const name = patient.name?.[0] ?? {};
  update({ name: name.text ?? [...(name.given ?? []), name.family].filter(Boolean).join(" ") });
}

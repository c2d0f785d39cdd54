// Who is logged in. The token is in this page's memory alone, so a reload forgets it.

const setting = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const EHR = setting("ehr-fhir-url");
export const CLIENT_ID = setting("client-id");
export const REDIRECT_URI = new URL("/", location.href).href;

export const session = {
  token: null, patient: null, name: null, scope: null, imaging: null, expiresAt: null,
};

export const sessions = new EventTarget();

/** Begin a session, or change a part of it. */
export function update(changes) {
  Object.assign(session, changes);
  sessions.dispatchEvent(new Event("change"));
}

/** Forget everything. */
export function forget() {
  update(Object.fromEntries(Object.keys(session).map((key) => [key, null])));
}

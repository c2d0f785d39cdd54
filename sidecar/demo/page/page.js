// A small SMART app. The token is in this page's memory alone, so a reload forgets it.

const setting = (name) => document.querySelector(`meta[name="${name}"]`).content;
const element = (id) => document.getElementById(id);
const EHR = setting("ehr-fhir-url");
const CLIENT_ID = setting("client-id");
const REDIRECT_URI = new URL("/", location.href).href;
const SCOPE = "launch/patient patient/ImagingStudy.rs";
const PENDING = "pending-login";

let session = null;

class Problem extends Error {}

function showStatus(text, isProblem = false) {
  element("status").textContent = text;
  element("status").classList.toggle("problem", isProblem);
}

function record(method, url, outcome) {
  const line = document.createElement("li");
  line.textContent = `${method} ${url} → ${outcome}`;
  element("log").append(line);
}

async function request(url, options = {}) {
  const response = await fetch(url, { ...options, cache: "no-store", referrerPolicy: "no-referrer" });
  record(options.method ?? "GET", url, response.status);
  if (!response.ok) {
    const outcome = await response.json().catch(() => ({}));
    throw new Problem(outcome.issue?.[0]?.diagnostics ?? outcome.error_description ?? outcome.error ??
      `The server answered ${response.status}.`);
  }
  return response;
}

const withToken = (url, accept) =>
  request(url, { headers: { Authorization: `Bearer ${session.token}`, Accept: accept } });

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function discover() {
  const smart = await (await request(`${EHR}/.well-known/smart-configuration`)).json();
  const imaging = (smart.associated_endpoints ?? [])
    .find((endpoint) => endpoint.capabilities.includes("smart-imaging-access"));
  if (!imaging) throw new Problem("This EHR names no imaging server.");
  return { authorize: smart.authorization_endpoint, token: smart.token_endpoint, imaging: imaging.url };
}

async function logIn() {
  const { authorize } = await discover();
  const pending = { state: random(), verifier: random() };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier));
  const target = new URL(authorize);
  target.search = new URLSearchParams({
    response_type: "code", client_id: CLIENT_ID, redirect_uri: REDIRECT_URI, scope: SCOPE, state: pending.state,
    aud: EHR, code_challenge: base64url(digest), code_challenge_method: "S256",
  });
  location.assign(target);
}

async function finishLogin() {
  const answer = new URLSearchParams(location.search);
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  sessionStorage.removeItem(PENDING);
  history.replaceState(null, "", "/");  // Remove the code from the address bar.
  if (!answer.has("code") && !answer.has("error")) return;
  if (!pending || answer.get("state") !== pending.state) throw new Problem("That login was not begun here.");
  if (answer.has("error")) {
    throw new Problem(`Not logged in (${answer.get("error")}). ${answer.get("error_description") ?? ""}`);
  }
  const endpoints = await discover();
  const granted = await (await request(endpoints.token, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", code: answer.get("code"), redirect_uri: REDIRECT_URI, client_id: CLIENT_ID,
      code_verifier: pending.verifier,
    }),
  })).json();
  if (!granted.patient) throw new Problem("No patient came with the token: launch/patient was not allowed.");
  session = { token: granted.access_token, patient: granted.patient, imaging: endpoints.imaging };
  await listStudies();
}

async function listStudies() {
  const query = new URLSearchParams({ patient: `Patient/${session.patient}`, _include: "ImagingStudy:endpoint" });
  const studies = [];
  const endpoints = new Map();
  let next = `${session.imaging}/ImagingStudy?${query}`;
  while (next) {
    const bundle = await (await withToken(next, "application/fhir+json")).json();
    for (const entry of bundle.entry ?? []) {
      if (entry.search.mode === "match") studies.push(entry.resource);
      else {
        // A study refers to its Endpoint by id, or by the entry's urn:uuid: if the Endpoint is for this Bundle alone.
        endpoints.set(`Endpoint/${entry.resource.id}`, entry.resource.address);
        endpoints.set(entry.fullUrl, entry.resource.address);
      }
    }
    next = bundle.link.find((link) => link.relation === "next")?.url;
  }
  element("log-in").hidden = true;
  element("log-out").hidden = element("refuse").hidden = element("studies").hidden = false;
  element("rows").replaceChildren(...studies.map((study) => row(study, endpoints)));
  showStatus(`${studies.length} studies of patient ${session.patient}.`);
  const first = studies.find((study) => study.modality.some((coding) => ["CT", "MR", "US", "CR"].includes(coding.code)));
  if (first) await show(first, addressOf(first, endpoints));
}

const uidOf = (study) => study.identifier.find((identifier) => identifier.system === "urn:dicom:uid").value.replace("urn:oid:", "");

function addressOf(study, endpoints) {
  const { reference } = study.endpoint[0];
  const contained = (study.contained ?? []).find((resource) => `#${resource.id}` === reference);
  return contained?.address ?? endpoints.get(reference);
}

function row(study, endpoints) {
  const line = document.createElement("tr");
  const cells = [
    study.started?.slice(0, 10) ?? "", study.modality.map((coding) => coding.code).join(", "), study.description ?? "",
    study.numberOfSeries ?? "", study.numberOfInstances ?? "",
  ];
  for (const text of cells) line.insertCell().textContent = text;
  const address = addressOf(study, endpoints);
  line.insertCell().append(
    button("Show", () => show(study, address)), button("Fetch all", () => download(study, address)),
    button("Save as ZIP", () => save(study, address)));
  return line;
}

async function show(study, address) {
  element("viewer").hidden = true;
  const root = `${address}/studies/${uidOf(study)}`;
  for (const series of study.series ?? []) {
    const response = await withToken(`${root}/series/${series.uid}/instances?limit=1`, "application/dicom+json");
    const instance = response.status === 200 ? (await response.json())[0]?.["00080018"].Value[0] : undefined;
    if (!instance) continue;
    const url = `${root}/series/${series.uid}/instances/${instance}/rendered`;
    const image = await withToken(url, "image/jpeg, image/png").catch((problem) => problem);
    if (image instanceof Error) continue;  // A plan or a report has no image, but the next series may.
    URL.revokeObjectURL(element("image").src);
    element("image").src = URL.createObjectURL(await image.blob());
    element("image").alt = `Image of the study ${study.description ?? uidOf(study)}`;
    element("caption").textContent = [series.modality.code, series.description ?? study.description, study.started]
      .filter(Boolean).join(" · ");
    element("viewer").hidden = false;
    return;
  }
  showStatus("That study has nothing to draw.");
}

async function download(study, address) {
  const response = await withToken(
    `${address}/studies/${uidOf(study)}`, "multipart/related; type=application/dicom; transfer-syntax=*");
  let size = 0;
  for (let reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    showStatus(`${(size / 1e6).toFixed(1)} MB …`);
  }
  showStatus(`The whole study came: ${size} bytes.`);
}

async function save(study, address) {
  // A link cannot send the token. The page holds the whole study in memory, which is enough for a demo.
  const response = await withToken(`${address}/studies/${uidOf(study)}`, "application/zip");
  const zip = await response.blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(zip);
  link.download = "study.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  showStatus(`The study came as a ZIP: ${zip.size} bytes.`);
}

async function refuse() {
  const other = session.patient === "archibald" ? "peter" : "archibald";
  await withToken(`${session.imaging}/ImagingStudy?patient=Patient/${other}`, "application/fhir+json");
  throw new Problem("That should have been refused!");
}

function logOut() {
  session = null;
  URL.revokeObjectURL(element("image").src);
  element("image").removeAttribute("src");
  element("rows").replaceChildren();
  element("log-in").hidden = false;
  element("log-out").hidden = element("refuse").hidden = element("studies").hidden = element("viewer").hidden = true;
  showStatus("The token is forgotten.");
}

const attempt = (action) => action().catch((problem) => showStatus(problem.message, true));

function button(label, action) {
  const control = document.createElement("button");
  control.type = "button";
  control.textContent = label;
  control.addEventListener("click", () => attempt(action));
  return control;
}

element("log-in").addEventListener("click", () => attempt(logIn));
element("log-out").addEventListener("click", logOut);
element("refuse").addEventListener("click", () => attempt(refuse));
attempt(finishLogin);

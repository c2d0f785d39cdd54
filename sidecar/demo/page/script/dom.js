// Elements made by code: the page never turns text into HTML.

export const byId = (id) => document.getElementById(id);

/**
 * Make an element. Properties that begin with "on" are listeners, `data` and `aria` are objects,
 * all others are attributes; null and false leave an attribute out.
 */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(made.dataset, value);
    else if (key === "aria") {
      for (const [label, text] of Object.entries(value)) made.setAttribute(`aria-${label}`, text);
    } else if (value === true) made.setAttribute(key, "");
    else if ((value ?? false) !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Make a button that reports the problem of its action in the status line. */
export function button(label, action, properties = {}) {
  return el("button", { type: "button", ...properties, onclick: () => attempt(action) }, label);
}

/** Say something to everybody, screen readers included. */
export function say(text, isProblem = false) {
  const line = byId("status");
  line.classList.toggle("problem", isProblem);
  line.textContent = text;
}

/** Run an action; show what went wrong. */
export async function attempt(action) {
  try {
    return await action();
  } catch (problem) {
    if (problem.name !== "AbortError") say(problem.message, true);
    return undefined;
  }
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export function bytes(count) {
  if (count < 1e6) return `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

/** Read a date of FHIR, which may lack its day or time, as a person writes it. */
export function day(text) {
  if (!text) return "no date";
  const [year, month, date] = text.slice(0, 10).split("-").map(Number);
  if (!date) return text.slice(0, 10);
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeZone: "UTC" })
    .format(new Date(Date.UTC(year, month - 1, date)));
}

const MODALITIES = {
  CR: "X-ray", CT: "CT scan", DX: "X-ray", MR: "MRI scan", US: "Ultrasound", NM: "Nuclear medicine",
  XC: "Photograph", XA: "Angiography", DOC: "Document", SR: "Report", OT: "Other", SC: "Screenshot",
  MG: "Mammogram", PT: "PET scan", ES: "Endoscopy", RTDOSE: "Radiation dose",
  RTPLAN: "Radiation plan", RTSTRUCT: "Radiation regions", PR: "Display settings", ECG: "ECG",
};

export const modalityName = (code) => MODALITIES[code] ?? code;

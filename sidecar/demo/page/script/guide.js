// What the demo says of itself (paths below /demo/): a hospital's server has none of it.

import { Problem } from "./http.js";

async function ask(path) {
  const response = await fetch(path, { cache: "no-store", credentials: "omit" });
  return response.ok ? response.json() : null;
}

/** Return the demo's studies in the archive: none is known of another archive. */
export const readGuide = async () => (await ask("/demo/guide"))?.studies ?? [];

/** Return whose images to ask for, and with which tokens. */
export async function readAttacks(patient) {
  const material = await ask(`/demo/attacks?${new URLSearchParams({ patient })}`);
  if (!material?.other_study) {
    throw new Problem("This archive has no other patient’s study to try it with.");
  }
  return material;
}

const explained = new Map();

/** Return why an answer of the sidecar was permitted or refused; null if it is not known. */
export async function explain(exchange) {
  const id = exchange.requestId;
  if (!id || !exchange.isOurs) return null;
  if (!explained.has(id)) explained.set(id, ask(`/demo/decisions/${encodeURIComponent(id)}`));
  const decision = await explained.get(id).catch(() => null);
  if (decision === null) explained.delete(id);
  return decision;
}

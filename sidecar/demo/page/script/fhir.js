// The search for ImagingStudy (FHIR R4), and where the images of each study are.

import { modalityName } from "./dom.js";
import { readJson, withToken } from "./http.js";
import { session } from "./session.js";

const FHIR_JSON = "application/fhir+json";
const MAXIMUM_PAGES = 20;

/** Return all studies of the patient, the newest first. */
export async function searchStudies() {
  const query = new URLSearchParams({
    patient: `Patient/${session.patient}`, _include: "ImagingStudy:endpoint",
  });
  const found = [];
  let next = `${session.imaging}/ImagingStudy?${query}`;
  for (let page = 0; next && page < MAXIMUM_PAGES; page++) {
    const { response, exchange } = await withToken(next, FHIR_JSON);
    const bundle = await readJson(response, exchange);
    const entries = bundle.entry ?? [];
    const endpoints = endpointsOf(entries);
    for (const { resource, search } of entries) {
      if (search.mode === "match") found.push(studyOf(resource, endpoints));
    }
    next = bundle.link.find((link) => link.relation === "next")?.url;
  }
  return found.sort((one, other) => (other.started ?? "").localeCompare(one.started ?? ""));
}

/** A study names its Endpoint by id, or by the entry's urn:uuid: if it is for this Bundle alone. */
function endpointsOf(entries) {
  const addresses = new Map();
  for (const { resource, fullUrl } of entries) {
    if (resource.resourceType !== "Endpoint") continue;
    addresses.set(`Endpoint/${resource.id}`, resource.address);
    addresses.set(fullUrl, resource.address);
  }
  return addresses;
}

function addressOf(resource, endpoints) {
  const { reference } = resource.endpoint[0];
  const contained = (resource.contained ?? []).find(({ id }) => `#${id}` === reference);
  return contained?.address ?? endpoints.get(reference);
}

function studyOf(resource, endpoints) {
  const uid = resource.identifier.find(({ system }) => system === "urn:dicom:uid").value
    .replace("urn:oid:", "");
  const modalities = (resource.modality ?? []).map(({ code }) => code);
  return {
    uid, started: resource.started,
    description: resource.description ?? (modalities.map(modalityName).join(", ") || "Study"),
    modalities,
    seriesCount: resource.numberOfSeries ?? resource.series?.length ?? 0,
    instanceCount: resource.numberOfInstances ?? 0,
    root: `${addressOf(resource, endpoints)}/studies/${uid}`,
    series: (resource.series ?? []).map((series) => ({
      uid: series.uid, modality: series.modality.code, description: series.description ?? "",
      count: series.numberOfInstances ?? null,
    })),
  };
}

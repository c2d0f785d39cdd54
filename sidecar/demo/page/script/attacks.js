// Attempts to reach what is not ours. `mine` and `theirs` are where both patients' studies are;
// `other`, `study`, `series` and `instance` are those of the other one. `own` is a study of ours.

const DICOM = "application/dicom+json";
const FHIR = "application/fhir+json";
const OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*';
const FRAME = 'multipart/related; type="application/octet-stream"';

/** Return a capability address with one character changed. */
function changed(address) {
  const at = address.indexOf("/capability/") + "/capability/".length + 40;
  const letter = address[at] === "A" ? "B" : "A";
  return `${address.slice(0, at)}${letter}${address.slice(at + 1)}`;
}

/**
 * Each has a title, a sentence, and what returns the request, if it makes sense with this server.
 * Without `token` a request has our own; null is none.
 */
export const ATTACKS = [
  ["Search for another patient", "Ask for the list of somebody else’s studies with your own key.",
    ({ search, other }) => ({ url: `${search}Patient/${other}`, accept: FHIR })],
  ["Name both patients",
    "Put yourself first and the other patient second: perhaps only one is looked at.",
    ({ search, patient, other }) =>
      ({ url: `${search}${patient}&patient=${other}`, accept: FHIR })],
  ["Open another patient’s study",
    "Ask at your own address for the number of somebody else’s study.",
    ({ mine, study }) => ({ url: `${mine}/${study}`, accept: OBJECTS })],
  ["Use the other patient’s address", "Ask where the other patient would ask, with your key.",
    ({ theirs, study }) => ({ url: `${theirs}/${study}`, accept: OBJECTS })],
  ["Hide a series under your study",
    "Put the number of another patient’s series behind the number of your study.",
    ({ mine, own, series }) => ({ url: `${mine}/${own.uid}/series/${series}`, accept: OBJECTS })],
  ["Take a single frame", "Ask for one picture, in the hope that small requests are not looked at.",
    ({ mine, study, series, instance }) => ({
      url: `${mine}/${study}/series/${series}/instances/${instance}/frames/1`, accept: FRAME,
    })],
  ["Ask for a thumbnail", "A small drawn picture shows a person, too.",
    ({ mine, study, series }) =>
      ({ url: `${mine}/${study}/series/${series}/thumbnail`, accept: "image/jpeg" })],
  ["Climb out of the path", "Write “one folder up” in disguise, behind a study that is yours.",
    ({ mine, own, study }) =>
      ({ url: `${mine}/${own.uid}%2F..%2F${study}/metadata`, accept: DICOM })],
  ["Two studies in one number", "Join your number and the other one, as archives allow in a list.",
    ({ mine, own, study }) => ({ url: `${mine}/${own.uid},${study}/metadata`, accept: DICOM })],
  ["No key at all", "Ask for your own study without any token.",
    ({ own }) => ({ url: `${own.root}/metadata`, accept: DICOM, token: null })],
  ["A made-up key", "Guess a token.",
    ({ own }) => ({ url: `${own.root}/metadata`, accept: DICOM, token: "made-up-".repeat(4) })],
  ["An old key", "Use a token that was good once.",
    ({ own, keys }) => ({ url: `${own.root}/metadata`, accept: DICOM, token: keys.expired })],
  ["Somebody else’s key", "Open your study with the token of the other patient.",
    ({ mine, own, keys }) =>
      ({ url: `${mine}/${own.uid}/metadata`, accept: DICOM, token: keys.other_patient })],
  ["A key for searching", "Fetch images with a token that may only search.",
    ({ mine, own, keys }) =>
      ({ url: `${mine}/${own.uid}`, accept: OBJECTS, token: keys.search_only })],
  ["A key for nobody", "Search with a token that names no patient.",
    ({ search, patient, keys }) =>
      ({ url: `${search}${patient}`, accept: FHIR, token: keys.no_patient })],
  ["The key in the address", "Put your token into the address, where others would see it.",
    ({ search, patient, token }) =>
      ({ url: `${search}${patient}&access_token=${token}`, accept: FHIR, token: null })],
  ["An old secret address", "Use an address that was given out earlier and has ended.",
    ({ ended, study }) => ended && ({ url: `${ended}/studies/${study}/metadata`, accept: DICOM })],
  ["A stolen secret address", "Use the address of your study with the other patient’s key.",
    ({ own, isCapability, keys }) => isCapability &&
      ({ url: `${own.root}/metadata`, accept: DICOM, token: keys.other_patient })],
  ["A changed secret address", "Change one letter of the address of your study.",
    ({ own, isCapability }) => isCapability &&
      ({ url: `${changed(own.root)}/metadata`, accept: DICOM })],
  ["Delete a study", "The server only shows. Nothing can be changed or removed.",
    ({ own }) => ({ url: own.root, accept: DICOM, method: "DELETE" })],
];

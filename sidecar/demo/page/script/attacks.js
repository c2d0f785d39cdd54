// Attempts to reach what is not ours. `target` has the other patient's study, series, instance
// and tokens; `own` is a study of ours; `base` our standing DICOMweb root.

const DICOM = "application/dicom+json";
const FHIR = "application/fhir+json";
const OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*';
const FRAME = 'multipart/related; type="application/octet-stream"';

const ofPatient = ({ imaging }, patient) => `${imaging}/Patient/${patient}/$wado-rs`;
const base = (context) => ofPatient(context, context.patient);
const foreign = ({ target }) => `studies/${target.other_study}`;

/** Return a capability address with one character changed. */
function changed(address) {
  const at = address.indexOf("/capability/") + "/capability/".length + 40;
  const letter = address[at] === "A" ? "B" : "A";
  return `${address.slice(0, at)}${letter}${address.slice(at + 1)}`;
}

/** Each has a title, a sentence, and `ask`, which returns the request, if it makes sense. */
export const ATTACKS = [
  {
    title: "Search for another patient",
    text: "Ask for the list of somebody else’s studies with your own key.",
    ask: ({ imaging, target }) =>
      ({ url: `${imaging}/ImagingStudy?patient=Patient/${target.other_patient}`, accept: FHIR }),
  },
  {
    title: "Name both patients",
    text: "Put yourself first and the other patient second: perhaps only one is looked at.",
    ask: ({ imaging, patient, target }) => ({
      url: `${imaging}/ImagingStudy?patient=${patient}&patient=${target.other_patient}`,
      accept: FHIR,
    }),
  },
  {
    title: "Open another patient’s study",
    text: "Ask at your own address for the number of somebody else’s study.",
    ask: (context) => ({ url: `${base(context)}/${foreign(context)}`, accept: OBJECTS }),
  },
  {
    title: "Use the other patient’s address",
    text: "Ask where the other patient would ask, with your key.",
    ask: (context) => ({
      url: `${ofPatient(context, context.target.other_patient)}/${foreign(context)}`,
      accept: OBJECTS,
    }),
  },
  {
    title: "Hide a series under your study",
    text: "Put the number of another patient’s series behind the number of your study.",
    ask: (context) => ({
      url: `${base(context)}/studies/${context.own.uid}/series/${context.target.other_series}`,
      accept: OBJECTS,
    }),
  },
  {
    title: "Take a single frame",
    text: "Ask for one picture, in the hope that small requests are not looked at.",
    ask: (context) => ({
      url: `${base(context)}/${foreign(context)}/series/${context.target.other_series}/instances/${
        context.target.other_instance}/frames/1`,
      accept: FRAME,
    }),
  },
  {
    title: "Ask for a thumbnail",
    text: "A small drawn picture shows a person, too.",
    ask: (context) => ({
      url: `${base(context)}/${foreign(context)}/series/${context.target.other_series}/thumbnail`,
      accept: "image/jpeg",
    }),
  },
  {
    title: "Climb out of the path",
    text: "Write “one folder up” in disguise, behind a study that is yours.",
    ask: (context) => ({
      url: `${base(context)}/studies/${context.own.uid}%2F..%2F${
        context.target.other_study}/metadata`,
      accept: DICOM,
    }),
  },
  {
    title: "Two studies in one number",
    text: "Join your number and the other one, as archives allow in a list.",
    ask: (context) => ({
      url: `${base(context)}/studies/${context.own.uid},${context.target.other_study}/metadata`,
      accept: DICOM,
    }),
  },
  {
    title: "No key at all",
    text: "Ask for your own study without any token.",
    ask: ({ own }) => ({ url: `${own.root}/metadata`, accept: DICOM, token: null }),
  },
  {
    title: "A made-up key",
    text: "Guess a token.",
    ask: ({ own }) => ({
      url: `${own.root}/metadata`, accept: DICOM, token: "made-up-4711-made-up-4711-made-up-4711",
    }),
  },
  {
    title: "An old key",
    text: "Use a token that was good once.",
    ask: ({ own, target }) =>
      ({ url: `${own.root}/metadata`, accept: DICOM, token: target.tokens?.expired }),
  },
  {
    title: "Somebody else’s key",
    text: "Open your study with the token of the other patient.",
    ask: (context) => ({
      url: `${base(context)}/studies/${context.own.uid}/metadata`, accept: DICOM,
      token: context.target.tokens?.other_patient,
    }),
  },
  {
    title: "A key for searching",
    text: "Fetch images with a token that may only search.",
    ask: (context) => ({
      url: `${base(context)}/studies/${context.own.uid}`, accept: OBJECTS,
      token: context.target.tokens?.search_only,
    }),
  },
  {
    title: "A key for nobody",
    text: "Search with a token that names no patient.",
    ask: ({ imaging, patient, target }) => ({
      url: `${imaging}/ImagingStudy?patient=${patient}`, accept: FHIR,
      token: target.tokens?.no_patient,
    }),
  },
  {
    title: "The key in the address",
    text: "Put your token into the address, where others would see it.",
    ask: ({ imaging, patient, token }) => ({
      url: `${imaging}/ImagingStudy?patient=${patient}&access_token=${token}`, accept: FHIR,
      token: null,
    }),
  },
  {
    title: "An old secret address",
    text: "Use an address that was given out earlier and has ended.",
    ask: ({ target }) => target.expired_capability &&
      ({ url: `${target.expired_capability}/${foreign({ target })}/metadata`, accept: DICOM }),
  },
  {
    title: "A stolen secret address",
    text: "Use the address of your study with the other patient’s key.",
    ask: ({ own, target }) => own.root.includes("/capability/") &&
      ({ url: `${own.root}/metadata`, accept: DICOM, token: target.tokens?.other_patient }),
  },
  {
    title: "A changed secret address",
    text: "Change one letter of the address of your study.",
    ask: ({ own }) => own.root.includes("/capability/") &&
      ({ url: `${changed(own.root)}/metadata`, accept: DICOM }),
  },
  {
    title: "Delete a study",
    text: "The server only shows. Nothing can be changed or removed.",
    ask: ({ own }) => ({ url: own.root, accept: DICOM, method: "DELETE" }),
  },
];

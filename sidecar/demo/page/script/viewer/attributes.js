// What the viewer needs of an instance's metadata (DICOM JSON Model, PS3.18 annex F).

const TAGS = {
  BitsAllocated: "00280100", BitsStored: "00280101", Columns: "00280011",
  DocumentLength: "00420015", EncapsulatedDocument: "00420011", FrameTime: "00181063",
  InstanceNumber: "00200013", MediaType: "00420012", NumberOfFrames: "00280008",
  Photometric: "00280004", PixelRepresentation: "00280103", PixelSpacing: "00280030",
  PlanarConfiguration: "00280006", RescaleIntercept: "00281052", RescaleSlope: "00281053",
  Rows: "00280010", SOPInstanceUID: "00080018",
  SamplesPerPixel: "00280002", SliceLocation: "00201041", Title: "00420010",
  WindowCenter: "00281050", WindowExplanation: "00281055", WindowWidth: "00281051",
};
const PIXELS = ["7FE00010", "7FE00008", "7FE00009"];

/** Return a reader of attributes by keyword; numbers in text (DS, IS) become numbers. */
function reader(dataset) {
  const values = (keyword) => dataset[TAGS[keyword]]?.Value ?? [];
  const number = (keyword, otherwise = null) => {
    const value = Number.parseFloat(values(keyword)[0]);
    return Number.isFinite(value) ? value : otherwise;
  };
  const text = (keyword) => String(values(keyword)[0] ?? "");
  return { values, number, text };
}

function windowsOf({ values }) {
  const widths = values("WindowWidth").map(Number);
  const names = values("WindowExplanation");
  return values("WindowCenter").map((center, index) => ({
    name: names[index] || (index ? `Stored ${index + 1}` : "As stored"),
    center: Number(center), width: widths[index],
  })).filter(({ center, width }) => Number.isFinite(center) && width >= 1);
}

function pixelsOf(read) {
  const bits = read.number("BitsAllocated", 0);
  return {
    rows: read.number("Rows", 0), columns: read.number("Columns", 0),
    samples: read.number("SamplesPerPixel", 1), bits,
    stored: read.number("BitsStored", bits), isSigned: read.number("PixelRepresentation", 0) === 1,
    isPlanar: read.number("PlanarConfiguration", 0) === 1,
    photometric: read.text("Photometric"), slope: read.number("RescaleSlope", 1) || 1,
    intercept: read.number("RescaleIntercept", 0),
    windows: windowsOf(read), aspect: aspectOf(read.values("PixelSpacing").map(Number)),
  };
}

/** Return how much taller than wide a pixel is. */
function aspectOf([between, within]) {
  return between > 0 && within > 0 ? between / within : 1;
}

/** Return the description of an instance. */
export function describe(dataset) {
  const read = reader(dataset);
  const document = dataset[TAGS.EncapsulatedDocument];
  return {
    uid: read.text("SOPInstanceUID"), number: read.number("InstanceNumber", 0),
    location: read.number("SliceLocation"), frames: Math.max(1, read.number("NumberOfFrames", 1)),
    frameTime: read.number("FrameTime"),
    hasPixels: PIXELS.some((tag) => tag in dataset), ...pixelsOf(read),
    document: document && {
      url: document.BulkDataURI ?? null, inline: document.InlineBinary ?? null,
      mediaType: read.text("MediaType"), title: read.text("Title") || "Document",
      length: read.number("DocumentLength"),
    },
  };
}

/** Say whether this page can draw stored values of that kind itself. */
export function isDrawable({ hasPixels, samples, bits, photometric }) {
  if (!hasPixels) return false;
  if (samples === 1) return /^MONOCHROME[12]$/.test(photometric) && (bits === 8 || bits === 16);
  return samples === 3 && bits === 8 && photometric === "RGB";
}

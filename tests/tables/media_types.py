"""Media types of answers: those that pass, and those that never do."""

from sidecar.dicomweb.paths import OBJECTS, Kind

DICOM = 'multipart/related; type="application/dicom"; boundary=abc'
OCTETS = "multipart/related; type=application/octet-stream; boundary=abc"
DRAWN = (Kind.RENDERED, Kind.THUMBNAIL)
PIXELS = (Kind.FRAMES, Kind.BULKDATA, Kind.PIXELDATA)
ACCEPTED: list[tuple[str, tuple[Kind, ...]]] = [
    (DICOM, tuple(OBJECTS)),
    ("multipart/related; type=application/dicom; boundary=abc", tuple(OBJECTS)),
    ("Multipart/Related;boundary=abc;type=application/dicom", tuple(OBJECTS)),
    ("application/dicom", (Kind.INSTANCE,)),
    ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", (Kind.INSTANCE,)),
    ("application/dicom+json", (Kind.METADATA,)),
    ("application/json; charset=utf-8", (Kind.METADATA,)),
    (OCTETS, PIXELS),
    ('multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50; boundary=abc',
        PIXELS),
    ("application/octet-stream", PIXELS),
    ('multipart/related; type="image/png"; boundary=abc', (Kind.RENDERED,)),
    ("image/jpeg", (*DRAWN, *PIXELS)), ("image/png", (*DRAWN, *PIXELS)), ("image/jls", PIXELS),
    ("video/mp4", (*DRAWN, *PIXELS)), ("application/pdf", (*DRAWN, Kind.BULKDATA)),
    ("model/stl", (Kind.BULKDATA,)), ("model/obj", (Kind.BULKDATA,)),
    ("model/mtl", (Kind.BULKDATA,)),
    ('multipart/related; type="application/pdf"; boundary=abc', (Kind.RENDERED, Kind.BULKDATA)),
    ("multipart/related; type=Model/STL; boundary=abc", (Kind.BULKDATA,)),
]  # fmt: skip
NEVER = [
    None, "", " ", ";", "text/html", "text/html; charset=utf-8", "text/plain",
    "application/xhtml+xml", "text/xml",
    "application/xml", "image/svg+xml", "image/png; x=image/svg+xml", "application/zip",
    "application/dicom+xml", "application/javascript", "application/fhir+json",
    "multipart/mixed; boundary=abc",
    "multipart/form-data; boundary=abc", "multipart/x-mixed-replace; boundary=abc", "image",
    "image/", "/jpeg",
    "image/jpeg/x", "image/jp eg", "image jpeg", "imagé/jpeg", "image/jpeg\r\nX: y",
    "image/jpeg\x00",
    "image/jpeg; " + "x" * 512, "*/*", "image/*", "application/*", "Text/HTML", "TEXT/XML",
    "Application/XHTML+XML",
    "text/html; type=application/pdf", "application/pdf; type=image/svg+xml",
    "application/pdf; charset=text/xml",
    "application/pdf, text/html", "model/x3d+xml", "model/stl+xml", "application/pdf+xml",
    'multipart/related; type="text/html"; boundary=abc',
    "multipart/related; type=Text/Xml; boundary=abc",
    'multipart/related; type="image/svg+xml"; boundary=abc',
    'multipart/related; type="model/x3d+xml"; boundary=abc',
    'multipart/related; type="application/pdf"; start=text/xml; boundary=abc',
]  # fmt: skip

"""Accept headers: what is asked of the archive for each, and which are refused."""

from sidecar.access.facts import Part
from sidecar.dicomweb.media_types import MAXIMUM_LENGTH, MAXIMUM_RANGES
from sidecar.dicomweb.paths import Kind, Retrieval

STUDY = Retrieval(Kind.STUDY, Part("1.2"))
SERIES = Retrieval(Kind.SERIES, Part("1.2", "1.3"))
ONE = Part("1.2", "1.3", "1.4")
INSTANCE, FRAMES = Retrieval(Kind.INSTANCE, ONE), Retrieval(Kind.FRAMES, ONE, (1,))
RENDERED, THUMBNAIL = Retrieval(Kind.RENDERED, ONE), Retrieval(Kind.THUMBNAIL, Part("1.2"))
FRAME_RENDERED = Retrieval(Kind.RENDERED, ONE, (1,))
METADATA = Retrieval(Kind.METADATA, Part("1.2"))
BULKDATA, PIXELDATA = (
    Retrieval(Kind.BULKDATA, ONE, steps=("7FE00010",)),
    Retrieval(Kind.PIXELDATA, ONE),
)
ALL = (STUDY, SERIES, INSTANCE, METADATA, FRAMES, RENDERED, THUMBNAIL, BULKDATA, PIXELDATA)
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'
STORED = OCTETS + "; transfer-syntax=*"
PDF = 'multipart/related; type="application/pdf"'
DOCUMENTS = ", ".join(
    [PDF, *(f'multipart/related; type="model/{name}"' for name in ("stl", "obj", "mtl"))]
)
BUILT: dict[str, tuple[str | None, Retrieval, str]] = {
    "the public viewer, type without quotes": (
        "multipart/related; type=application/dicom; transfer-syntax=*", STUDY, AS_STORED),
    "dicomweb-client, type in quotes": (AS_STORED, SERIES, AS_STORED),
    "no header: as stored": (None, STUDY, AS_STORED),
    "an empty header": ("", INSTANCE, AS_STORED),
    "anything": ("*/*", STUDY, AS_STORED),
    "any multipart": ("multipart/*", SERIES, AS_STORED),
    "a multipart of nothing in particular": ("multipart/related", STUDY, AS_STORED),
    "a multipart of anything": ('multipart/related; type="*/*"', STUDY, AS_STORED),
    "a multipart of anything, in a transfer syntax": (
        'multipart/related; type="*/*"; transfer-syntax=1.2.840.10008.1.2.4.50', STUDY,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "without a transfer syntax: the PACS's default": (
        "multipart/related; type=application/dicom", STUDY,
        'multipart/related; type="application/dicom"'),
    "a transfer syntax": (
        'multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.4.50', STUDY,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "capital letters": ('Multipart/Related; TYPE="Application/DICOM"', STUDY,
                        'multipart/related; type="application/dicom"'),
    "other parameters are left out": (
        'multipart/related; boundary=x; type="application/dicom"; start="http"', STUDY,
        'multipart/related; type="application/dicom"'),
    "preferences stay": (
        "multipart/related; type=application/dicom; q=0.5, "  # noqa: ISC004 - one header
        "multipart/related; transfer-syntax=1.2;q=1.000", STUDY,
        'multipart/related; type="application/dicom";q=0.5, '  # noqa: ISC004 - one header
        'multipart/related; type="application/dicom"; transfer-syntax=1.2;q=1.000'),
    "the same twice": ("*/*, multipart/*", STUDY, AS_STORED),
    "one instance may be no multipart": ("application/dicom; transfer-syntax=*", INSTANCE,
        AS_STORED),
    "one instance alone, as transcoded": ("application/dicom", INSTANCE,
                                          'multipart/related; type="application/dicom"'),
    "a ZIP of a study is made of a multipart": ("application/zip", STUDY, AS_STORED),
    "a ZIP of a series, in a transfer syntax": (
        "application/zip; transfer-syntax=1.2.840.10008.1.2.4.50", SERIES,
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
    "what cannot be vouched for is left out": (
        "application/zip;q=0, text/html, image/svg+xml, application/dicom+xml, " + AS_STORED, STUDY,
        AS_STORED),
    "the frames of an OHIF-style viewer": (
        "multipart/related; type=application/octet-stream; transfer-syntax=*", FRAMES,
        OCTETS + "; transfer-syntax=*"),
    "frames, anything": ("*/*", FRAMES, STORED),
    "frames, no header": (None, FRAMES, STORED),
    "frames, any multipart": ("multipart/*;q=0.5", FRAMES, STORED + ";q=0.5"),
    "frames, dicomweb-client's default": ('multipart/related; type="*/*"', FRAMES, STORED),
    "frames, any application type": ('multipart/related; type="application/*"', FRAMES, STORED),
    "frames, no type": ("multipart/related", FRAMES, STORED),
    "frames of any type in a transfer syntax": (
        'multipart/related; type="*/*"; transfer-syntax=1.2.840.10008.1.2.1', FRAMES,
        OCTETS + "; transfer-syntax=1.2.840.10008.1.2.1"),
    "frames, octets by name: decompressed, as PS3.18 8.7.3.5 says": (OCTETS, FRAMES, OCTETS),
    "frames as JPEG": ('multipart/related; type="image/jpeg"', FRAMES,
        'multipart/related; type="image/jpeg"'),
    "one frame alone": (
        "image/jls, application/octet-stream", FRAMES,
        f"image/jls, {OCTETS}, application/octet-stream"),
    "one frame alone, as stored": (
        "application/octet-stream; transfer-syntax=*;q=0.5", FRAMES,
        f"{STORED};q=0.5, application/octet-stream; transfer-syntax=*;q=0.5"),
    "one frame alone as an image": ("image/jls", FRAMES, "image/jls"),
    "frames alone or not": (f"{OCTETS}, application/octet-stream", FRAMES,
        f"{OCTETS}, application/octet-stream"),
    "bulk data alone": ("application/octet-stream", BULKDATA,
        f"{OCTETS}, application/octet-stream"),
    "bulk data alone, any application type": (
        "application/*", BULKDATA, f"{STORED}, application/octet-stream; transfer-syntax=*"),
    "bulk data, anything: a document, too": (None, BULKDATA, f"{STORED}, {DOCUMENTS}"),
    "bulk data, any multipart": ("multipart/related;q=0.5", BULKDATA, ", ".join(
        f"{one};q=0.5" for one in (STORED, *DOCUMENTS.split(", ")))),
    "bulk data, anything but PDF": (
        "*/*, application/pdf;q=0", BULKDATA, f"{STORED}, {DOCUMENTS.removeprefix(PDF + ', ')}"),
    "a document alone, else as octets": (
        "application/pdf", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "a document in capital letters": (
        "Application/PDF", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "a model alone": (
        "model/stl;q=0.05", BULKDATA,
        'multipart/related; type="model/stl";q=0.05, model/stl;q=0.05, '  # noqa: ISC004 - one header
        f"{OCTETS};q=0.05, application/octet-stream;q=0.05"),
    "a document in a multipart": (PDF, BULKDATA, f"{PDF}, {OCTETS};q=0.1"),
    "a model and its material": (
        'multipart/related; type="model/obj", multipart/related; type=model/mtl', BULKDATA,
        'multipart/related; type="model/obj", '  # noqa: ISC004 - one header
        f'multipart/related; type="model/mtl", {OCTETS};q=0.1'),
    "a document or octets": (
        "application/pdf, application/octet-stream;q=0.5", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.5, application/octet-stream;q=0.5"),
    "a document, and what runs in a browser": (
        "text/html, application/pdf, text/xml, image/svg+xml", BULKDATA,
        f"{PDF}, application/pdf, {OCTETS};q=0.1, application/octet-stream;q=0.1"),
    "documents of several images, drawn": (PDF, RENDERED, PDF),
    "pixel data": ("*/*", PIXELDATA, STORED),
    "an odd range behind a good one": (AS_STORED + ", a/b;q=2", STUDY, AS_STORED),
    "an odd range before a good one": ("image/png;q=high, image/jpeg", RENDERED, "image/jpeg"),
    "a word that is no range": ("json, application/json", METADATA, "application/dicom+json"),
    "an unknown transfer syntax among good ranges": (
        f"{OCTETS}; transfer-syntax=JPEG, {STORED}", FRAMES, STORED),
    "a parameter given twice in one of them": ("a/b;type=x;type=y, */*", FRAMES, STORED),
    "rendered, anything": ("*/*", RENDERED, "image/jpeg, image/gif;q=0.1"),
    "rendered, nothing said": (None, RENDERED, "image/jpeg, image/gif;q=0.1"),
    "rendered, anything but GIF": ("image/gif;q=0, */*", RENDERED, "image/jpeg"),
    "rendered, nothing else": ("image/png, */*;q=0", RENDERED, "image/png"),
    "a frame rendered": ("*/*", FRAME_RENDERED, "image/jpeg"),
    "a thumbnail": ("*/*", THUMBNAIL, "image/jpeg"),
    "rendered by a browser": (
        "image/avif,image/webp,image/apng,image/*,*/*;q=0.8", RENDERED,
        "image/*, image/jpeg;q=0.8, image/gif;q=0.08"),
    "rendered as PNG, parameters left out": ("image/png; charset=x;q=0.3", THUMBNAIL,
        "image/png;q=0.3"),
    "rendered, a part for each image": (
        'multipart/related; type="image/JPEG"; transfer-syntax=*', RENDERED,
        'multipart/related; type="image/jpeg"'),
    "rendered as PDF": ("application/pdf", RENDERED, "application/pdf"),
    "metadata": ("application/dicom+json", METADATA, "application/dicom+json"),
    "metadata, the other name": ("application/json, application/dicom+json", METADATA,
        "application/dicom+json"),
    "metadata, anything": (None, METADATA, "application/dicom+json"),
}  # fmt: skip
ONE_RANGE: dict[str, tuple[str | None, Retrieval, str]] = {
    "the only one": (None, STUDY, AS_STORED),
    "no weight": (AS_STORED + ";q=0.5", STUDY, AS_STORED),
    "the heaviest": (f"{AS_STORED};q=0.5, multipart/related; type=application/dicom", STUDY,
                     'multipart/related; type="application/dicom"'),
    "as stored, of two with the same weight": (
        f"multipart/related; type=application/dicom, {AS_STORED}", STUDY, AS_STORED),
    "octets before images": (f"multipart/related; type=image/jpeg, {STORED}", FRAMES, STORED),
    "a multipart before one alone": (f"application/octet-stream, {OCTETS};q=0.2", BULKDATA, OCTETS),
    "one alone is unwrapped from it": ("application/octet-stream", BULKDATA, OCTETS),
    "a document as octets": ("application/pdf", BULKDATA, OCTETS),
    "a model in a multipart, as octets": ('multipart/related; type="model/stl"', BULKDATA, OCTETS),
    "bulk data, anything": ("*/*", BULKDATA, STORED),
    "an image by a browser": ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", RENDERED,
        "image/jpeg"),
    "an image that archives have": ("image/gif, image/png;q=0.5, video/mp4", RENDERED, "image/png"),
    "an image that they may not have": ("image/gif;q=0.5", RENDERED, "image/gif"),
    "any image": ("image/*;q=0.5", THUMBNAIL, "image/jpeg"),
}  # fmt: skip
REFUSED = [
    *((accept, retrieval) for retrieval in ALL for accept in (
        "text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml",
        "application/dicom+xml", "multipart/related; type=application/dicom+xml",
        "multipart/related; type=text/html",
        "multipart/related; type=image/svg+xml", "multipart/related; type=application/zip",
        "text/*", "x/y",
        "multipart/form-data", "multipart/mixed",
    )),
    *(("application/zip", retrieval) for retrieval in ALL if retrieval not in (STUDY, SERIES)),
    ("application/dicom", STUDY), ("application/dicom", SERIES), ("application/dicom+json", STUDY),
    ("image/jpeg", STUDY), ("application/octet-stream", STUDY), ("application/*", STUDY),
    (OCTETS, STUDY),
    (AS_STORED, FRAMES), ("application/dicom", FRAMES), (AS_STORED, RENDERED),
    ("application/dicom", RENDERED),
    ("multipart/*", RENDERED), ("application/octet-stream", RENDERED), ("image/webp", RENDERED),
    (AS_STORED, METADATA), ("image/jpeg", METADATA), ("application/dicom+json;q=0", METADATA),
    *((name, retrieval) for retrieval in (STUDY, INSTANCE, METADATA, FRAMES,
        PIXELDATA) for name in (
        "application/pdf", "model/stl", "model/obj", "model/mtl", PDF,
        'multipart/related; type="model/stl"')),
    *(("model/stl", retrieval) for retrieval in (RENDERED, THUMBNAIL)), (PDF, THUMBNAIL),
    *((accept, BULKDATA) for accept in (
        "Text/HTML", "TEXT/XML; charset=utf-8", "Image/SVG+XML", "model/x3d+xml", "model/*",
        "model/stl+xml",
        "application/pdf+xml", "text/html; type=application/pdf",
        'multipart/related; type="text/xml"',
        'multipart/related; type="Image/SVG+xml"', 'multipart/mixed; type="application/pdf"',
        "application/pdfx")),
]  # fmt: skip
MALFORMED = [
    "x", "/", "a/", "/b", "a/b/c", "a b/c", "a/b c/d", "a/b;q", "a/b;q=", "a/b;q=2", "a/b;q=1.1",
    "a/b;q=-1",
    "a/b;q=0.1234", "a/b;q=a", "a/b;q=1;q=1", "a/b;type=x;TYPE=y", 'a/b;type="x', 'a/b;type="x"y',
    'a/b;"x"=y',
    "a/b;type=x y", "a/b;transfer-syntax=x", "a/b;transfer-syntax=1.2/..", "a/b;transfer-syntax=",
    'a/b;transfer-syntax="1 2"', "a/b;transfer-syntax=" + "1" * 65, "a/b;=x", "a/b\r\nX: y",
    "a/b\x00", "ａ/b",
    'a/b;type="a\\"b"', 'a/b;type="é"', "a/b@c", "(a)/b",
    ", ".join(["a/b"] * (MAXIMUM_RANGES + 1)), "a/b;" + "x" * MAXIMUM_LENGTH,
]  # fmt: skip
# Accept headers with which a study is answered with a ZIP, and others.
ZIPS: dict[str | None, bool] = {
    **dict.fromkeys((
        "application/zip", "Application/ZIP", "application/zip;transfer-syntax=*",
        "application/zip;q=0.001", "text/html, application/zip;q=0.2",
        "application/zip, */*", "*/*, application/zip", "*, application/zip",
        "application/zip, */*;q=0.8", "application/zip, multipart/*",
        f"application/zip, {AS_STORED}", f"{AS_STORED};q=0.5, application/zip;q=0.6",
    ), True),
    **dict.fromkeys((
        None, "", "*/*", "multipart/*", AS_STORED, f"{AS_STORED}, application/zip",
        f"{AS_STORED};q=0.6, application/zip;q=0.5", "application/zip;q=0.5, */*",
        "application/zip;q=0, */*", "application/zipx, */*",
    ), False),
}  # fmt: skip
JSON_ANSWERS: dict[str | None, bool] = {
    None: True, "": True, "*/*": True, "application/*": True, "application/json": True,
    "application/dicom+json": True,
    "application/dicom+json, application/json": True, "Application/JSON; charset=utf-8": True,
    "text/html, */*;q=0.1": True, "application/dicom+json;q=0, */*": True,
    "application/dicom+xml": False, "multipart/related; type=application/dicom+xml": False,
    "image/*": False,
    "*/*;q=0": False, "*/*;q=0.0": False,
    "application/json;q=0.00, application/dicom+json;q=0.000": False,
    "application/jsonp": False, "text/json": False, "json/application": False,
}  # fmt: skip

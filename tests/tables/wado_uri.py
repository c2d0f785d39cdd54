"""WADO-URI queries and what is asked of the archive for each."""

from sidecar.dicomweb.paths import Kind

AS_STORED = "application/dicom; transfer-syntax=*"
ASKED: dict[str,
    tuple[list[tuple[str, str]], str | None, Kind, str, tuple[tuple[str, str], ...]]] = {
    "nothing more": ([], None, Kind.RENDERED, "image/jpeg", ()),
    "any": ([], "*/*", Kind.RENDERED, "image/jpeg", ()),
    "by header": ([], "image/png", Kind.RENDERED, "image/png", ()),
    "DICOM": ([("contentType", "application/dicom")], "image/png", Kind.INSTANCE, AS_STORED, ()),
    "DICOM by header": ([], "application/dicom", Kind.INSTANCE, AS_STORED, ()),
    "DICOM first": ([("contentType", "application/dicom,image/jpeg")], None, Kind.INSTANCE,
        AS_STORED, ()),
    "transcoded": (
        [("contentType", "application/dicom"), ("transferSyntax", "1.2.840.10008.1.2.1")], None,
        Kind.INSTANCE,
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1", ()),
    "both sizes": (
        [("rows", "100"), ("columns", "200")], None, Kind.RENDERED, "image/jpeg",
        (("viewport", "200,100"),)),
    "rows": ([("rows", "100")], None, Kind.RENDERED, "image/jpeg", (("viewport", "100,100"),)),
    "columns": ([("columns", "200")], None, Kind.RENDERED, "image/jpeg",
        (("viewport", "200,200"),)),
    "window": ([("windowCenter", "-40.5"), ("windowWidth", "+400")], None, Kind.RENDERED,
        "image/jpeg",
               (("window", "-40.5,400,linear"),)),
    "quality, annotation": ([("imageQuality", "80"), ("annotation", "patient,technique")], None,
        Kind.RENDERED,
                            "image/jpeg", (("quality", "80"), ("annotation", "patient,technique"))),
    "unknown ones": ([("charset", "UTF-8"), ("x", "1"), ("x", "2")], None, Kind.RENDERED,
        "image/jpeg", ()),
}  # fmt: skip

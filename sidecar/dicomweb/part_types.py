"""The media types that a retrieval of each kind may have (PS3.18 8.7.3, 10.4.3)."""

from sidecar.dicomweb.paths import OBJECTS, Kind

DRAWN = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
DRAWN_TYPES = frozenset(
    "image/* image/jpeg image/png image/gif image/jp2 video/* video/mp4 video/mpeg video/h265"  # noqa: SIM905
    " application/pdf".split()
)
# Of frames and bulk data, with the older names that archives still write. A fixed list: what a
# browser would run (SVG, other XML) can never be among them.
_PIXEL_TYPES = frozenset(
    "image/dicom-rle image/gif image/jls image/jp2 image/jpeg image/jph image/jphc image/jpx"  # noqa: SIM905
    " image/jxl image/png image/tiff image/x-dicom-rle image/x-jls video/h264 video/h265 video/mp4"
    " video/mpeg video/mpeg2 video/mpeg4 video/quicktime".split()
)
_PIXEL_RANGES = frozenset({"image/*", "video/*"})
DOCUMENT_TYPES = ("application/pdf", "model/stl", "model/obj", "model/mtl")
"""Media types of encapsulated documents that pass (PS3.3 C.24.2): what no browser runs.

HTML and XML (CDA) do not.
"""
DICOM, OCTETS = "application/dicom", "application/octet-stream"


def may_be_part(media_type: str, kind: Kind) -> bool:
    """Return whether a part of an answer of this kind may have this media type.

    It is in lower case, without parameters.
    """
    if kind in OBJECTS:
        return media_type == DICOM
    if media_type in DOCUMENT_TYPES:
        return kind is Kind.BULKDATA or (kind is Kind.RENDERED and media_type == "application/pdf")
    return media_type in _PIXEL_TYPES or (media_type == OCTETS and kind not in DRAWN)


def may_be_asked_for(media_type: str, kind: Kind) -> bool:
    """Return whether such a part may be asked for, by its media type or by a range of types."""
    return may_be_part(media_type, kind) or (kind not in OBJECTS and media_type in _PIXEL_RANGES)


def names_markup(value: str) -> bool:
    """Return whether a parameter names HTML, SVG or other XML.

    A lax reader could take it for the type.
    """
    return any(word in value.lower() for word in ("html", "xml", "svg"))

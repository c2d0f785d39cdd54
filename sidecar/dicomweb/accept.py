"""The client's Accept header, taken apart and built anew for the PACS (PS3.18 8.7.

RFC 9110 12.5.1).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sidecar.common.errors import BadRequest, NotAcceptable
from sidecar.dicomweb.media_type import MediaType, parse_media_type, split_outside_quotes
from sidecar.dicomweb.paths import OBJECTS, Kind, Retrieval

MAXIMUM_LENGTH = 2_048
MAXIMUM_RANGES = 20

_TRANSFER_SYNTAX = re.compile(r"\*|[0-9.]{1,64}", re.ASCII)
# RFC 9110 12.4.2, and ".2" as Java writes it.
_QUALITY = re.compile(r"0?\.[0-9]{1,3}|0\.?|1(?:\.0{0,3})?", re.ASCII)

DRAWN = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
_DRAWN_TYPES = frozenset(
    {
        "image/*",
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/jp2",
        "video/*",
        "video/mp4",
        "video/mpeg",
        "video/h265",
    }
    | {"application/pdf"}
)
# Of frames and bulk data: PS3.18 8.7.3 and 10.4.3, and the older names that archives still write. A
# fixed list: what a browser would run (SVG, other XML) can never be among them.
_PIXEL_TYPES = frozenset(
    "image/" + name
    for name in (
        "dicom-rle",
        "gif",
        "jls",
        "jp2",
        "jpeg",
        "jph",
        "jphc",
        "jpx",
        "jxl",
        "png",
        "tiff",
        "x-dicom-rle",
        "x-jls",
    )
) | frozenset(
    "video/" + name for name in ("h264", "h265", "mp4", "mpeg", "mpeg2", "mpeg4", "quicktime")
)
_PIXEL_RANGES = frozenset({"image/*", "video/*"})
DOCUMENT_TYPES = ("application/pdf", "model/stl", "model/obj", "model/mtl")
"""Media types of encapsulated documents that pass (PS3.3 C.24.2): what no browser runs.

HTML and XML (CDA) do not.
"""
_OCTETS = "application/octet-stream"
_LEAST_WANTED = 0.1
"""Weight of what is asked for only where the archive does not have what the client named."""
DICOM_JSON, PLAIN_JSON, ZIP = "application/dicom+json", "application/json", "application/zip"
JSON_TYPES = frozenset({DICOM_JSON, PLAIN_JSON})


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header, lower-cased; ``parameters`` without ``q``."""

    media_type: str
    parameters: tuple[tuple[str, str], ...] = ()
    quality: str | None = None

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, or ``None``."""
        return dict(self.parameters).get(name)

    def is_refused(self) -> bool:
        """Whether the client says that it does not want this (a weight of 0)."""
        return self.quality is not None and float(self.quality) == 0

    def __str__(self) -> str:
        return f"{MediaType(self.media_type, self.parameters)}" + (
            f";q={self.quality}" if self.quality else ""
        )


def parse_accept(accept: str) -> list[MediaRange]:
    """Return the media ranges of an Accept header, those left out that are malformed.

    Raises ``BadRequest`` when none is left of some, and for a header that is too long or has too
    many.
    """
    if len(accept) > MAXIMUM_LENGTH:
        raise _malformed()
    elements = [element for element in split_outside_quotes(accept, ",") if element]
    if len(elements) > MAXIMUM_RANGES:
        raise _malformed()
    found = [one for element in elements if (one := _media_range(element)) is not None]
    if elements and not found:
        raise _malformed()
    return found


def _media_range(element: str) -> MediaRange | None:
    # Java's HttpURLConnection writes "*" for "*/*".
    head, semicolon, rest = element.partition(";")
    try:
        found = parse_media_type("*/*" + semicolon + rest if head.strip() == "*" else element)
    except ValueError:
        return None
    quality = found.parameter("q")
    if quality is not None and not _QUALITY.fullmatch(quality):
        return None
    if not _TRANSFER_SYNTAX.fullmatch(found.parameter("transfer-syntax") or "*"):
        return None
    parameters = tuple((name, value) for name, value in found.parameters if name != "q")
    return MediaRange(
        found.name, parameters, "0" + quality if quality and quality.startswith(".") else quality
    )


def _malformed() -> BadRequest:
    return BadRequest("The Accept header is malformed.", reason="bad_accept")


def accepts_json(accept: str | None, types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies the Accept header, if there is one."""
    return accept_json(parse_accept(accept or ""), types)


def accept_json(ranges: Sequence[MediaRange], types: frozenset[str] = JSON_TYPES) -> bool:
    """Return whether one of these JSON media types satisfies ``ranges``; no range accepts all."""
    return not ranges or any(
        one.media_type in types | {"*/*", "application/*"} and not one.is_refused()
        for one in ranges
    )


@dataclass(frozen=True, slots=True)
class AcceptedTypes:
    """What a client's Accept header means for one retrieval.

    ``upstream``: the Accept header for the PACS. ``unwrap``: one thing alone is wanted, and not as
    a multipart. ``zipped``: a ZIP is preferred to a multipart.
    """

    upstream: str
    unwrap: bool
    zipped: bool


def accepted_types(
    accept: str | None, retrieval: Retrieval, *, one_range: bool = False
) -> AcceptedTypes:
    """Parse the Accept header of a retrieval. Raises what ``upstream_accept`` raises."""
    ranges = parse_accept(accept or "")
    return AcceptedTypes(
        _upstream(ranges, retrieval, one_range=one_range),
        is_single(ranges, retrieval),
        prefers_zip(ranges, retrieval),
    )


def upstream_accept(accept: str | None, retrieval: Retrieval, *, one_range: bool = False) -> str:
    """Return the Accept header for the PACS.

    Raises ``NotAcceptable`` when nothing that we can vouch for is left.

    XML and SVG are not passed on: they run as script in a browser. The archive's own ZIP cannot be
    checked, either: ours is made of a multipart (``AcceptedTypes.zipped``).
    ``one_range``: the PACS reads no list and no weights; it gets the best of the ranges.
    """
    return _upstream(parse_accept(accept or ""), retrieval, one_range=one_range)


def _upstream(ranges: Sequence[MediaRange], retrieval: Retrieval, *, one_range: bool) -> str:
    if retrieval.kind is Kind.METADATA:
        if not accept_json(ranges):
            raise _not_acceptable(DICOM_JSON)
        return DICOM_JSON
    built = _built(ranges, retrieval)
    if not built:
        offers = (_default(retrieval.kind).media_type, *_zip_types(retrieval.kind))
        raise _not_acceptable(" or ".join(offers))
    if one_range:
        return str(_best(built, retrieval.kind))
    return ", ".join(dict.fromkeys(map(str, built)))


def _built(accepted: Sequence[MediaRange], retrieval: Retrieval) -> list[MediaRange]:
    ranges = accepted or [MediaRange("*/*")]
    built = [
        found
        for one in ranges
        if not one.is_refused() and (found := _usable(one, retrieval)) is not None
    ]
    if retrieval.kind is Kind.RENDERED and not retrieval.frames:
        built += _also_gif(ranges)
    single = retrieval.kind not in OBJECTS and _want_single(built, retrieval)
    if single:
        # As a multipart, too: Orthanc and dcm4chee have no other form of them. It is unwrapped
        # (``AcceptedTypes.unwrap``).
        built = [same for one in built for same in (*_in_multipart(one), one)]
    if retrieval.kind is Kind.BULKDATA:
        built += _any_document(ranges) + _documents_as_octets(built, single=single)
    return built


def _any_document(ranges: Sequence[MediaRange]) -> list[MediaRange]:
    """The encapsulated documents, where a range leaves the type of bulk data open: dcm4chee has them by name alone."""
    refused = {one.media_type for one in ranges if one.is_refused()}
    weights = [one.quality for one in ranges if not one.is_refused() and _leaves_type_open(one)]
    types = [name for name in DOCUMENT_TYPES if name not in refused] if weights else []
    return [MediaRange("multipart/related", (("type", name),), weights[0]) for name in types]


def _leaves_type_open(one: MediaRange) -> bool:
    if one.media_type == "multipart/related":
        return one.parameter("type") in (None, "*/*") and one.parameter("transfer-syntax") is None
    return one.media_type in ("*/*", "multipart/*")


def _documents_as_octets(built: Sequence[MediaRange], *, single: bool) -> list[MediaRange]:
    """The same documents by the name that says nothing of what they are: Orthanc has no other form of bulk data."""
    types = [one.parameter("type") or one.media_type for one in built]
    weights = [
        float(one.quality or 1)
        for one, name in zip(built, types, strict=True)
        if name in DOCUMENT_TYPES
    ]
    if not weights or _OCTETS in types:
        return []
    octets = MediaRange(_OCTETS, (), f"{min(*weights, _LEAST_WANTED):g}")
    return [*_in_multipart(octets), *([octets] if single else [])]


def _also_gif(ranges: Sequence[MediaRange]) -> list[MediaRange]:
    """GIF, where anything is accepted: dcm4chee draws an image of several frames in no other form.

    With a tenth of the weight: it has 256 colors only.
    """
    anything = next(
        (one for one in ranges if one.media_type == "*/*" and not one.is_refused()), None
    )
    if anything is None or any(one.media_type == "image/gif" for one in ranges):
        return []
    return [MediaRange("image/gif", (), f"{max(float(anything.quality or 1) / 10, 0.001):.3g}")]


def _in_multipart(one: MediaRange) -> tuple[MediaRange, ...]:
    if one.media_type not in (_OCTETS, *DOCUMENT_TYPES):
        return ()
    return (
        replace(
            one,
            media_type="multipart/related",
            parameters=(("type", one.media_type), *one.parameters),
        ),
    )


def _best(built: Sequence[MediaRange], kind: Kind) -> MediaRange:
    """The range that an archive most probably has, without a weight."""

    def rank(one: MediaRange) -> tuple[bool, bool, float, bool, bool]:
        weight = -float(one.quality or 1)
        if kind in DRAWN:
            return (
                one.media_type not in ("image/jpeg", "image/png", "image/*"),
                False,
                weight,
                False,
                False,
            )
        # What is stored costs the archive least; a document Orthanc has as octets alone.
        stored, wanted = (
            one.parameter("transfer-syntax") == "*",
            one.parameter("type") or one.media_type,
        )
        is_document = wanted in DOCUMENT_TYPES
        return (
            one.media_type != "multipart/related",
            is_document,
            weight,
            not stored,
            wanted != _OCTETS,
        )

    best = min(built, key=rank)
    return replace(
        best,
        media_type="image/jpeg" if best.media_type == "image/*" else best.media_type,
        quality=None,
    )


def is_single(accepted: Sequence[MediaRange], retrieval: Retrieval) -> bool:
    """Return whether ``application/dicom`` or octets are wanted, and a multipart is not taken."""
    ranges = _not_refused(accepted)
    if retrieval.kind in OBJECTS:
        ranges = [one for one in ranges if _usable(one, retrieval) is not None]
        return bool(ranges) and all(_is_single(one, retrieval.kind) for one in ranges)
    return _want_single(
        [found for one in ranges if (found := _usable(one, retrieval)) is not None], retrieval
    )


def _want_single(usable: Sequence[MediaRange], retrieval: Retrieval) -> bool:
    """Whether one value or frame is wanted as octets, of ranges that are usable."""
    if retrieval.kind in DRAWN or len(retrieval.frames) > 1:
        return False
    types = {one.media_type for one in usable}
    return not types.isdisjoint((_OCTETS, *DOCUMENT_TYPES)) and "multipart/related" not in types


def _is_single(one: MediaRange, kind: Kind) -> bool:
    return kind is Kind.INSTANCE and one.media_type in ("application/dicom", "application/*")


def prefers_zip(accepted: Sequence[MediaRange], retrieval: Retrieval) -> bool:
    """Return whether a ZIP of the study or series is preferred to a multipart (RFC 9110 12.4.2).

    Of ranges with the same weight the first one counts, and wildcards come last.
    """
    ranges = [one for one in _not_refused(accepted) if _usable(one, retrieval) is not None]

    def rank(one: MediaRange) -> tuple[float, bool]:
        return float(one.quality or 1), "*" not in one.media_type

    best = max(ranges, key=rank, default=None)
    return best is not None and best.media_type in _zip_types(retrieval.kind)


def _not_refused(ranges: Sequence[MediaRange]) -> list[MediaRange]:
    return [one for one in ranges if not one.is_refused()]


def _zip_types(kind: Kind) -> tuple[str, ...]:
    return (ZIP,) if kind in (Kind.STUDY, Kind.SERIES) else ()


def _not_acceptable(offer: str) -> NotAcceptable:
    return NotAcceptable(
        f"The Accept header allows nothing that this resource has; try {offer}.", reason="accept"
    )


def _default(kind: Kind) -> MediaRange:
    if kind in OBJECTS:
        # As stored (SIA-40): the default transfer syntax would have the PACS decompress everything.
        return MediaRange(
            "multipart/related", (("type", "application/dicom"), ("transfer-syntax", "*"))
        )
    if kind in DRAWN:
        return MediaRange("image/jpeg")
    # As stored here, too: else the PACS decompresses all frames for one.
    return MediaRange("multipart/related", (("type", _OCTETS), ("transfer-syntax", "*")))


def _usable(one: MediaRange, retrieval: Retrieval) -> MediaRange | None:
    kind = retrieval.kind
    default = replace(_default(kind), quality=one.quality)
    if one.media_type == "*/*":
        return default
    kept = tuple((name, value) for name, value in one.parameters if name == "transfer-syntax")
    cleaned = MediaRange(one.media_type, kept, one.quality)
    if kind in DRAWN:
        return _drawn(one, kind)
    if one.media_type == "multipart/*":
        return default
    if one.media_type == "multipart/related":
        return _multipart(one, kind, default)
    if kind in OBJECTS:
        if one.media_type in _zip_types(kind) and one.parameter("transfer-syntax") is None:
            return default  # As stored: a browser that downloads a ZIP names no transfer syntax.
        if _is_single(one, kind) or one.media_type in _zip_types(kind):
            # Asked for as a multipart, which each archive has; Orthanc has no other form. It is
            # unwrapped (``AcceptedTypes.unwrap``).
            return replace(default, parameters=(("type", "application/dicom"), *kept))
        return None
    if one.media_type == "application/*":
        return MediaRange(
            _OCTETS, (("transfer-syntax", one.parameter("transfer-syntax") or "*"),), one.quality
        )
    return cleaned if _may_be_asked_for(one.media_type, kind) else None


def _multipart(one: MediaRange, kind: Kind, default: MediaRange) -> MediaRange | None:
    wanted, syntax = (one.parameter("type") or "*/*").lower(), one.parameter("transfer-syntax")
    if wanted in ("*/*", "application/*"):  # dicomweb-client asks for frames so.
        if syntax is None:
            return default
        wanted = str(default.parameter("type"))
    if not _may_be_asked_for(wanted, kind):
        return None
    named = () if syntax is None else (("transfer-syntax", syntax),)
    return MediaRange(one.media_type, (("type", wanted), *named), one.quality)


def _drawn(one: MediaRange, kind: Kind) -> MediaRange | None:
    if one.media_type in _DRAWN_TYPES:
        return MediaRange(one.media_type, (), one.quality)
    # Several images, or the frames of one: a part each (PS3.18 8.7.4). A thumbnail is always one.
    wanted = (one.parameter("type") or "").lower()
    if kind is Kind.RENDERED and one.media_type == "multipart/related" and wanted in _DRAWN_TYPES:
        return MediaRange(one.media_type, (("type", wanted),), one.quality)
    return None


def may_be_part(media_type: str, kind: Kind) -> bool:
    """Whether a part of a multipart answer of this kind may have this media type (lower case, no parameters)."""
    if kind in OBJECTS:
        return media_type == "application/dicom"
    if media_type in DOCUMENT_TYPES:
        return kind is Kind.BULKDATA or (kind is Kind.RENDERED and media_type == "application/pdf")
    return media_type in _PIXEL_TYPES or (media_type == _OCTETS and kind not in DRAWN)


def names_markup(value: str) -> bool:
    """Whether a parameter names HTML, SVG or other XML: a lax reader could take it for the type."""
    return any(word in value.lower() for word in ("html", "xml", "svg"))


def _may_be_asked_for(media_type: str, kind: Kind) -> bool:
    return may_be_part(media_type, kind) or (kind not in OBJECTS and media_type in _PIXEL_RANGES)

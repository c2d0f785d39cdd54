"""The Accept header for the PACS, built anew from the client's (PS3.18 8.7)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sidecar.common.errors import NotAcceptable
from sidecar.dicomweb.media_types import (
    ANYTHING,
    DICOM,
    DICOM_JSON,
    DOCUMENT_TYPES,
    DRAWN,
    DRAWN_TYPES,
    OCTETS,
    ZIP,
    MediaRange,
    accept_json,
    may_be_asked_for,
    media_ranges,
)
from sidecar.dicomweb.paths import OBJECTS, Kind, Retrieval

_RELATED = "multipart/related"
_LEAST_WANTED = 0.1
"""Weight of a form to fall back on when the archive lacks the forms that the client named."""


@dataclass(frozen=True, slots=True)
class AcceptedTypes:
    """The meaning of a client's Accept header for a retrieval.

    ``upstream`` is the Accept header for the PACS. ``unwrap``: the client wants a single instance
    or value without a multipart. ``zipped``: it prefers a ZIP to a multipart.
    """

    upstream: str
    unwrap: bool
    zipped: bool


def accepted_types(
    accept: str | None, retrieval: Retrieval, *, one_range: bool = False
) -> AcceptedTypes:
    """Return the meaning of the Accept header of a retrieval.

    XML and SVG are not asked for: a browser may run them as script. Nor is ZIP, because the
    archive's own ZIP cannot be checked: ours is made of a multipart. ``one_range``: the PACS reads
    no list and no weights, and gets the best of the ranges. Raises ``NotAcceptable`` when no form
    that can be checked is left, and ``BadRequest``.
    """
    return _accepted_types(accept, retrieval.kind, min(len(retrieval.frames), 2), one_range)


@lru_cache(maxsize=256)
def _accepted_types(
    accept: str | None, kind: Kind, frame_count: int, one_range: bool
) -> AcceptedTypes:
    """Return what ``accepted_types`` does. A ``frame_count`` of 2 is of two frames and more.

    An app sends the same header each time, and to parse it takes 50 µs.
    """
    ranges = media_ranges(accept)
    return AcceptedTypes(
        _upstream(ranges, kind, frame_count, one_range=one_range),
        is_single(ranges, kind, frame_count),
        prefers_zip(ranges, kind),
    )


def _upstream(
    accepted: Sequence[MediaRange], kind: Kind, frame_count: int, *, one_range: bool
) -> str:
    if kind is Kind.METADATA:
        if not accept_json(accepted):
            raise _not_acceptable(DICOM_JSON)
        return DICOM_JSON
    ranges = _upstream_ranges(accepted, kind, frame_count)
    if not ranges:
        offers = (_default(kind).name, *_zip_types(kind))
        raise _not_acceptable(" or ".join(offers))
    if one_range:
        return str(_best(ranges, kind))
    return ", ".join(dict.fromkeys(map(str, ranges)))


def is_single(accepted: Sequence[MediaRange], kind: Kind, frame_count: int) -> bool:
    """Return whether the client wants a single ``application/dicom`` or value, no multipart."""
    usable = _usable_of(accepted, kind)
    if kind in OBJECTS:
        return bool(usable) and all(_is_instance(media_range, kind) for media_range, _ in usable)
    return _want_single([upstream for _, upstream in usable], kind, frame_count)


def prefers_zip(accepted: Sequence[MediaRange], kind: Kind) -> bool:
    """Return whether the client prefers a ZIP of the study or series to a multipart.

    Among ranges of the same weight the first counts, and wildcards come last (RFC 9110 12.4.2).
    """

    def rank(media_range: MediaRange) -> tuple[float, bool]:
        return media_range.weight, "*" not in media_range.name

    usable = _usable_of(accepted, kind)
    best = max((media_range for media_range, _ in usable), key=rank, default=ANYTHING)
    return best.name in _zip_types(kind)


def _upstream_ranges(
    accepted: Sequence[MediaRange], kind: Kind, frame_count: int
) -> list[MediaRange]:
    ranges = [upstream for _, upstream in _usable_of(accepted, kind)]
    if kind is Kind.RENDERED and not frame_count:
        ranges += _also_gif(accepted)
    single = kind not in OBJECTS and _want_single(ranges, kind, frame_count)
    if single:
        # A multipart is acceptable, too, and unwrapped then (``is_single``): Orthanc and dcm4chee
        # have no other form of a single value.
        ranges = [form for upstream in ranges for form in (*_in_multipart(upstream), upstream)]
    if kind is Kind.BULKDATA:
        ranges += _any_document(accepted) + _documents_as_octets(ranges, single=single)
    return ranges


def _usable_of(ranges: Sequence[MediaRange], kind: Kind) -> list[tuple[MediaRange, MediaRange]]:
    """Return each acceptable range that can be served, with the range for the archive."""
    return [
        (media_range, upstream)
        for media_range in ranges
        if media_range.weight and (upstream := _usable(media_range, kind)) is not None
    ]


def _any_document(accepted: Sequence[MediaRange]) -> list[MediaRange]:
    """Return ranges for encapsulated documents, where a range leaves the type of bulk data open.

    dcm4chee returns documents for their own media type alone.
    """
    refused = {media_range.name for media_range in accepted if not media_range.weight}
    opened = [one.quality for one in accepted if one.weight and _leaves_type_open(one)]
    types = [name for name in DOCUMENT_TYPES if name not in refused] if opened else []
    return [MediaRange(_RELATED, (("type", name),), opened[0]) for name in types]


def _leaves_type_open(media_range: MediaRange) -> bool:
    if media_range.name == _RELATED:
        return (
            media_range.parameter("type") in (None, "*/*")
            and media_range.parameter("transfer-syntax") is None
        )
    return media_range.name in ("*/*", "multipart/*")


def _documents_as_octets(ranges: Sequence[MediaRange], *, single: bool) -> list[MediaRange]:
    """Return octets for requested documents: Orthanc has no other form of bulk data."""
    types = [_part_type(upstream) for upstream in ranges]
    weights = [
        upstream.weight
        for upstream, name in zip(ranges, types, strict=True)
        if name in DOCUMENT_TYPES
    ]
    if not weights or OCTETS in types:
        return []
    octets = MediaRange(OCTETS, (), f"{min(*weights, _LEAST_WANTED):g}")
    return [*_in_multipart(octets), *([octets] if single else [])]


def _part_type(upstream: MediaRange) -> str:
    return upstream.parameter("type") or upstream.name


def _also_gif(accepted: Sequence[MediaRange]) -> list[MediaRange]:
    """Return GIF, where anything is accepted: dcm4chee draws several frames in no other form.

    It has a tenth of the weight, because GIF has 256 colors.
    """
    weights = [
        media_range.weight
        for media_range in accepted
        if media_range.name == "*/*" and media_range.weight
    ]
    if not weights or any(media_range.name == "image/gif" for media_range in accepted):
        return []
    return [MediaRange("image/gif", (), f"{max(weights[0] / 10, 0.001):.3g}")]


def _in_multipart(upstream: MediaRange) -> tuple[MediaRange, ...]:
    if upstream.name not in (OCTETS, *DOCUMENT_TYPES):
        return ()
    parameters = (("type", upstream.name), *upstream.parameters)
    return (replace(upstream, name=_RELATED, parameters=parameters),)


def _best(ranges: Sequence[MediaRange], kind: Kind) -> MediaRange:
    """Return the range that an archive most probably has, without a weight."""

    def rank_drawn(upstream: MediaRange) -> tuple[bool, float]:
        return upstream.name not in ("image/jpeg", "image/png", "image/*"), -upstream.weight

    def rank(upstream: MediaRange) -> tuple[bool, bool, float, bool, bool]:
        # The stored form costs the archive least. Orthanc has documents as octets alone.
        is_stored, name = upstream.parameter("transfer-syntax") == "*", _part_type(upstream)
        return (
            upstream.name != _RELATED,
            name in DOCUMENT_TYPES,
            -upstream.weight,
            not is_stored,
            name != OCTETS,
        )

    best = min(ranges, key=rank_drawn) if kind in DRAWN else min(ranges, key=rank)
    drawn = "image/jpeg" if best.name == "image/*" else best.name
    return replace(best, name=drawn, quality=None)


def _want_single(ranges: Sequence[MediaRange], kind: Kind, frame_count: int) -> bool:
    """Return whether usable ranges want a single value or frame without a multipart."""
    if kind in DRAWN or frame_count > 1:
        return False
    types = {upstream.name for upstream in ranges}
    return not types.isdisjoint((OCTETS, *DOCUMENT_TYPES)) and _RELATED not in types


def _is_instance(media_range: MediaRange, kind: Kind) -> bool:
    return kind is Kind.INSTANCE and media_range.name in (DICOM, "application/*")


def _zip_types(kind: Kind) -> tuple[str, ...]:
    return (ZIP,) if kind in (Kind.STUDY, Kind.SERIES) else ()


def _not_acceptable(offer: str) -> NotAcceptable:
    return NotAcceptable(
        f"The Accept header allows nothing that this resource has; try {offer}.", reason="accept"
    )


def _default(kind: Kind) -> MediaRange:
    if kind in DRAWN:
        return MediaRange("image/jpeg")
    # As stored (SIA-40): for the default transfer syntax the PACS would decompress everything, all
    # frames for a single one.
    name = DICOM if kind in OBJECTS else OCTETS
    return MediaRange(_RELATED, (("type", name), ("transfer-syntax", "*")))


def _usable(media_range: MediaRange, kind: Kind) -> MediaRange | None:
    """Return the range for the archive; ``None``: nothing of this range can be served."""
    default = replace(_default(kind), quality=media_range.quality)
    if media_range.name == "*/*":
        return default
    if kind in DRAWN:
        return _drawn(media_range, kind)
    if media_range.name == "multipart/*":
        return default
    if media_range.name == _RELATED:
        return _multipart(media_range, kind, default)
    syntax = media_range.parameter("transfer-syntax")
    named = _transfer_syntax(syntax)
    if kind in OBJECTS:
        is_zip = media_range.name in _zip_types(kind)
        if is_zip and syntax is None:
            return default  # As stored, because a browser's download names no transfer syntax.
        if is_zip or _is_instance(media_range, kind):
            # Each archive has a multipart, and Orthanc no other form. ``is_single`` unwraps it.
            return replace(default, parameters=(("type", DICOM), *named))
        return None
    if media_range.name == "application/*":
        return MediaRange(OCTETS, _transfer_syntax(syntax or "*"), media_range.quality)
    if not may_be_asked_for(media_range.name, kind):
        return None
    return MediaRange(media_range.name, named, media_range.quality)


def _transfer_syntax(syntax: str | None) -> tuple[tuple[str, str], ...]:
    return () if syntax is None else (("transfer-syntax", syntax),)


def _multipart(media_range: MediaRange, kind: Kind, default: MediaRange) -> MediaRange | None:
    name = (media_range.parameter("type") or "*/*").lower()
    syntax = media_range.parameter("transfer-syntax")
    if name in ("*/*", "application/*"):  # dicomweb-client asks for frames so.
        if syntax is None:
            return default
        name = _part_type(default)
    if not may_be_asked_for(name, kind):
        return None
    return MediaRange(_RELATED, (("type", name), *_transfer_syntax(syntax)), media_range.quality)


def _drawn(media_range: MediaRange, kind: Kind) -> MediaRange | None:
    if media_range.name in DRAWN_TYPES:
        return MediaRange(media_range.name, (), media_range.quality)
    # Several images or frames are a part each (PS3.18 8.7.4). A thumbnail is always one image.
    name = (media_range.parameter("type") or "").lower()
    if kind is Kind.RENDERED and media_range.name == _RELATED and name in DRAWN_TYPES:
        return MediaRange(_RELATED, (("type", name),), media_range.quality)
    return None

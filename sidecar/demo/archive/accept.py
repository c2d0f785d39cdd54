"""Choice of the representation that the client accepts (PS3.18 8.7), without I/O.

The functions raise ``NotAcceptable`` when there is none. The parser of the Accept header is the
sidecar's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from sidecar.common.errors import NotAcceptable
from sidecar.dicomweb.media_types import MediaRange, parse_accept

ANY_SYNTAX = "*"
OCTET_STREAM = "application/octet-stream"
DRAWN_TYPES = ("image/jpeg", "image/png", "image/gif")
"""Media types of rendered images; the first is the default."""

_MULTIPART = frozenset({"multipart/related", "multipart/*", "*/*"})

# PS3.18 tables 8.7.3-2, -4 and -5: the media type of a compressed frame, by transfer syntax.
_FRAME_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


@dataclass(frozen=True, slots=True)
class ObjectForm:
    """Form of whole instances: in a multipart or alone, in one of ``syntaxes``.

    Without ``syntaxes`` it is the default transfer syntax (PS3.18 8.7.3.5).
    """

    multipart: bool
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataForm:
    """Form of frames or bulk data: in a multipart or alone, as ``stored`` or decompressed."""

    multipart: bool
    media_type: str
    stored: bool


def media_ranges(accept: str | None) -> list[MediaRange]:
    """Return the media ranges of an Accept header by preference, without those of quality 0.

    Raises ``BadRequest``.
    """
    ranges = parse_accept(accept or "") or [MediaRange("*/*")]
    by_preference = sorted(ranges, key=lambda media_range: -media_range.weight)
    return [media_range for media_range in by_preference if media_range.weight]


def choose_object_form(ranges: Sequence[MediaRange], *, one_instance: bool) -> ObjectForm:
    """Return the form of a study, a series or (``one_instance``) an instance."""
    for multipart in (True, False):
        syntaxes = [
            media_range.parameter("transfer-syntax") or ""
            for media_range in ranges
            if (
                _is_multipart_of(media_range, "application/dicom")
                if multipart
                else media_range.name == "application/dicom"
            )
        ]
        if syntaxes and (multipart or one_instance):
            # A range may leave the transfer syntax open.
            return ObjectForm(multipart, tuple(syntaxes) if all(syntaxes) else ())
    raise _refused('multipart/related; type="application/dicom"')


def choose_object_syntax(stored: UID, requested: Sequence[str], *, decodable: bool) -> UID:
    """Return the transfer syntax of an answer: as stored, or Explicit VR Little Endian.

    Without ``requested`` it is Explicit VR Little Endian if the instance can be converted to it.
    """
    if ANY_SYNTAX in requested or stored in requested:
        return stored
    convertible = decodable and stored != ExplicitVRBigEndian
    if convertible and (not requested or ExplicitVRLittleEndian in requested):
        return ExplicitVRLittleEndian
    if not requested:
        return stored
    raise _refused("transfer-syntax=*")


def choose_frame_form(
    ranges: Sequence[MediaRange], stored: UID, *, decodable: bool, one_part: bool
) -> DataForm:
    """Return the form of frames in this transfer syntax; ``one_part`` may also be sent alone."""
    for media_range in ranges:
        multipart = media_range.name in _MULTIPART
        if not multipart and not one_part:
            continue
        requested = _part_type(media_range) if multipart else media_range.name
        syntax = media_range.parameter("transfer-syntax")
        if stored.is_compressed:
            form = _compressed_form(requested, syntax, stored, decodable=decodable)
        else:
            form = _native_form(requested, syntax, stored)
        if form is not None:
            return DataForm(multipart, *form)
    raise _refused(
        f'multipart/related; type="{_FRAME_TYPES.get(stored, OCTET_STREAM)}"; transfer-syntax=*'
    )


def _native_form(requested: str, syntax: str | None, stored: UID) -> tuple[str, bool] | None:
    is_native = syntax in (None, ANY_SYNTAX, ExplicitVRLittleEndian, stored)
    return (OCTET_STREAM, False) if is_native and _covers(requested, OCTET_STREAM) else None


def _compressed_form(
    requested: str, syntax: str | None, stored: UID, *, decodable: bool
) -> tuple[str, bool] | None:
    stored_type = _FRAME_TYPES.get(stored, OCTET_STREAM)
    as_stored = syntax in (ANY_SYNTAX, stored)
    if _covers(requested, OCTET_STREAM) and syntax in (None, ExplicitVRLittleEndian) and decodable:
        return OCTET_STREAM, False
    if _covers(requested, stored_type) and (as_stored or syntax is None):
        return stored_type, True
    # The stored bytes may also be sent under the general media type.
    return (stored_type, True) if as_stored and requested == OCTET_STREAM else None


def choose_bulkdata_form(ranges: Sequence[MediaRange], *, one_part: bool) -> DataForm:
    """Return the form of values that are not pixels; ``one_part`` may also be sent alone."""
    for media_range in ranges:
        if _is_multipart_of(media_range, OCTET_STREAM):
            return DataForm(multipart=True, media_type=OCTET_STREAM, stored=True)
        if one_part and _covers(media_range.name, OCTET_STREAM):
            return DataForm(multipart=False, media_type=OCTET_STREAM, stored=True)
    raise _refused(OCTET_STREAM)


def choose_drawn_form(ranges: Sequence[MediaRange], *, one_image: bool) -> DataForm:
    """Return the form of a rendered resource (PS3.18 8.7.4); ``one_image`` may be sent alone."""
    for media_range in ranges:
        multipart = media_range.name == "multipart/related" or (
            media_range.name == "*/*" and not one_image
        )
        if not multipart and not one_image:
            continue
        requested = _part_type(media_range) if multipart else media_range.name
        for offered in DRAWN_TYPES:
            if _covers(requested, offered):
                return DataForm(multipart, offered, stored=False)
    raise _refused(", ".join(DRAWN_TYPES))


def _is_multipart_of(media_range: MediaRange, media_type: str) -> bool:
    return media_range.name in _MULTIPART and _covers(_part_type(media_range), media_type)


def _part_type(media_range: MediaRange) -> str:
    return (media_range.parameter("type") or "*/*").lower()


def _covers(requested: str, offered: str) -> bool:
    return requested in ("*/*", offered, offered.split("/", 1)[0] + "/*")


def _refused(offer: str) -> NotAcceptable:
    return NotAcceptable(
        f"This resource cannot be had in an acceptable form; try {offer}.", reason="accept"
    )

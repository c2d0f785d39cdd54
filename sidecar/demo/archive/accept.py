"""Which form of a resource does the client accept (PS3.18 8.7)? Pure.

Raises ``NotAcceptable`` when it is none.

Only the reading of the Accept header itself is shared with the sidecar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from sidecar.common.errors import NotAcceptable
from sidecar.dicomweb.accept import MediaRange, parse_accept

ANY_SYNTAX = "*"
OCTET_STREAM = "application/octet-stream"
DRAWN_TYPES = ("image/jpeg", "image/png", "image/gif")
"""What images are drawn in; the first is the default."""

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
    """Whole instances: in a multipart or alone, in one of ``syntaxes`` (none named: the default, PS3.18 8.7.3.5)."""

    multipart: bool
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataForm:
    """Frames or bulk data: in a multipart or alone, each of ``media_type``, as ``stored`` or else decompressed."""

    multipart: bool
    media_type: str
    stored: bool


def media_ranges(accept: str | None) -> list[MediaRange]:
    """The media ranges of an Accept header by preference, without the unwanted.

    Raises ``BadRequest``.
    """
    found = parse_accept(accept or "") or [MediaRange("*/*")]
    by_preference = sorted(found, key=lambda one: -float(one.quality or 1))
    return [one for one in by_preference if float(one.quality or 1) > 0]


def choose_object_form(ranges: Sequence[MediaRange], *, one_instance: bool) -> ObjectForm:
    """Choose for a study, series or (``one_instance``) an instance."""
    for multipart in (True, False):
        syntaxes = [
            one.parameter("transfer-syntax")
            for one in ranges
            if (
                _is_multipart_of(one, "application/dicom")
                if multipart
                else one.media_type == "application/dicom"
            )
        ]
        if syntaxes and (multipart or one_instance):
            # None among them: a range that leaves the transfer syntax open.
            return ObjectForm(
                multipart, tuple(syntax for syntax in syntaxes if syntax) if all(syntaxes) else ()
            )
    raise _refused('multipart/related; type="application/dicom"')


def choose_object_syntax(stored: UID, wanted: Sequence[str], *, decodable: bool) -> UID:
    """The transfer syntax in which an instance goes out: as it is stored, or converted to Explicit VR Little Endian.

    Nothing wanted in particular means Explicit VR Little Endian where we can convert to it,
    otherwise as stored.
    """
    if ANY_SYNTAX in wanted or stored in wanted:
        return stored
    convertible = decodable and stored != ExplicitVRBigEndian
    if convertible and (not wanted or ExplicitVRLittleEndian in wanted):
        return ExplicitVRLittleEndian
    if not wanted:
        return stored
    raise _refused("transfer-syntax=*")


def choose_frame_form(
    ranges: Sequence[MediaRange], stored: UID, *, decodable: bool, one_part: bool
) -> DataForm:
    """Choose for frames stored in this transfer syntax; ``one_part`` may also go out alone."""
    for one in ranges:
        multipart = one.media_type in _MULTIPART
        if not multipart and not one_part:
            continue
        wanted = (one.parameter("type") or "*/*").lower() if multipart else one.media_type
        syntax = one.parameter("transfer-syntax")
        if stored.is_compressed:
            form = _compressed_form(wanted, syntax, stored, decodable=decodable)
        else:
            form = _native_form(wanted, syntax, stored)
        if form is not None:
            return DataForm(multipart, *form)
    raise _refused(
        f'multipart/related; type="{_FRAME_TYPES.get(stored, OCTET_STREAM)}"; transfer-syntax=*'
    )


def _native_form(wanted: str, syntax: str | None, stored: UID) -> tuple[str, bool] | None:
    if _covers(wanted, OCTET_STREAM) and syntax in (
        None,
        ANY_SYNTAX,
        ExplicitVRLittleEndian,
        stored,
    ):
        return OCTET_STREAM, False
    return None


def _compressed_form(
    wanted: str, syntax: str | None, stored: UID, *, decodable: bool
) -> tuple[str, bool] | None:
    stored_type = _FRAME_TYPES.get(stored, OCTET_STREAM)
    as_stored = syntax in (ANY_SYNTAX, stored)
    if _covers(wanted, OCTET_STREAM) and syntax in (None, ExplicitVRLittleEndian) and decodable:
        return OCTET_STREAM, False
    if _covers(wanted, stored_type) and (as_stored or syntax is None):
        return stored_type, True
    # As stored, under the name that says nothing of what it is.
    return (stored_type, True) if as_stored and wanted == OCTET_STREAM else None


def choose_bulkdata_form(ranges: Sequence[MediaRange], *, one_part: bool) -> DataForm:
    """Choose for values that are not pixels."""
    for one in ranges:
        if _is_multipart_of(one, OCTET_STREAM):
            return DataForm(multipart=True, media_type=OCTET_STREAM, stored=True)
        if one_part and _covers(one.media_type, OCTET_STREAM):
            return DataForm(multipart=False, media_type=OCTET_STREAM, stored=True)
    raise _refused(OCTET_STREAM)


def choose_drawn_form(ranges: Sequence[MediaRange], *, one_image: bool) -> DataForm:
    """Choose for a rendered resource (PS3.18 8.7.4): ``one_image`` goes out alone unless a multipart is asked for."""
    for one in ranges:
        multipart = one.media_type == "multipart/related" or (
            one.media_type == "*/*" and not one_image
        )
        if not multipart and not one_image:
            continue
        wanted = (one.parameter("type") or "*/*").lower() if multipart else one.media_type
        for offered in DRAWN_TYPES:
            if _covers(wanted, offered):
                return DataForm(multipart, offered, stored=False)
    raise _refused(", ".join(DRAWN_TYPES))


def _is_multipart_of(one: MediaRange, media_type: str) -> bool:
    return one.media_type in _MULTIPART and _covers(
        (one.parameter("type") or "*/*").lower(), media_type
    )


def _covers(wanted: str, offered: str) -> bool:
    return wanted in ("*/*", offered, offered.split("/", 1)[0] + "/*")


def _refused(offer: str) -> NotAcceptable:
    return NotAcceptable(
        f"This resource cannot be had in an acceptable form; try {offer}.", reason="accept"
    )

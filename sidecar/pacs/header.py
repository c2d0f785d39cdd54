"""Whose instance is it? Read from the first bytes of a DICOM file (PS3.10 section 7, PS3.5 section 7), as they arrive.

A minimal walk over the data elements up to SeriesInstanceUID: some microseconds an instance. What it cannot read it
refuses; it never guesses a patient.
"""

import struct
import zlib
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes

from sidecar.access.identity import PatientIdentifier

LIMIT_BYTES = 4 * 2**20
"""What may come before SeriesInstanceUID (0020,000E): file meta, private blocks, sequences; also after inflating."""

_SPECIFIC_CHARACTER_SET = 0x0008_0005
_SOP_INSTANCE_UID = 0x0008_0018
_PATIENT_ID = 0x0010_0020
_ISSUER_OF_PATIENT_ID = 0x0010_0021
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_WANTED = frozenset({
    _SPECIFIC_CHARACTER_SET, _SOP_INSTANCE_UID, _PATIENT_ID, _ISSUER_OF_PATIENT_ID, _STUDY_INSTANCE_UID,
    _SERIES_INSTANCE_UID,
})  # fmt: skip
_TRANSFER_SYNTAX_UID = 0x0002_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_MAXIMUM_DEPTH = 32
_MAXIMUM_VALUE_BYTES = 1_024

_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})
# GE's own: implicit VR little endian but for the pixels.
_GE_PRIVATE = "1.2.840.113619.5.2"

# PS3.5 7.1.2: these VRs have two reserved bytes and a length of four.
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset({
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
})  # fmt: skip


class Unreadable(ValueError):
    """Not a DICOM file whose patient and study can be read for certain."""


class _NeedMore(Exception):
    """The element goes on beyond what has arrived."""


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What an instance says of itself. ``study``, ``series`` and ``instance`` are UIDs."""

    patient: PatientIdentifier
    study: str
    series: str
    instance: str


class _Encoding:
    """How a data set's elements are written: ``head`` unpacks tag (group, number), VR and a two-byte length."""

    def __init__(self, *, explicit: bool, order: str) -> None:
        self.explicit = explicit
        self.head = struct.Struct(order + "HH2sH").unpack_from
        self.length = struct.Struct(order + "I").unpack_from


_EXPLICIT_LITTLE = _Encoding(explicit=True, order="<")
_IMPLICIT_LITTLE = _Encoding(explicit=False, order="<")
_EXPLICIT_BIG = _Encoding(explicit=True, order=">")


class HeaderReader:
    """Reads one instance. Call ``read`` with all bytes that have come so far until it returns the header."""

    def __init__(self) -> None:
        self._encoding: _Encoding | None = None
        self._inflate: zlib._Decompress | None = None
        self._inflated = b""
        self._fed = 0  # Where reading of a deflated stream goes on.
        self._position = 0  # The next top-level element.
        self._values: dict[int, bytes] = {}

    def read(self, data: bytes, *, complete: bool) -> InstanceHeader | None:
        """Return the header, ``None`` when more bytes are needed; ``complete``: no more will come.

        ``data`` are the instance's bytes from its very first one. Raises ``Unreadable``.
        """
        try:
            if self._encoding is None:
                self._encoding = self._read_meta(data)
            self._walk(self._dataset(data, complete=complete), self._encoding)
        except _NeedMore:
            if complete and not self._ends_with_an_element(data):
                raise Unreadable("cut short") from None
            if not complete:
                if len(data) > LIMIT_BYTES:
                    raise Unreadable("no SeriesInstanceUID within the limit") from None
                return None
        return self._header()

    def _ends_with_an_element(self, data: bytes) -> bool:
        """Whether the data set just ended where the next element would begin (it has nothing beyond group 0020)."""
        return self._encoding is not None and self._position == len(self._inflated if self._inflate else data)

    def _read_meta(self, data: bytes) -> _Encoding:
        """Read the File Meta Information (PS3.10 7.1), explicit VR little endian whatever follows."""
        if len(data) < 132:
            raise _NeedMore
        position = 132 if data[128:132] == b"DICM" else 0
        syntax = None
        while data[position : position + 2] == b"\x02\x00":
            tag, _, length, start = _element(data, position, _EXPLICIT_LITTLE)
            position = start + length
            if length > LIMIT_BYTES:
                raise Unreadable("file meta")
            if len(data) < position:
                raise _NeedMore
            if tag == _TRANSFER_SYNTAX_UID:
                syntax = data[start:position].decode("ascii", "replace").strip(" \0")
        if len(data) < position + 8:
            raise _NeedMore
        self._position = position
        if syntax in _DEFLATED:
            self._inflate, self._fed, self._position = zlib.decompressobj(-zlib.MAX_WBITS), position, 0
        return _encoding_of(syntax, data[position + 4 : position + 6])

    def _dataset(self, data: bytes, *, complete: bool) -> bytes:
        if self._inflate is None:
            return data
        try:
            room = LIMIT_BYTES + 1 - len(self._inflated)
            if room > 0:
                self._inflated += self._inflate.decompress(data[self._fed :], room)
        except zlib.error:
            raise Unreadable("deflated data set") from None
        self._fed = len(data)
        if self._inflate.unconsumed_tail:
            # There is more than the limit; it is not looked at any further.
            self._fed -= len(self._inflate.unconsumed_tail)
        return self._inflated

    def _walk(self, data: bytes, encoding: _Encoding) -> None:
        """Step from element to element until the last wanted one is passed. Raises ``_NeedMore``, ``Unreadable``."""
        while True:
            if encoding.explicit:
                self._position = _after_unwanted(data, self._position, encoding)
            tag, vr, length, start = _element(data, self._position, encoding)
            if tag > _SERIES_INSTANCE_UID:
                return
            if length == _UNDEFINED:
                inner = _IMPLICIT_LITTLE if vr == b"UN" else encoding
                self._position = _after_items(data, start, inner, 1)
                continue
            if tag in _WANTED:
                self._keep(tag, data[start : start + length], length)
            elif start + length > LIMIT_BYTES:
                raise Unreadable("no SeriesInstanceUID within the limit")
            self._position = start + length
            if tag == _SERIES_INSTANCE_UID:
                return

    def _keep(self, tag: int, value: bytes, length: int) -> None:
        if length > _MAXIMUM_VALUE_BYTES or tag in self._values:
            raise Unreadable("a value that is too long or stands twice")
        if len(value) < length:
            raise _NeedMore
        self._values[tag] = value

    def _header(self) -> InstanceHeader:
        study, series, instance = (
            self._values.get(tag, b"").decode("ascii", "replace").strip(" \0")
            for tag in (_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, _SOP_INSTANCE_UID)
        )
        patient_id = self._text(_PATIENT_ID)
        if not (study and patient_id):
            raise Unreadable("no PatientID or StudyInstanceUID")
        return InstanceHeader(PatientIdentifier(patient_id, self._text(_ISSUER_OF_PATIENT_ID)), study, series, instance)

    def _text(self, tag: int) -> str:
        """A text value in the instance's own character set (PS3.5 6.1)."""
        value = self._values.get(tag, b"")
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").strip(" \0")
        names = self._values.get(_SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace").split("\\")
        try:
            encodings = convert_encodings([name.strip(" \0") for name in names])
            return decode_bytes(value, encodings, {0x0A, 0x0C, 0x0D, 0x09}).strip(" \0")
        except (LookupError, ValueError, TypeError):
            raise Unreadable("character set") from None


def _encoding_of(syntax: str | None, first_vr: bytes) -> _Encoding:
    """The encoding of a transfer syntax; without one, explicit when the first element has a VR, as readers guess."""
    if syntax is None:
        return _EXPLICIT_LITTLE if first_vr in _LONG_VRS or first_vr in _SHORT_VRS else _IMPLICIT_LITTLE
    if syntax in (_IMPLICIT, _GE_PRIVATE):
        return _IMPLICIT_LITTLE
    return _EXPLICIT_BIG if syntax == _BIG_ENDIAN else _EXPLICIT_LITTLE


def _element(data: bytes, position: int, encoding: _Encoding) -> tuple[int, bytes, int, int]:
    """Tag, VR (of no meaning when implicit), length in bytes and the position of the value."""
    try:
        group, number, vr, length = encoding.head(data, position)
        tag = group << 16 | number
        if encoding.explicit and group != 0xFFFE:
            if vr in _SHORT_VRS:
                return tag, vr, length, position + 8
            if vr not in _LONG_VRS:
                raise Unreadable("VR")
            return tag, vr, encoding.length(data, position + 8)[0], position + 12
        return tag, b"", encoding.length(data, position + 4)[0], position + 8
    except struct.error:
        raise _NeedMore from None


def _after_unwanted(data: bytes, position: int, encoding: _Encoding) -> int:
    """The position of the next element that needs a look: not one of a short VR that nobody wants (most are)."""
    head = encoding.head
    try:
        while True:
            group, number, vr, length = head(data, position)
            if vr not in _SHORT_VRS or group > 0x0020 or (group << 16 | number) in _WANTED:
                return position
            position += 8 + length
    except struct.error:
        return position


def _after_items(data: bytes, position: int, encoding: _Encoding, depth: int) -> int:
    """The position behind a sequence of undefined length (PS3.5 7.5)."""
    if depth > _MAXIMUM_DEPTH:
        raise Unreadable("sequences too deep")
    while True:
        tag, _, length, start = _element(data, position, encoding)
        if tag == _SEQUENCE_END:
            return start
        if tag != _ITEM:
            raise Unreadable("sequence")
        position = start + length if length != _UNDEFINED else _after_item(data, start, encoding, depth)


def _after_item(data: bytes, position: int, encoding: _Encoding, depth: int) -> int:
    while True:
        tag, vr, length, start = _element(data, position, encoding)
        if tag == _ITEM_END:
            return start
        if length == _UNDEFINED:
            inner = _IMPLICIT_LITTLE if vr == b"UN" else encoding
            position = _after_items(data, start, inner, depth + 1)
        else:
            position = start + length

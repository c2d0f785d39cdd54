"""Whose instance is it? Read from a DICOM file as it goes by (PS3.10 section 7, PS3.5 section 7), in any split.

A walk over the data elements, some microseconds an instance; no byte is looked at twice. What two readers could read
differently it refuses: values that stand twice, elements out of order before SeriesInstanceUID, sequences whose items
overrun, file meta that does not add up. It never guesses a patient.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes, python_encoding

from sidecar.access.identity import PatientIdentifier
from sidecar.pacs.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NeedMore,
    Unreadable,
    Walk,
    element,
    looks_like_a_vr,
)

INFLATE_BYTES = 2**16
_META_BYTES = 4_096
_MAXIMUM_META_BYTES = 65_536  # It is read anew with each piece.

_SPECIFIC_CHARACTER_SET = 0x0008_0005
_SOP_INSTANCE_UID = 0x0008_0018
_PATIENT_ID = 0x0010_0020
_ISSUER_OF_PATIENT_ID = 0x0010_0021
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_VR_OF_WANTED = {
    _SPECIFIC_CHARACTER_SET: b"CS", _SOP_INSTANCE_UID: b"UI", _PATIENT_ID: b"LO", _ISSUER_OF_PATIENT_ID: b"LO",
    _STUDY_INSTANCE_UID: b"UI", _SERIES_INSTANCE_UID: b"UI",
}  # fmt: skip
_GROUP_LENGTH, _TRANSFER_SYNTAX_UID = 0x0002_0000, 0x0002_0010
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
# GE's own (implicit, but for the pixels): readers disagree on it.
_REFUSED = frozenset({"1.2.840.113619.5.2"})
# Deflated Explicit VR Little Endian, and JPIP Referenced Deflate: the whole data set is deflated.
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_UID = re.compile(rb"([0-9.]{1,64})\0?")


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What an instance says of itself. ``study``, ``series`` and ``instance`` are UIDs."""

    patient: PatientIdentifier
    study: str
    series: str
    instance: str


class HeaderReader:
    """Reads one instance. ``feed`` takes its bytes in order; ``header`` is there as soon as it is known."""

    def __init__(self) -> None:
        self.header: InstanceHeader | None = None
        self._inflate: zlib._Decompress | None = None
        self._walk: Walk | None = None
        self._meta = b""

    def feed(self, data: bytes | memoryview) -> InstanceHeader | None:
        """Take the next bytes. Raises ``Unreadable``, also when a value of the header stands again behind it."""
        rest = memoryview(data)
        while self._walk is None:
            self._meta += rest[:_META_BYTES]
            rest = rest[_META_BYTES:]
            try:
                start = self._read_meta(self._meta)
            except NeedMore:
                if len(self._meta) > _MAXIMUM_META_BYTES:
                    raise Unreadable("file meta") from None
                if not rest:
                    return None
                continue
            begun, self._meta = memoryview(self._meta)[start:], b""
            self._pass_on(begun)
        self._pass_on(rest)
        return self._look()

    def end(self) -> InstanceHeader:
        """Say that no more bytes come. Raises ``Unreadable`` when the header did not come whole."""
        if self._walk is None or (self.header is None and not self._walk.is_between_elements()):
            raise Unreadable("cut short")
        self.header = self.header or _read_values(self._walk.values)
        return self.header

    def _look(self) -> InstanceHeader | None:
        if self.header is None and self._walk is not None and self._walk.is_past_wanted:
            self.header = _read_values(self._walk.values)
        return self.header

    def _pass_on(self, data: memoryview) -> None:
        assert self._walk is not None  # noqa: S101
        if self._inflate is None:
            self._walk.feed(data)
            return
        try:
            left: bytes | memoryview = data
            while left:
                self._walk.feed(memoryview(self._inflate.decompress(left, INFLATE_BYTES)))
                left = self._inflate.unconsumed_tail
        except zlib.error:
            raise Unreadable("deflated data set") from None

    def _read_meta(self, data: bytes) -> int:
        """Read the File Meta Information (PS3.10 7.1); return where the data set begins."""
        if len(data) < 132:
            raise NeedMore
        begin = position = 132 if data[128:132] == b"DICM" else 0
        last, syntax, group_end = -1, None, None
        while data[position : position + 2] == b"\x02\x00":
            tag, _, length, start = element(data, position, EXPLICIT_LITTLE)
            position = start + length
            if length > _MAXIMUM_META_BYTES or tag <= last:
                raise Unreadable("file meta")
            if len(data) < position:
                raise NeedMore
            last = tag
            if tag == _GROUP_LENGTH:
                if length != 4:
                    raise Unreadable("file meta")
                group_end = position + int.from_bytes(data[start:position], "little")
            elif tag == _TRANSFER_SYNTAX_UID:
                match = _UID.fullmatch(data[start:position])
                syntax = match[1].decode("ascii") if match else ""
        if len(data) < position + 8:
            raise NeedMore
        # A command set (group 0000) is read by pydicom whatever the syntax; deflated, such a block is as odd.
        is_command = data[position : position + 2] == b"\0\0"
        if position == begin or not syntax or syntax in _REFUSED or is_command or group_end not in (None, position):
            raise Unreadable("file meta")
        self._begin(syntax, data[position + 4 : position + 6])
        return position

    def _begin(self, syntax: str, first_vr: bytes) -> None:
        encoding = EXPLICIT_BIG if syntax == _BIG_ENDIAN else EXPLICIT_LITTLE
        if syntax in _DEFLATED:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        elif syntax == _IMPLICIT:
            encoding = IMPLICIT_LITTLE
            if looks_like_a_vr(first_vr):  # Some readers believe it rather than the syntax.
                raise Unreadable("VR in an implicit data set")
        self._walk = Walk(encoding, _VR_OF_WANTED, _SERIES_INSTANCE_UID)


def _read_values(found: Mapping[int, bytes]) -> InstanceHeader:
    """Return what was found. Raises ``Unreadable``."""
    study, series, instance = (
        found.get(tag, b"").decode("ascii", "replace").strip(" \0")
        for tag in (_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, _SOP_INSTANCE_UID)
    )
    patient_id = _text(found, _PATIENT_ID)
    if not (study and patient_id):
        raise Unreadable("no PatientID or StudyInstanceUID")
    return InstanceHeader(PatientIdentifier(patient_id, _text(found, _ISSUER_OF_PATIENT_ID)), study, series, instance)


def _text(found: Mapping[int, bytes], tag: int) -> str:
    """A text value in the instance's own character set (PS3.5 6.1)."""
    value = found.get(tag, b"")
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii").strip(" \0")
    names = found.get(_SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace").split("\\")
    names = [name.strip(" \0") for name in names]
    if not set(names) <= python_encoding.keys():  # The library would say so in a log, with the name.
        raise Unreadable("character set")
    try:
        return decode_bytes(value, convert_encodings(names), {0x0A, 0x0C, 0x0D, 0x09}).strip(" \0")
    except (LookupError, ValueError, TypeError):
        raise Unreadable("character set") from None

"""Whose instance is it? Read from a DICOM file as it goes by (PS3.10 section 7, PS3.5 section 7), in any split.

A walk over the data elements, some microseconds an instance. What two readers could read
differently it refuses: two values of one element, sequences whose items overrun, file meta that
does not add up. It never guesses a patient. docs/files.md has the rules, tests/pacs/file_kinds.py a
file for each.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from pydicom.charset import convert_encodings, decode_bytes, python_encoding

from sidecar.access.facts import InstanceHeader, PatientIdentifier
from sidecar.dicom.character_sets import is_known_text
from sidecar.dicom.dataset_walker import TagSelection, Walk
from sidecar.dicom.element import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NeedMore,
    TwoReadings,
    Unreadable,
    element,
    looks_like_a_vr,
)
from sidecar.dicom.header_cache import FileMeta, HeaderPatternCache, Pattern
from sidecar.dicom.heads import head_of
from sidecar.dicom.uid import MAXIMUM_LENGTH

INFLATE_BYTES = 2**15
"""Limit in bytes of what is inflated at once."""
STEP_BYTES = 16_384
"""Limit in bytes of what ``HeaderReader.steps`` takes at once: 2,048 empty items at most."""
_CHECKSUM_BYTES = 8
_META_BYTES = 4_096
_MAXIMUM_META_BYTES = 65_536  # It is read anew with each piece.

_SPECIFIC_CHARACTER_SET = 0x0008_0005
_SOP_INSTANCE_UID = 0x0008_0018
_PATIENT_ID = 0x0010_0020
_ISSUER_OF_PATIENT_ID = 0x0010_0021
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_WANTED = TagSelection(
    {
        _SPECIFIC_CHARACTER_SET: b"CS",
        _SOP_INSTANCE_UID: b"UI",
        _PATIENT_ID: b"LO",
        _ISSUER_OF_PATIENT_ID: b"LO",
        _STUDY_INSTANCE_UID: b"UI",
        _SERIES_INSTANCE_UID: b"UI",
    }
)
_GROUP_LENGTH_BYTES = 4
_GROUP_LENGTH, _TRANSFER_SYNTAX_UID = 0x0002_0000, 0x0002_0010
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
# GE's own (implicit, but for the pixels): readers disagree on it.
_REFUSED = frozenset({"1.2.840.113619.5.2"})
# Deflated Explicit VR Little Endian, and JPIP Referenced Deflate: the whole data set is deflated.
_DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
_ASCII_ALONE = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
# PS3.5 9.1 pads with NUL; writers that pad with a space are understood by all readers that we know.
_SYNTAX = re.compile(rb"([0-9.]{1,64})[\0 ]?")
# A number alone may be a patient's.
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)+")
_PLACES = {
    "study": _STUDY_INSTANCE_UID,
    "series": _SERIES_INSTANCE_UID,
    "instance": _SOP_INSTANCE_UID,
}


class HeaderReader:
    """Reads one instance.

    ``steps`` takes its bytes in order; ``header`` is there as soon as it is known.

    A megabyte of nested items is 130,000 elements, and deflated it may become a thousand megabytes.
    So ``steps`` and ``feed_some`` work for some milliseconds at a time.

    ``layouts``: of the stream that the instance is part of.
    """

    _wanted = _WANTED

    def __init__(self, layouts: HeaderPatternCache | None = None) -> None:
        self._layouts = layouts
        self.header: InstanceHeader | None = None
        self._inflate: zlib._Decompress | None = None
        self._encoding = EXPLICIT_LITTLE
        self._walk: Walk | None = None
        self._meta = b""
        self._behind = b""
        self._compressed = b""  # What has been fed and not been inflated yet.
        self._is_full = False  # Whether zlib may have more without more input.

    @property
    def elements(self) -> int:
        """How many elements have been stepped over."""
        return 0 if self._walk is None else self._walk.elements

    @property
    def has_more(self) -> bool:
        """Whether ``feed_some`` has not read all that it took: with nothing more to take it goes on."""
        return self._is_full or bool(self._compressed)

    def steps(self, data: bytes | memoryview) -> Iterator[None]:
        """Take the next bytes, some at a time. Raises as ``feed_some`` does."""
        view = memoryview(data)
        for start in range(0, len(view), STEP_BYTES):
            if self.skips(len(view) - start):
                return
            self.feed_some(view[start : start + STEP_BYTES])
            yield
            while self.has_more:
                self.feed_some(b"")
                yield

    def feed_some(self, data: bytes | memoryview) -> InstanceHeader | None:
        """Take the next bytes; of deflated ones only ``INFLATE_BYTES`` are read: see ``has_more``.

        Raises ``Unreadable``, also when another value of the header stands behind it.
        """
        try:
            return self._feed(data)
        except Unreadable as refused:
            refused.uids = self._uids()
            raise

    def _uids(self) -> dict[str, str]:
        """What is known of the instance's place: no patient, nor what may be one."""
        values = self._walk.values if self._walk is not None else {}
        found = {place: values.get(tag, b"").strip(b" \0") for place, tag in _PLACES.items()}
        patient_id = values.get(_PATIENT_ID, b"").strip(b" \0")
        return {
            place: uid.decode("ascii")
            for place, uid in found.items()
            if len(uid) <= MAXIMUM_LENGTH and _UID.fullmatch(uid) and uid != patient_id
        }

    def _feed(self, data: bytes | memoryview) -> InstanceHeader | None:
        rest = memoryview(data)
        if self._walk is None and not self._meta:
            rest = self._feed_first(rest)
        while self._walk is None:
            self._meta += rest[:_META_BYTES]
            rest = rest[_META_BYTES:]
            try:
                meta = self._read_meta(self._meta)
            except NeedMore:
                if len(self._meta) > _MAXIMUM_META_BYTES:
                    raise Unreadable("meta_length") from None
                if not rest:
                    return None
                continue
            begun, self._meta = memoryview(self._meta)[meta.end :], b""
            self._pass_on(begun)
        self._pass_on(rest)
        return self._look()

    def skips(self, size: int) -> bool:
        """Take the next ``size`` bytes unseen, if they are inside a value behind the header."""
        return (
            self._inflate is None
            and self.header is not None
            and self._walk is not None
            and self._walk.skips(size)
        )

    def _feed_first(self, data: memoryview) -> memoryview:
        """Take the first bytes, unless the file meta is not whole in them; return what is left."""
        layouts = self._layouts
        head = layouts.head(data) if layouts is not None else None
        if head is not None:
            walk = self._begin(head.meta, data)
            walk.begin_behind(head.run, data[head.meta.end :])
            return data[:0]
        try:
            meta = self._read_meta(data)
        except NeedMore:
            return data
        self._pass_on(data[meta.end :])
        if (
            layouts is not None
            and layouts.has_room_for_head
            and meta.places
            and self._inflate is None
            and self._look()
        ):
            layouts.learn_head(head_of(data, meta, self._encoding, self._wanted))
        return data[:0]

    def end(self) -> InstanceHeader:
        """Say that no more bytes come.

        Raises ``Unreadable`` when the header, or a value of it, did not come whole.
        """
        while self.has_more:
            self.feed_some(b"")
        try:
            walk = self._walk
            if (
                walk is None
                or not walk.may_be_cut()
                or (self.header is None and not walk.is_between_elements())
            ):
                raise Unreadable("cut_short")
            self.header = self.header or _read_values(walk.values)
        except Unreadable as refused:
            refused.uids = self._uids()
            raise
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
        compressed = self._compressed + data
        if not self._inflate.eof:
            try:
                out = self._inflate.decompress(compressed, INFLATE_BYTES)
            except zlib.error:
                raise Unreadable("deflated_data") from None
            self._compressed = self._inflate.unconsumed_tail
            # As long as rounds are full there may be more of what it has taken already.
            self._is_full = len(out) == INFLATE_BYTES and not self._inflate.eof
            self._walk.feed(memoryview(out))
            if not self._inflate.eof:
                return
            compressed = self._inflate.unused_data
        self._compressed = b""
        self._check_behind(compressed)

    def _check_behind(self, data: bytes | memoryview) -> None:
        """Behind a deflated data set there is padding (PS3.5 A.5), or a checksum: no room for anybody's image."""
        self._behind += bytes(data).strip(b"\0")
        if len(self._behind) > _CHECKSUM_BYTES:
            raise TwoReadings("data_behind_end")

    def _read_meta(self, data: bytes | memoryview) -> FileMeta:
        """Read the File Meta Information (PS3.10 7.1); the data set begins behind it."""
        layouts = self._layouts
        meta = layouts.meta(data) if layouts is not None else None
        if meta is None:
            meta = _meta(data)
            if layouts is not None and meta.places:
                layouts.learn_meta(meta)
        if len(data) < meta.end + 8:
            raise NeedMore
        self._begin(meta, data)
        return meta

    def _begin(self, meta: FileMeta, data: bytes | memoryview) -> Walk:
        self._encoding = EXPLICIT_BIG if meta.syntax == _BIG_ENDIAN else EXPLICIT_LITTLE
        if meta.syntax in _DEFLATED:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        elif meta.syntax == _IMPLICIT:
            self._encoding = IMPLICIT_LITTLE
            # Some readers believe it rather.
            if looks_like_a_vr(bytes(data[meta.end + 4 : meta.end + 6])):
                raise Unreadable("implicit_looks_explicit")
        self._walk = Walk(self._encoding, self._wanted, self._layouts)
        return self._walk


def _meta(data: bytes | memoryview) -> FileMeta:
    """Return the file meta with which ``data`` begin. Raises ``Unreadable`` and ``NeedMore``.

    It ends where its group does, and where its group length says so. Behind that more of its group
    may stand in a data set that is written as file meta is: readers that stop at the one place or
    the other go on alike.
    """
    if len(data) < 132:
        raise NeedMore
    begin = 132 if data[128:132] == b"DICM" else 0
    found = _meta_elements(data, begin)
    group_end = found[0].end + _number(data, found[0]) if found[0].tag == _GROUP_LENGTH else None
    if any(one.tag <= before.tag and one.begin != group_end for before, one in pairwise(found)):
        raise Unreadable("meta_order")
    named = [one for one in found if one.tag == _TRANSFER_SYNTAX_UID]
    syntax = _syntax(data, named)
    end = found[-1].end
    if group_end not in (None, end):
        ends = [one.end for one in found if one.end >= named[0].end]
        if group_end not in ends or not _is_written_as_meta(syntax):
            raise Unreadable("meta_group_length")
    places = [(128, 4)]
    for one in found:
        places.append((one.begin, one.start - one.begin))
        if one.tag in (_GROUP_LENGTH, _TRANSFER_SYNTAX_UID):
            places.append((one.start, one.end - one.start))
    if not begin:
        places = []
    return FileMeta(Pattern(data, 0, [*places, (end, 2)]), end, syntax, tuple(places))


class _MetaElement(NamedTuple):
    """An element of the file meta: where it, its value and what follows it begin."""

    tag: int
    begin: int
    start: int
    end: int


def _meta_elements(data: bytes | memoryview, begin: int) -> list[_MetaElement]:
    """Return all elements of group 2, one at least. Raises ``Unreadable`` and ``NeedMore``."""
    found, end = list[_MetaElement](), begin
    while data[end : end + 2] == b"\x02\x00":
        tag, _, length, start = element(data, end, EXPLICIT_LITTLE)
        place, end = end, start + length
        if end > _MAXIMUM_META_BYTES or (tag == _GROUP_LENGTH and length != _GROUP_LENGTH_BYTES):
            raise Unreadable("meta_length")
        if len(data) < end:
            raise NeedMore
        found.append(_MetaElement(tag, place, start, end))
    if len(data) < end + 2:
        raise NeedMore
    if not found:
        raise Unreadable("no_file_meta")
    # A command set (group 0000) is read by pydicom whatever the syntax; deflated, such a block is
    # as odd.
    if data[end : end + 2] == b"\0\0":
        raise Unreadable("command_set")
    return found


def _number(data: bytes | memoryview, one: _MetaElement) -> int:
    return int.from_bytes(data[one.start : one.end], "little")


def _syntax(data: bytes | memoryview, named: list[_MetaElement]) -> str:
    """Return the one TransferSyntaxUID that is named, once or several times.

    Raises ``Unreadable``.
    """
    matches = [_SYNTAX.fullmatch(data[one.start : one.end]) for one in named]
    syntaxes = {match[1].decode("ascii") if match else "" for match in matches}
    if not syntaxes or "" in syntaxes:
        raise Unreadable("no_transfer_syntax")
    if len(syntaxes) > 1:
        raise Unreadable("transfer_syntax_twice")
    (syntax,) = syntaxes
    if syntax in _REFUSED:
        raise Unreadable("private_transfer_syntax")
    return syntax


def _is_written_as_meta(syntax: str) -> bool:
    """Whether a data set of this transfer syntax is in Explicit VR Little Endian."""
    return syntax not in (_IMPLICIT, _BIG_ENDIAN) and syntax not in _DEFLATED


def _read_values(found: Mapping[int, bytes]) -> InstanceHeader:
    """Return what was found. Raises ``Unreadable``."""
    patient = _patient(
        found.get(_PATIENT_ID, b""),
        found.get(_ISSUER_OF_PATIENT_ID, b""),
        found.get(_SPECIFIC_CHARACTER_SET, b""),
    )
    study = _uid(found.get(_STUDY_INSTANCE_UID, b""))
    if not study:
        raise Unreadable("no_study_instance_uid")
    series, instance = found.get(_SERIES_INSTANCE_UID, b""), found.get(_SOP_INSTANCE_UID, b"")
    return InstanceHeader(patient, study, _uid(series), _uid(instance))


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


@lru_cache(32)
def _patient(patient_id: bytes, issuer: bytes, character_set: bytes) -> PatientIdentifier:
    """One instance of a study after the other says the same."""
    name = _text(patient_id, character_set)
    if not name:
        raise Unreadable("no_patient_id")
    return PatientIdentifier(name, _text(issuer, character_set))


def _text(value: bytes, character_set: bytes) -> str:
    """A text value in the instance's own character set (PS3.5 6.1).

    None named: nobody can say which it is.
    """
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii").strip(" \0")
    names = [name.strip(" \0") for name in character_set.decode("ascii", "replace").split("\\")]
    # The library would say so in a log, with the name.
    if not set(names) <= python_encoding.keys() or set(names) <= _ASCII_ALONE:
        raise Unreadable("character_set")
    try:
        text = decode_bytes(value, convert_encodings(names), {0x0A, 0x0C, 0x0D, 0x09}).strip(" \0")
    except (LookupError, ValueError, TypeError):
        raise Unreadable("character_set") from None
    if not is_known_text(text):  # What it cannot decode the library replaces, or leaves as it is.
        raise Unreadable("character_set")
    return text

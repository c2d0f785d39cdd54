"""The File Meta Information of a DICOM file (PS3.10 section 7.1)."""

import re
from itertools import pairwise
from typing import NamedTuple

from sidecar.dicom.element import EXPLICIT_LITTLE, NeedMore, Unreadable, element
from sidecar.dicom.header_cache import FileMeta, Pattern

MAXIMUM_META_BYTES = 65_536
"""Limit in bytes: it is read anew with each piece that comes."""
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
"""Deflated Explicit VR Little Endian, and JPIP Referenced Deflate: all of the data set is."""
# GE's own (implicit, but for the pixels): readers disagree on it.
_REFUSED = frozenset({"1.2.840.113619.5.2"})
_GROUP_LENGTH_BYTES = 4
_GROUP_LENGTH, _TRANSFER_SYNTAX_UID = 0x0002_0000, 0x0002_0010
# PS3.5 9.1 pads with NUL; all readers that we know understand padding with a space.
_SYNTAX = re.compile(rb"([0-9.]{1,64})[\0 ]?")


def read_file_meta(data: bytes | memoryview) -> FileMeta:
    """Return the file meta with which ``data`` begin. Raises ``Unreadable`` and ``NeedMore``.

    It ends with its group, and where its group length points. Behind that place more of its group
    may stand in a data set that is written as file meta is: readers that stop at either place go on
    alike.
    """
    if len(data) < 132:
        raise NeedMore
    begin = 132 if data[128:132] == b"DICM" else 0
    found = _meta_elements(data, begin)
    group_end = found[0].end + _number(data, found[0]) if found[0].tag == _GROUP_LENGTH else None
    if any(
        field.tag <= before.tag and field.begin != group_end for before, field in pairwise(found)
    ):
        raise Unreadable("meta_order")
    named = [field for field in found if field.tag == _TRANSFER_SYNTAX_UID]
    syntax = _syntax(data, named)
    end = found[-1].end
    if group_end not in (None, end):
        ends = [field.end for field in found if field.end >= named[0].end]
        if group_end not in ends or not _is_written_as_meta(syntax):
            raise Unreadable("meta_group_length")
    places = [(128, 4)]
    for field in found:
        places.append((field.begin, field.start - field.begin))
        if field.tag in (_GROUP_LENGTH, _TRANSFER_SYNTAX_UID):
            places.append((field.start, field.end - field.start))
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
        if end > MAXIMUM_META_BYTES or (tag == _GROUP_LENGTH and length != _GROUP_LENGTH_BYTES):
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


def _number(data: bytes | memoryview, field: _MetaElement) -> int:
    return int.from_bytes(data[field.start : field.end], "little")


def _syntax(data: bytes | memoryview, named: list[_MetaElement]) -> str:
    """Return the TransferSyntaxUID. It may stand several times. Raises ``Unreadable``."""
    matches = [_SYNTAX.fullmatch(data[field.start : field.end]) for field in named]
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
    """Return whether a data set of this transfer syntax is in Explicit VR Little Endian."""
    return syntax not in (IMPLICIT, BIG_ENDIAN) and syntax not in DEFLATED

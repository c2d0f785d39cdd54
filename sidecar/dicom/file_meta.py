"""The File Meta Information of a DICOM file (PS3.10 section 7.1)."""

import re
from itertools import pairwise
from typing import NamedTuple

from sidecar.dicom.element import EXPLICIT_LITTLE, NeedMore, Unreadable, read_element
from sidecar.dicom.header_cache import FileMeta, Pattern

MAXIMUM_META_BYTES = 65_536
"""Limit in bytes. The file meta is read anew with each piece that comes."""
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
"""Transfer syntaxes with a deflated data set: Explicit VR Little Endian, JPIP Referenced."""
# GE's private syntax is implicit VR but for the pixels. Readers disagree on it.
_REFUSED = frozenset({"1.2.840.113619.5.2"})
_GROUP_LENGTH_BYTES = 4
_GROUP_LENGTH, _TRANSFER_SYNTAX_UID = 0x0002_0000, 0x0002_0010
# PS3.5 9.1 pads with NUL; all readers that we know understand padding with a space.
_SYNTAX = re.compile(rb"([0-9.]{1,64})[\0 ]?")


def read_file_meta(data: bytes | memoryview) -> FileMeta:
    """Return the file meta with which ``data`` begin. Raises ``Unreadable`` and ``NeedMore``.

    The file meta ends with its group, and where its group length points. Behind that place more of
    its group may stand in a data set that is written as file meta is: readers that stop at either
    place go on alike.
    """
    if len(data) < 132:
        raise NeedMore
    begin = 132 if data[128:132] == b"DICM" else 0
    elements = _meta_elements(data, begin)
    first, end = elements[0], elements[-1].end
    group_end = first.end + _number(data, first) if first.tag == _GROUP_LENGTH else None
    if any(
        after.tag <= before.tag and after.begin != group_end for before, after in pairwise(elements)
    ):
        raise Unreadable("meta_order")
    syntaxes = [element for element in elements if element.tag == _TRANSFER_SYNTAX_UID]
    syntax = _syntax(data, syntaxes)
    if group_end not in (None, end):
        ends = [element.end for element in elements if element.end >= syntaxes[0].end]
        if group_end not in ends or not _is_written_as_meta(syntax):
            raise Unreadable("meta_group_length")
    places = [(128, 4)]
    for element in elements:
        places.append((element.begin, element.start - element.begin))
        if element.tag in (_GROUP_LENGTH, _TRANSFER_SYNTAX_UID):
            places.append((element.start, element.end - element.start))
    if not begin:
        places = []
    return FileMeta(Pattern(data, 0, [*places, (end, 2)]), end, syntax, tuple(places))


class _MetaElement(NamedTuple):
    """An element of the file meta.

    ``begin``, ``start`` and ``end`` are the positions of its head, its value and what follows.
    """

    tag: int
    begin: int
    start: int
    end: int


def _meta_elements(data: bytes | memoryview, begin: int) -> list[_MetaElement]:
    """Return all elements of group 2, one at least. Raises ``Unreadable`` and ``NeedMore``."""
    elements, end = list[_MetaElement](), begin
    while data[end : end + 2] == b"\x02\x00":
        tag, _, length, start = read_element(data, end, EXPLICIT_LITTLE)
        position, end = end, start + length
        if end > MAXIMUM_META_BYTES or (tag == _GROUP_LENGTH and length != _GROUP_LENGTH_BYTES):
            raise Unreadable("meta_length")
        if len(data) < end:
            raise NeedMore
        elements.append(_MetaElement(tag, position, start, end))
    if len(data) < end + 2:
        raise NeedMore
    if not elements:
        raise Unreadable("no_file_meta")
    # pydicom reads a command set (group 0000) whatever the syntax. A deflated block that begins so
    # is as odd.
    if data[end : end + 2] == b"\0\0":
        raise Unreadable("command_set")
    return elements


def _number(data: bytes | memoryview, element: _MetaElement) -> int:
    return int.from_bytes(data[element.start : element.end], "little")


def _syntax(data: bytes | memoryview, elements: list[_MetaElement]) -> str:
    """Return the TransferSyntaxUID, which several elements may repeat. Raises ``Unreadable``."""
    matches = [_SYNTAX.fullmatch(data[element.start : element.end]) for element in elements]
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

"""A data element of a DICOM data set: its head, and who takes it for a sequence (PS3.5 7, 7.5)."""

import re
import struct
from dataclasses import dataclass

from sidecar.dicom.dictionary import STANDARD

ITEMS = 0xFFFE
"""The group of items and delimiters."""

UNDEFINED_LENGTH = 0xFFFF_FFFF
"""The length of an element or item that ends with a delimiter."""
# PS3.5 7.1.2: these VRs have two reserved bytes and a length of four.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
ITEM_HEADS = frozenset(
    struct.pack(order, ITEMS, number)
    for order in ("<HH", ">HH")
    for number in (0xE000, 0xE00D, 0xE0DD)
)
"""The tags of items and their delimiters, in both byte orders."""
LOOKED_AT_BYTES = 4
"""Number of bytes of a value that show whether it begins with an item."""
_LIKE_LO = (b"SH", b"ST", b"LT")
"""Text in the instance's character set, with a length of two bytes (PS3.5 6.2), as LO is."""
_SEQUENCES = frozenset(tag for tag, entry in STANDARD.items() if entry.vr == "SQ")
_ITEM_BYTES = 8
"""Length in bytes of an empty item. A shorter value is no sequence."""


class Unreadable(ValueError):
    """The patient and the study of a DICOM file cannot be read for certain.

    ``rule`` is the name in docs/files.md of what is wrong, a constant for logs and clients.
    ``uids`` has the ``study``, ``series`` and ``instance`` that were read before, as far as these
    are UIDs.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.uids: dict[str, str] = {}


class TwoReadings(Unreadable):
    """Other readers go on in another way, and may find another patient.

    Such a file is refused behind the header, too.
    """


class NeedMore(Exception):
    """The element's head or value goes on beyond what has arrived."""


class Encoding:
    """An encoding of elements. ``head`` unpacks tag (group, number), VR and a two-byte length."""

    def __init__(self, *, explicit: bool, order: str) -> None:
        self.explicit = explicit
        self.head = struct.Struct(order + "HH2sH").unpack_from
        self.length = struct.Struct(order + "I").unpack_from
        self.implicit_head = struct.Struct(order + "HHI").unpack_from


EXPLICIT_LITTLE = Encoding(explicit=True, order="<")
IMPLICIT_LITTLE = Encoding(explicit=False, order="<")
EXPLICIT_BIG = Encoding(explicit=True, order=">")


def looks_like_a_vr(letters: bytes | memoryview) -> bool:
    """Return whether readers may take two bytes for a VR: two capital letters, known or not."""
    return all(0x40 < letter < 0x5B for letter in letters)


def read_element(
    data: bytes | memoryview, position: int, encoding: Encoding
) -> tuple[int, bytes, int, int]:
    """Return the tag, the VR (empty when implicit), the length in bytes, the value's position."""
    try:
        group, number, vr, length = encoding.head(data, position)
        tag = group << 16 | number
        if encoding.explicit and group != ITEMS:
            if vr in SHORT_VRS:
                return tag, vr, length, position + 8
            if vr not in LONG_VRS:
                raise TwoReadings("unknown_vr") if looks_like_a_vr(vr) else Unreadable("unknown_vr")
            return tag, vr, encoding.length(data, position + 8)[0], position + 12
        return tag, b"", encoding.length(data, position + 4)[0], position + 8
    except struct.error:
        raise NeedMore from None


def is_read_as(wanted: bytes, vr: bytes) -> bool:
    """Return whether an element of this VR is read as an element of the ``wanted`` VR.

    The length field and the characters of both VRs are the same.
    """
    return vr in (wanted, b"UN") or (wanted == b"LO" and vr in _LIKE_LO)


def is_sequence(tag: int) -> bool:
    """Return whether a tag is SQ in the dictionary, by which implicit VR is read (PS3.5 A.1)."""
    return tag in _SEQUENCES


def is_looked_into(tag: int, vr: bytes, length: int) -> bool:
    """Return whether an element's first bytes decide if some readers take it for a sequence."""
    return vr in (b"", b"UN") and length >= _ITEM_BYTES and tag not in STANDARD


def may_be_sequence(data: memoryview, tag: int, vr: bytes, length: int, start: int) -> bool:
    """Return whether some readers take an element of known length for a sequence.

    Without a VR, or with UN, they look it up in the standard's dictionary or in one of their own.
    Raises ``NeedMore``.
    """
    if vr == b"SQ" or (vr in (b"", b"UN") and is_sequence(tag)):
        return True
    if not is_looked_into(tag, vr, length):
        return False
    if len(data) < start + LOOKED_AT_BYTES:
        raise NeedMore
    return bytes(data[start : start + LOOKED_AT_BYTES]) in ITEM_HEADS


def rule_word(tag: int) -> str:
    """Return an element's keyword in small letters, as the rules of docs/files.md write it."""
    keyword = STANDARD[tag].keyword
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower()


@dataclass(slots=True)
class Frame:
    """An open part of a walk: a sequence's items or fragments, or an item's elements.

    ``end`` is its end in the data set, ``None`` when a delimiter ends it. ``limit`` is the end of
    the innermost part around it, or of itself, whose end is known: nothing in it may go beyond.
    """

    items: bool
    encoding: Encoding
    end: int | None
    fragments: bool = False
    is_new: bool = True
    limit: int | None = None

"""Elements of a DICOM data set that are sequences to some readers (PS3.5 7.5)."""

import struct
from dataclasses import dataclass
from functools import lru_cache

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from sidecar.dicom.element import ITEMS, Encoding, NeedMore

ITEM_HEADS = frozenset(
    struct.pack(order, ITEMS, number)
    for order in ("<HH", ">HH")
    for number in (0xE000, 0xE00D, 0xE0DD)
)
"""The tags of items and their delimiters, in both byte orders."""
LOOKED_AT_BYTES = 4
"""Number of bytes of a value that show whether it begins with an item."""
_ITEM_BYTES = 8
"""Length in bytes of an empty item: a shorter value is no sequence."""


@lru_cache(8_192)
def is_sequence(tag: int) -> bool:
    """Return whether the dictionary has it as SQ: so readers of implicit VR know (PS3.5 A.1)."""
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


@lru_cache(8_192)
def _is_in_dictionary(tag: int) -> bool:
    return dictionary_has_tag(tag)


def is_looked_into(tag: int, vr: bytes, length: int) -> bool:
    """Return whether the first bytes of such an element show if some readers take it for SQ."""
    return vr in (b"", b"UN") and length >= _ITEM_BYTES and not _is_in_dictionary(tag)


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


@dataclass(slots=True)
class Frame:
    """What a walk is inside of: a sequence's items or fragments, or an item's elements.

    ``end`` is where it ends in the data set, ``None`` when a delimiter ends it.
    """

    items: bool
    encoding: Encoding
    end: int | None
    fragments: bool = False
    is_new: bool = True

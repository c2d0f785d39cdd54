"""Stepping over the data elements of a DICOM data set that comes in pieces (PS3.5 section 7); no byte is read twice."""

import struct
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydicom.datadict import dictionary_has_tag, dictionary_VR

LIMIT_BYTES = 4 * 2**20
"""What may come before the wanted elements: private blocks, sequences; also after inflating."""
LIMIT_ELEMENTS = 50_000
"""So many elements, nested ones among them, may come before they are there."""
LIMIT_ALL_ELEMENTS = 2_000_000
"""So many may come at all: a deflated file can hold more than anybody has time for."""

_PIXEL_DATA = 0x7FE0_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_MAXIMUM_DEPTH = 32
_MAXIMUM_VALUE_BYTES = 1_024
_HEAD_BYTES = 4_096
_BEYOND = 1 << 32
_FIRST = 0x0008_0000
_ITEMS = 0xFFFE
_PADDINGS = (b"\0", b"\xff")

# PS3.5 7.1.2: these VRs have two reserved bytes and a length of four.
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset({
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
})  # fmt: skip


@lru_cache(8_192)
def _is_sequence(tag: int) -> bool:
    """Implicit VR does not say which elements are sequences: other readers know it from the dictionary."""
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


class Unreadable(ValueError):
    """Not a DICOM file whose patient and study can be read for certain."""


class TwoReadings(Unreadable):
    """Other readers go on here in another way, and may find another patient: refused behind the header, too."""


class NeedMore(Exception):
    """The element's head or value goes on beyond what has arrived."""


class Encoding:
    """How elements are written: ``head`` unpacks tag (group, number), VR and a two-byte length."""

    def __init__(self, *, explicit: bool, order: str) -> None:
        self.explicit = explicit
        self.head = struct.Struct(order + "HH2sH").unpack_from
        self.length = struct.Struct(order + "I").unpack_from


EXPLICIT_LITTLE = Encoding(explicit=True, order="<")
IMPLICIT_LITTLE = Encoding(explicit=False, order="<")
EXPLICIT_BIG = Encoding(explicit=True, order=">")


def looks_like_a_vr(two: bytes | memoryview) -> bool:
    """Whether some readers would take these bytes for a VR: two capital letters, known or not."""
    return all(0x40 < letter < 0x5B for letter in two)


def element(data: bytes | memoryview, position: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty when implicit), length in bytes and the position of the value."""
    try:
        group, number, vr, length = encoding.head(data, position)
        tag = group << 16 | number
        if encoding.explicit and group != _ITEMS:
            if vr in SHORT_VRS:
                return tag, vr, length, position + 8
            if vr not in LONG_VRS:
                raise TwoReadings("VR") if looks_like_a_vr(vr) else Unreadable("VR")
            return tag, vr, encoding.length(data, position + 8)[0], position + 12
        return tag, b"", encoding.length(data, position + 4)[0], position + 8
    except struct.error:
        raise NeedMore from None


class Walk:
    """Collects the values of ``wanted`` (tag -> VR) up to ``last_wanted``, and sees to it that none comes again."""

    def __init__(self, encoding: Encoding, wanted: Mapping[int, bytes], last_wanted: int) -> None:
        self.values: dict[int, bytes] = {}
        self.is_past_wanted = False
        self._encoding = encoding
        self._wanted = wanted
        self._order = sorted(wanted)
        self._last_wanted = last_wanted
        self._frames: list[_Frame] = []
        self._held = b""
        self._base = 0  # Where the held bytes, or else the next ones, stand in the data set.
        self._skip = 0
        self._last = _FIRST - 1
        self._elements = 0
        self._padding: bytes | None = None  # What all the rest consists of, once there is no element any more.

    def is_between_elements(self) -> bool:
        """Whether the data set may end here."""
        open_frames = [frame for frame in self._frames if frame.end != self._base]
        return not (self._held or self._skip or open_frames)

    def feed(self, data: memoryview) -> None:
        """Take the next bytes. Raises ``Unreadable``, but not for padding behind the wanted elements."""
        if self._padding is not None:
            self._check_padding(data)
            return
        if self._skip >= len(data):
            self._skip -= len(data)
            self._base += len(data)
            self._check_limits()
            return
        if self._held:  # Only so much is joined as completes what is held.
            held, self._held = self._held, b""
            self._feed(memoryview(held + data[:_HEAD_BYTES]))
            data = data[_HEAD_BYTES:]
            if data:
                self.feed(data)
            return
        self._feed(data)

    def _feed(self, data: memoryview) -> None:
        position, self._skip = self._skip, 0
        try:
            while position < len(data):
                if not self._frames and self._encoding.explicit:
                    position = self._over_short(data, position)
                position = self._step(data, position)
                self._elements += 1
        except NeedMore:
            self._held = bytes(data[position:])
        except TwoReadings:
            raise
        except Unreadable:
            # Padding is fine. Over anything else, and out of a sequence, some readers find their way.
            if not self.is_past_wanted or self._frames or bytes(data[position : position + 1]) not in _PADDINGS:
                raise
            self._padding = bytes(data[position : position + 1])
            self._check_padding(data[position:])
            return
        self._skip = max(0, position - len(data))
        self._base += min(position, len(data))
        self._check_limits()

    def _check_padding(self, data: memoryview) -> None:
        if bytes(data).strip(self._padding):
            raise TwoReadings("something behind the last element")

    def _check_limits(self) -> None:
        if not self.is_past_wanted and (self._base > LIMIT_BYTES or self._elements > LIMIT_ELEMENTS):
            raise Unreadable("too much before the wanted elements")
        if self._elements > LIMIT_ALL_ELEMENTS:
            raise TwoReadings("too many elements")

    def _over_short(self, data: memoryview, position: int) -> int:
        """Step over top-level elements of a short VR, most of a header, and take the wanted ones among them.

        Return where the next element is that needs more care: ``_step`` decides on it.
        """
        head, last, begin = self._encoding.head, self._last, position
        # In order, nothing before the next wanted tag is wanted; behind the last one, nothing above it.
        if self.is_past_wanted:
            last, limit = max(last, self._last_wanted), _BEYOND
        else:
            limit = self._next_wanted(last)
        try:
            while True:
                group, number, vr, length = head(data, position)
                tag = group << 16 | number
                if tag <= last or vr not in SHORT_VRS or group == _ITEMS:
                    break
                if tag >= limit:
                    if tag in self._wanted and not self._take_short(data, position + 8, tag, vr, length):
                        break
                    self.is_past_wanted = tag >= self._last_wanted
                    limit = self._next_wanted(tag)
                last = self._last = tag
                position += 8 + length
        except struct.error:
            pass
        self._elements += (position - begin) // 8  # At most so many.
        return position

    def _next_wanted(self, tag: int) -> int:
        place = bisect_right(self._order, tag)
        return self._order[place] if place < len(self._order) else _BEYOND

    def _take_short(self, data: memoryview, start: int, tag: int, vr: bytes, length: int) -> bool:
        end = start + length
        if vr != self._wanted[tag] or length > _MAXIMUM_VALUE_BYTES or end > len(data):
            return False
        self.values[tag] = bytes(data[start:end])
        return True

    def _step(self, data: memoryview, position: int) -> int:
        """Step over one element or into it; return where the next one is. Raises ``NeedMore``."""
        here = self._base + position
        while self._frames and self._frames[-1].end is not None and here >= self._frames[-1].end:
            if here > self._frames[-1].end:
                raise Unreadable("an item overruns its sequence")
            self._frames.pop()
        if self._frames:
            return self._inside(data, position, self._frames[-1])
        if position >= len(data):
            return position
        tag, vr, length, start = element(data, position, self._encoding)
        if tag < _FIRST:  # A command set: pydicom reads one before anything else.
            raise Unreadable("group")
        if tag >> 16 == _ITEMS:
            raise TwoReadings("an item outside of a sequence")
        if tag in self._wanted:
            return self._take(data, tag, vr, length, start)
        if tag <= self._last and not self.is_past_wanted:
            raise Unreadable("out of order")
        self._last = tag
        if tag > self._last_wanted:
            self.is_past_wanted = True
        return self._into_or_over(tag, vr, length, start, self._encoding)

    def _take(self, data: memoryview, tag: int, vr: bytes, length: int, start: int) -> int:
        if tag in self.values or self.is_past_wanted or tag <= self._last:
            raise TwoReadings("a value that stands twice, or out of order")
        if length > _MAXIMUM_VALUE_BYTES or (self._encoding.explicit and vr not in (self._wanted[tag], b"UN")):
            raise Unreadable("a value that is too long, or of another VR")
        if len(data) < start + length:
            raise NeedMore
        self.values[tag] = bytes(data[start : start + length])
        self._last = tag
        self.is_past_wanted = tag == self._last_wanted
        return start + length

    def _into_or_over(self, tag: int, vr: bytes, length: int, start: int, encoding: Encoding) -> int:
        if length == _UNDEFINED:
            if tag == _PIXEL_DATA and vr in (b"OB", b"OW"):
                self._enter(_Frame(True, encoding, None, fragments=True))
            elif encoding.explicit and vr not in (b"SQ", b"UN"):
                raise TwoReadings("undefined length")
            else:
                # PS3.5 6.2.2: what is unknown is implicit inside.
                self._enter(_Frame(True, IMPLICIT_LITTLE if vr == b"UN" else encoding, None))
            return start
        if (vr == b"SQ" or (not vr and _is_sequence(tag))) and not self.is_past_wanted:
            # By its items, too: readers that trust one or the other length must end at the same place.
            self._enter(_Frame(True, encoding, self._base + start + length))
            return start
        return start + length

    def _inside(self, data: memoryview, position: int, frame: "_Frame") -> int:
        tag, vr, length, start = element(data, position, frame.encoding)
        if not frame.items:
            if tag == _ITEM_END and frame.end is None:
                self._frames.pop()
                return start
            if tag >> 16 == _ITEMS:
                raise Unreadable("item")
            if frame.is_new and not vr and looks_like_a_vr(length.to_bytes(4, "little")[:2]):
                raise Unreadable("VR in an implicit item")
            frame.is_new = False
            return self._into_or_over(tag, vr, length, start, frame.encoding)
        if tag == _SEQUENCE_END and frame.end is None:
            self._frames.pop()
            return start
        if tag != _ITEM or (frame.fragments and length == _UNDEFINED):
            raise Unreadable("sequence")
        if frame.fragments:
            return start + length
        end = None if length == _UNDEFINED else self._base + start + length
        if end is not None and frame.end is not None and end > frame.end:
            raise Unreadable("an item overruns its sequence")
        self._enter(_Frame(False, frame.encoding, end))
        return start

    def _enter(self, frame: "_Frame") -> None:
        if len(self._frames) >= _MAXIMUM_DEPTH:
            raise Unreadable("sequences too deep")
        self._frames.append(frame)


@dataclass(slots=True)
class _Frame:
    """Something that the walk is inside of: items or fragments of a sequence, or an item's elements.

    ``end``: where it ends in the data set, ``None`` when a delimiter ends it.
    """

    items: bool
    encoding: Encoding
    end: int | None
    fragments: bool = False
    is_new: bool = True

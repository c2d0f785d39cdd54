"""A walk over the data elements of a DICOM data set that comes in pieces (PS3.5 section 7).

No byte is read twice.
"""

from sidecar.dicom.element import (
    IMPLICIT_LITTLE,
    ITEM_HEADS,
    ITEMS,
    LOOKED_AT_BYTES,
    UNDEFINED_LENGTH,
    Encoding,
    Frame,
    NeedMore,
    TwoReadings,
    Unreadable,
    is_read_as,
    looks_like_a_vr,
    may_be_sequence,
    read_element,
    rule_word,
)
from sidecar.dicom.element_runs import FIRST_TAG, MAXIMUM_VALUE_BYTES, RunWalk, TagSelection
from sidecar.dicom.header_cache import ElementRun, HeaderPatternCache

LIMIT_BYTES = 4 * 2**20
"""Limit in bytes of the data set before the last wanted element, after inflating."""
LIMIT_ELEMENTS = 50_000
"""Limit of elements, nested elements among them, before the wanted elements are known."""
LIMIT_ALL_ELEMENTS = 2_000_000
"""Limit of elements of an instance.

A deflated file can hold more than anybody has time for.
"""

_PIXEL_DATA = 0x7FE0_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_MAXIMUM_DEPTH = 32
_HEAD_BYTES = 4_096
_PATIENT_GROUP = 0x0010
_PADDINGS = (b"\0", b"\xff")
_MAXIMUM_ICON_BYTES = 65_536  # It is held until it is whole.


class Walk(RunWalk):
    """Collects the ``wanted`` values and refuses a data set with two values of a wanted element.

    Elements may be out of order. Since no wanted element has two values, a reader that stops early
    or searches finds the same value or none.
    """

    _element = staticmethod(read_element)

    def __init__(
        self, encoding: Encoding, wanted: TagSelection, patterns: HeaderPatternCache | None = None
    ) -> None:
        super().__init__(encoding, wanted, patterns)
        self._frames: list[Frame] = []
        self._held = b""
        self._base = 0  # Position in the data set of the held bytes, or else of the next bytes.
        self._skip = 0
        self._is_in_wanted = False
        # The byte that all the rest consists of, once no element is left.
        self._padding: bytes | None = None

    def is_between_elements(self) -> bool:
        """Return whether the data set may end here."""
        open_frames = [frame for frame in self._frames if frame.end != self._base]
        return not (self._held or self._skip or open_frames)

    def may_be_cut(self) -> bool:
        """Return whether all readers agree on a data set that is cut here.

        Some readers take what there is of a wanted value. In fragments that do not end, some look
        for a delimiter. Others go on where a sequence of known length ends.
        """
        limit = self._frames[-1].limit if self._frames else None
        is_behind_limit = limit is not None and self._base + len(self._held) > limit
        is_in_fragments = any(frame.fragments for frame in self._frames)
        return not (self._is_in_wanted or is_in_fragments or is_behind_limit)

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises ``Unreadable``, but not for padding behind the wanted elements.
        """
        if self._padding is not None:
            self._check_padding(data)
            return
        if self._skip >= len(data):
            self._skip -= len(data)
            self._base += len(data)
            self._check_limits()
            return
        if self._held:  # Join few bytes: mostly they complete the element whose begin is held.
            held, self._held = self._held, b""
            self._feed(memoryview(held + data[:_HEAD_BYTES]))
            data = data[_HEAD_BYTES:]
            if data:
                self.feed(data)
            return
        self._feed(data)

    def begin_behind(self, run: ElementRun, data: memoryview) -> None:
        """Take the first bytes, which are known to begin with this ``run``."""
        position = self._pass(run, data, 0)
        self._base = min(position, len(data))
        self._skip = position - self._base
        if self._base < len(data):
            self._feed(data[position:])

    def pass_over(self, size: int) -> int:
        """Take up to ``size`` of the next bytes unread; return how many are inside a value."""
        if self._padding is not None or not self.is_past_wanted:
            return 0
        passed = min(size, self._skip)
        self._skip -= passed
        self._base += passed
        return passed

    def _feed(self, data: memoryview) -> None:
        position, self._skip, self._is_in_wanted = self._skip, 0, False
        try:
            while position < len(data):
                if not self._frames:
                    position = self._over_short(data, position)
                position = self._step(data, position)
                self.elements += 1
        except NeedMore:
            self._held = bytes(data[position:])
        except TwoReadings:
            raise
        except Unreadable:
            # Padding is fine. Some readers go on past anything else, or out of a sequence.
            padding = bytes(data[position : position + 1])
            if not self.is_past_wanted or self._frames or padding not in _PADDINGS:
                raise
            self._padding = padding
            self._check_padding(data[position:])
            return
        self._skip = max(0, position - len(data))
        self._base += min(position, len(data))
        self._check_limits()

    def _check_padding(self, data: memoryview) -> None:
        if bytes(data).strip(self._padding):
            raise TwoReadings("data_behind_end")

    def _check_limits(self) -> None:
        if not self.is_past_wanted and (self._base > LIMIT_BYTES or self.elements > LIMIT_ELEMENTS):
            raise Unreadable("too_much_before_patient")
        if self.elements > LIMIT_ALL_ELEMENTS:
            raise TwoReadings("too_many_elements")

    def _step(self, data: memoryview, position: int) -> int:
        """Step over an element or into it; return the next one's position. Raises ``NeedMore``."""
        here = self._base + position
        while self._frames and self._frames[-1].end is not None and here >= self._frames[-1].end:
            if here > self._frames[-1].end:
                raise Unreadable("item_overruns_sequence")
            self._frames.pop()
        if self._frames:
            return self._inside(data, position, self._frames[-1])
        if position >= len(data):
            return position
        tag, vr, length, start = self._element(data, position, self._encoding)
        if tag < FIRST_TAG:  # A command set: pydicom reads one before anything else.
            raise Unreadable("group_before_0008")
        if tag >> 16 == ITEMS:
            raise TwoReadings("item_outside_sequence")
        if tag in self._wanted:
            return self._take(data, tag, vr, length, start)
        self._note(tag)
        return self._into_or_over(data, tag, vr, length, start, self._encoding)

    def _note(self, tag: int) -> None:
        """Record the tag of an element that is not wanted. Raises ``Unreadable``."""
        if self.is_past_wanted or tag > self._last:
            self._last = tag
        elif tag >> 16 == _PATIENT_GROUP:
            # An element such as PatientName may stand twice, and readers take different values.
            raise Unreadable("patient_group_out_of_order")
        self.is_past_wanted = self.is_past_wanted or tag > self._last_wanted

    def _take(self, data: memoryview, tag: int, vr: bytes, length: int, start: int) -> int:
        if length > MAXIMUM_VALUE_BYTES:
            raise TwoReadings(rule_word(tag) + "_length")
        if self._encoding.explicit and not is_read_as(self._wanted[tag], vr):
            raise TwoReadings(rule_word(tag) + "_vr")
        self._is_in_wanted = len(data) < start + length
        if self._is_in_wanted:
            raise NeedMore
        value = bytes(data[start : start + length])
        if tag in self.values:
            if value != self.values[tag]:
                raise TwoReadings(rule_word(tag) + "_twice")
            return start + length
        if self.is_past_wanted or (tag == self._first_wanted and self.values):
            raise TwoReadings(rule_word(tag) + "_out_of_order")
        self.values[tag] = value
        self._last = max(self._last, tag)
        self.is_past_wanted = tag == self._last_wanted
        return start + length

    def _into_or_over(
        self, data: memoryview, tag: int, vr: bytes, length: int, start: int, encoding: Encoding
    ) -> int:
        # PS3.5 6.2.2: the items of an element with VR UN are in implicit VR.
        inside = IMPLICIT_LITTLE if vr == b"UN" else encoding
        if length == UNDEFINED_LENGTH:
            if tag == _PIXEL_DATA and vr in (b"OB", b"OW"):
                self._enter(Frame(True, encoding, None, fragments=True))
            elif tag == _PIXEL_DATA:
                # Fragments are for explicit VR (PS3.5 A.4). A walk over them as items would hide
                # what follows.
                raise TwoReadings("fragments_implicit")
            elif encoding.explicit and vr not in (b"SQ", b"UN"):
                raise TwoReadings("undefined_length")
            else:
                self._enter(Frame(True, inside, None))
            return start
        if may_be_sequence(data, tag, vr, length, start):
            # Readers that trust the sequence's length, and readers that trust its items, must end
            # at the same place. This is so behind the header, too: a reader of items takes an early
            # delimiter for the end, and what follows for the image's own IssuerOfPatientID or
            # SpecificCharacterSet.
            self._enter(Frame(True, inside, self._base + start + length))
            return start
        return start + length

    def _inside(self, data: memoryview, position: int, frame: Frame) -> int:
        tag, vr, length, start = self._element(data, position, frame.encoding)
        if not frame.items:
            if tag == _ITEM_END and frame.end is None:
                self._frames.pop()
                return start
            if tag >> 16 == ITEMS:
                raise Unreadable("delimiter_in_item")
            if frame.is_new and not vr and looks_like_a_vr(length.to_bytes(4, "little")[:2]):
                raise Unreadable("implicit_looks_explicit")
            frame.is_new = False
            after = self._into_or_over(data, tag, vr, length, start, frame.encoding)
            if frame.limit is not None and self._base + after > frame.limit:
                self._check_overrun(data, position, frame, after)
                frame.end = frame.limit = self._base + after
            return after
        if tag == _SEQUENCE_END and frame.end is None:
            self._frames.pop()
            return start
        if tag != _ITEM or (frame.fragments and length == UNDEFINED_LENGTH):
            raise Unreadable("no_item_in_sequence")
        end = None if length == UNDEFINED_LENGTH else self._base + start + length
        if frame.fragments:
            _check_end(end, frame)
            return start + length
        self._enter(Frame(False, frame.encoding, end))
        return start

    def _check_overrun(self, data: memoryview, position: int, item: Frame, after: int) -> None:
        """Check an item that is shorter than its last element. Raises ``TwoReadings``.

        The item passes where that element ends with the sequence: then all readers go on at the
        same place, or stop. It does not pass if an item or a delimiter stands where the item ends.
        """
        if item.end is None:
            raise TwoReadings("element_overruns_item")
        item_end = item.end - self._base
        ends_with_sequence = self._frames[-1] is item and self._frames[-2].end == self._base + after
        if not (
            self.is_past_wanted
            and ends_with_sequence
            and item_end - position <= _MAXIMUM_ICON_BYTES
        ):
            raise TwoReadings("element_overruns_item")
        if len(data) < item_end + LOOKED_AT_BYTES <= after:
            raise NeedMore
        if item_end < position or bytes(data[item_end : item_end + LOOKED_AT_BYTES]) in ITEM_HEADS:
            raise TwoReadings("element_overruns_item")

    def _enter(self, frame: Frame) -> None:
        if len(self._frames) >= _MAXIMUM_DEPTH:
            raise Unreadable("sequences_too_deep")
        frame.limit = frame.end
        if self._frames:
            _check_end(frame.end, self._frames[-1])
            if frame.end is None:
                frame.limit = self._frames[-1].limit
        self._frames.append(frame)


def _check_end(end: int | None, around: Frame) -> None:
    """Check that what ends at ``end`` ends in the part ``around`` it, also where the data are cut.

    Raises ``Unreadable``. Some readers go on where the outermost sequence ends.
    """
    if end is not None and around.limit is not None and end > around.limit:
        raise Unreadable("item_overruns_sequence")

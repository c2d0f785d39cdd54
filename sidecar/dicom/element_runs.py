"""A walk over the data elements of a data set's top level, several at once (PS3.5 section 7)."""

import struct
from bisect import bisect_right
from collections.abc import Mapping
from functools import partial
from itertools import pairwise

from sidecar.dicom.element import (
    ITEMS,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Encoding,
    is_looked_into,
    is_sequence,
    read_element,
)
from sidecar.dicom.header_cache import ElementRun, HeaderPatternCache, Pattern, struct_of

FIRST_TAG = 0x0008_0000
"""The first tag of a data set: no command set, no file meta."""
MAXIMUM_VALUE_BYTES = 1_024
"""Limit in bytes of a wanted value."""
_BEYOND = 1 << 32
_RUN = 16
_HEAD = 8


class TagSelection:
    """The elements whose values a walk takes: tag -> VR.

    ``first`` and ``last`` are the first and the last of these tags. The first one is the
    SpecificCharacterSet of the others, if any of them has text.
    """

    def __init__(self, vrs: Mapping[int, bytes]) -> None:
        self.vrs = vrs
        self._order = sorted(vrs)
        self.first, self.last = self._order[0], self._order[-1]

    def next(self, tag: int) -> int:
        """Return the next wanted tag behind this tag."""
        index = bisect_right(self._order, tag)
        return self._order[index] if index < len(self._order) else _BEYOND


class RunWalk:
    """Steps over elements of the top level in runs, and takes the ``wanted`` values among them.

    ``patterns`` are those of earlier instances in the same stream.
    """

    def __init__(
        self, encoding: Encoding, wanted: TagSelection, patterns: HeaderPatternCache | None
    ) -> None:
        self.values: dict[int, bytes] = {}
        self.is_past_wanted = False
        self.elements = 0
        """Number of elements, items and delimiters that the walk has passed: each costs time."""
        self._encoding = encoding
        self._wanted = wanted.vrs
        self._next_wanted = wanted.next
        self._first_wanted, self._last_wanted = wanted.first, wanted.last
        self._patterns = patterns
        # The highest tag while a wanted element may come; then the tag of the element before.
        self._last = FIRST_TAG - 1

    def _over_short(self, data: memoryview, position: int) -> int:
        """Step over short elements, which most of a header is, and take the wanted values.

        Return the position of the next element that needs ``Walk._step``.
        """
        patterns = self._patterns
        read = self._read_short if self._encoding.explicit else self._read_implicit
        while True:
            state = self._encoding, self._last, self.is_past_wanted
            run = patterns.run(state, data, position) if patterns is not None else None
            if run is not None:
                position = self._pass(run, data, position)
                continue
            begin, heads = position, list[int]()
            position = read(data, begin, heads)
            if heads and patterns is not None:
                patterns.learn_run(state, partial(self._run, data, begin, heads, position))
            if len(heads) < _RUN:
                return position

    def _pass(self, run: ElementRun, data: memoryview, position: int) -> int:
        self.values.update(zip(run.tags, run.values.unpack_from(data, position), strict=True))
        self.elements += run.elements
        self._last, self.is_past_wanted = run.last, run.is_past_wanted
        return position + run.length

    def _read_short(self, data: memoryview, position: int, heads: list[int]) -> int:
        """Step over the elements of a run and add their positions to ``heads``."""
        head, last = self._encoding.head, self._last
        # Tags ascend: no tag below the next wanted tag is wanted, and none above the last one.
        if self.is_past_wanted:
            last, limit = max(last, self._last_wanted), _BEYOND
        else:
            limit = self._next_wanted(last)
        try:
            while len(heads) < _RUN:
                group, number, vr, length = head(data, position)
                tag = group << 16 | number
                if tag <= last or vr not in SHORT_VRS or group == ITEMS:
                    break
                if tag >= limit:
                    if tag in self._wanted and not self._take_short(
                        data, position + _HEAD, tag, vr, length
                    ):
                        break
                    self.is_past_wanted = tag >= self._last_wanted
                    limit = self._next_wanted(tag)
                last = self._last = tag
                heads.append(position)
                position += _HEAD + length
        except struct.error:
            pass
        self.elements += len(heads)
        return position

    def _read_implicit(self, data: memoryview, position: int, heads: list[int]) -> int:
        """Do as ``_read_short`` does, in a data set without VRs.

        A run ends before a sequence, and before an element that ends with a delimiter.
        """
        head, last = self._encoding.implicit_head, self._last
        if self.is_past_wanted:
            last = max(last, self._last_wanted)
        try:
            while len(heads) < _RUN:
                group, number, length = head(data, position)
                tag = group << 16 | number
                if tag <= last or group == ITEMS or length == UNDEFINED_LENGTH:
                    break
                # Whether a value begins with an item can differ in each instance.
                if is_sequence(tag) or is_looked_into(tag, b"", length):
                    break
                if tag in self._wanted and not self._take_short(
                    data, position + _HEAD, tag, self._wanted[tag], length
                ):
                    break
                self.is_past_wanted = tag >= self._last_wanted
                last = self._last = tag
                heads.append(position)
                position += _HEAD + length
        except struct.error:
            pass
        self.elements += len(heads)
        return position

    def _run(self, data: memoryview, begin: int, heads: list[int], end: int) -> ElementRun:
        """Return the elements just read, from ``begin`` to ``end``, for the next instance."""
        values, values_end = dict[int, tuple[int, int]](), 0
        for position, after in pairwise([*heads, end]):
            tag = read_element(data, position, self._encoding)[0]
            if tag in self._wanted:
                values_end = after
                values[tag] = position + _HEAD, after - position - _HEAD
        places = [(position, _HEAD) for position in heads]
        if values_end > heads[-1]:  # The last value, too, must have come.
            places.append((values_end, 0))
        return ElementRun(
            Pattern(data, begin, places),
            tuple(values),
            struct_of(begin, [*values.values()]),
            len(heads),
            end - begin,
            self._last,
            self.is_past_wanted,
        )

    def _take_short(self, data: memoryview, start: int, tag: int, vr: bytes, length: int) -> bool:
        end = start + length
        if vr != self._wanted[tag] or length > MAXIMUM_VALUE_BYTES or end > len(data):
            return False
        self.values[tag] = bytes(data[start:end])
        return True

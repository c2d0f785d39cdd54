"""Headers of one stream whose elements stand where those of an instance before stood.

A walk over a header decides by the heads of the elements (tag, VR and length) and takes some
values. So where the same heads stand at the same places as before, it comes out at the same place,
and one call of a C function that compares them all stands for many steps. The cache is of one
stream, is bounded, and has no value in it: nothing of one patient is left for the next.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

MOST = 64
"""Limit of patterns in a cache."""
MOST_ALIKE = 8
"""Limit of patterns compared at one place."""
_MISSES = 16


class Pattern:
    """The bytes of ``data`` at certain ``places`` behind ``begin``.

    A place is a position and a length in bytes; positions ascend.
    """

    __slots__ = ("_expected", "_take", "size")

    def __init__(
        self, data: bytes | memoryview, begin: int, places: Sequence[tuple[int, int]]
    ) -> None:
        form, end = "", begin
        for position, length in places:
            form += f"{position - end}x{length}s"
            end = position + length
        struct = Struct(form)
        self.size = struct.size
        self._take = struct.unpack_from
        self._expected = struct.unpack_from(data, begin)

    def is_in(self, data: bytes | memoryview, position: int) -> bool:
        """Return whether the same bytes stand there in these ``data``, behind ``position``."""
        return len(data) - position >= self.size and self._take(data, position) == self._expected


@dataclass(frozen=True, slots=True)
class ElementRun:
    """Elements one behind the other, over which a walk goes at once.

    ``values``: the tags of the wanted ones, and where from the run's begin each value begins and
    ends. ``length``: where the next element is, in bytes from the run's begin. ``last`` and
    ``is_past_wanted``: the state of the walk then.
    """

    pattern: Pattern
    values: tuple[tuple[int, int, int], ...]
    elements: int
    length: int
    last: int
    is_past_wanted: bool


@dataclass(frozen=True, slots=True)
class FileMeta:
    """A File Meta Information: its ``end`` in bytes, and its TransferSyntaxUID.

    ``places`` are what was looked at; none: the pattern is not for the next instance.
    """

    pattern: Pattern
    end: int
    syntax: str
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HeaderPattern:
    """File meta and elements up to somewhere behind the wanted ones.

    ``run`` counts from the data set's begin.
    """

    pattern: Pattern
    meta: FileMeta
    run: ElementRun


_Pattern = TypeVar("_Pattern", FileMeta, ElementRun, HeaderPattern)


class HeaderPatternCache:
    """The patterns of one stream's instances."""

    def __init__(self) -> None:
        self._headers: list[HeaderPattern] = []
        self._metas: list[FileMeta] = []
        self._runs: dict[Hashable, list[ElementRun]] = {}
        self._room = MOST
        self._hits = self._misses = 0
        self._gives_up = False

    def header(self, data: memoryview) -> HeaderPattern | None:
        """Return a known header with which the instance in ``data`` begins."""
        header = _find(self._headers, data, 0)
        if header is not None:
            self._hits += 1
        elif self._headers:
            self._misses += 1
            if self._misses > _MISSES + 2 * self._hits:  # Each instance has its own.
                self._headers.clear()
                self._gives_up = True
        return header

    @property
    def has_room_for_header(self) -> bool:
        """Whether one more may be learnt."""
        return not self._gives_up and self._room > 0 and len(self._headers) < MOST_ALIKE

    def learn_header(self, header: HeaderPattern) -> None:
        """Add a header, if there is room."""
        self._learn(self._headers, lambda: header)

    def meta(self, data: bytes | memoryview) -> FileMeta | None:
        """Return a known file meta with which ``data`` begin."""
        return _find(self._metas, data, 0)

    def learn_meta(self, meta: FileMeta) -> None:
        """Add a file meta, if there is room."""
        self._learn(self._metas, lambda: meta)

    def run(self, state: Hashable, data: memoryview, position: int) -> ElementRun | None:
        """Return a known run at ``position``, for a walk that has come there in this ``state``."""
        known = self._runs.get(state)
        return None if known is None else _find(known, data, position)

    def learn_run(self, state: Hashable, make: Callable[[], ElementRun]) -> None:
        """Add a run, if there is room."""
        if self._room:
            self._learn(self._runs.setdefault(state, []), make)

    def _learn(self, known: list[_Pattern], make: Callable[[], _Pattern]) -> None:
        if self._room and len(known) < MOST_ALIKE:
            self._room -= 1
            known.append(make())


def _find(known: list[_Pattern], data: bytes | memoryview, position: int) -> _Pattern | None:
    for place, candidate in enumerate(known):
        if candidate.pattern.is_in(data, position):
            if place:  # What came last comes next, mostly.
                known[0], known[place] = candidate, known[0]
            return candidate
    return None

"""Headers of one stream whose elements are where those of an earlier instance were.

A walk over a header decides by the heads of the elements (tag, VR and length) and takes some
values. So where the same heads are at the same positions as before, it ends at the same position,
and one call of a C function that compares them all replaces many steps. The cache is of one stream,
is bounded, and has no value in it: nothing of one patient is left for the next.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

MAXIMUM_PATTERNS = 128
"""Limit of patterns in a cache."""
MAXIMUM_HEADERS = 48
"""Limit of patterns of whole headers. Few of them are compared: those of instances as long."""
MAXIMUM_CANDIDATES = 8
"""Limit of patterns compared at one position, where the length of the instance is unknown."""
_TOLERATED_MISSES = 16


class Pattern:
    """The bytes of ``data`` at certain ``places`` behind ``begin``.

    A place is a position and a length in bytes; positions ascend.
    """

    __slots__ = ("_expected", "_take", "size")

    def __init__(
        self, data: bytes | memoryview, begin: int, places: Sequence[tuple[int, int]]
    ) -> None:
        struct = struct_of(begin, places)
        self.size = struct.size
        self._take = struct.unpack_from
        self._expected = struct.unpack_from(data, begin)

    def is_in(self, data: bytes | memoryview, position: int) -> bool:
        """Return whether ``data`` have the same bytes at the same places behind ``position``."""
        return len(data) - position >= self.size and self._take(data, position) == self._expected


def struct_of(begin: int, places: Sequence[tuple[int, int]]) -> Struct:
    """Return the struct of the bytes at ``places``, which are positions and lengths.

    It unpacks from ``begin`` on.
    """
    form, end = "", begin
    for position, length in places:
        form += f"{position - end}x{length}s"
        end = position + length
    return Struct(form)


@dataclass(frozen=True, slots=True)
class ElementRun:
    """Consecutive elements, which a walk passes at once.

    ``values`` unpacks the values of the wanted elements ``tags`` from the run's begin on.
    ``elements`` is the number of elements, ``length`` the position of the next one, in bytes from
    the run's begin. ``last`` and ``is_past_wanted`` are the state of the walk then.
    """

    pattern: Pattern
    tags: tuple[int, ...]
    values: Struct
    elements: int
    length: int
    last: int
    is_past_wanted: bool


@dataclass(frozen=True, slots=True)
class FileMeta:
    """A File Meta Information: its ``end`` in bytes, and its TransferSyntaxUID.

    ``places`` are those of the ``pattern``. Without any, it is not for the next instance.
    """

    pattern: Pattern
    end: int
    syntax: str
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HeaderPattern:
    """File meta and the elements up to some element behind the wanted ones.

    The positions of ``run`` count from the data set's begin. ``end`` is that of the last element,
    in bytes from the file's begin.
    """

    pattern: Pattern
    meta: FileMeta
    run: ElementRun
    end: int


_Pattern = TypeVar("_Pattern", FileMeta, ElementRun, HeaderPattern)


class HeaderPatternCache:
    """The patterns of one stream's instances."""

    def __init__(self) -> None:
        self._headers: list[HeaderPattern] = []
        self._metas: list[FileMeta] = []
        self._runs: dict[Hashable, list[ElementRun]] = {}
        self._room = MAXIMUM_PATTERNS
        self._hits = self._misses = 0
        self._learns_headers = True

    def header(self, data: memoryview) -> HeaderPattern | None:
        """Return a known header with which the instance in ``data`` begins."""
        header = _find(self._headers, data, 0)
        if header is not None:
            self._hits += 1
        elif self._headers:
            self._misses += 1
            if self._misses > _TOLERATED_MISSES + 2 * self._hits:  # Most headers differ.
                self._headers.clear()
                self._learns_headers = False
        return header

    def whole(self, data: bytes, begin: int, size: int) -> HeaderPattern | None:
        """Return a known header of the instance that is ``size`` bytes of ``data`` from ``begin``.

        ``None``: it has none, or more elements than that header.
        """
        for header in self._headers:
            if header.end == size and header.pattern.is_in(data, begin):
                self._hits += 1
                return header
        return None

    @property
    def has_room_for_header(self) -> bool:
        """Whether another header should be learnt."""
        return self._learns_headers and self._room > 0 and len(self._headers) < MAXIMUM_HEADERS

    def learn_header(self, header: HeaderPattern) -> None:
        """Add a header, if there is room."""
        self._learn(self._headers, lambda: header, MAXIMUM_HEADERS)

    def meta(self, data: bytes | memoryview) -> FileMeta | None:
        """Return a known file meta with which ``data`` begin."""
        return _find(self._metas, data, 0)

    def learn_meta(self, meta: FileMeta) -> None:
        """Add a file meta, if there is room."""
        self._learn(self._metas, lambda: meta)

    def run(self, state: Hashable, data: memoryview, position: int) -> ElementRun | None:
        """Return a known run at ``position``, for a walk that is there in this ``state``."""
        runs = self._runs.get(state)
        return None if runs is None else _find(runs, data, position)

    def learn_run(self, state: Hashable, make: Callable[[], ElementRun]) -> None:
        """Add a run, if there is room."""
        if self._room:
            self._learn(self._runs.setdefault(state, []), make)

    def _learn(
        self,
        candidates: list[_Pattern],
        make: Callable[[], _Pattern],
        most: int = MAXIMUM_CANDIDATES,
    ) -> None:
        if self._room and len(candidates) < most:
            self._room -= 1
            candidates.append(make())


def _find(candidates: list[_Pattern], data: bytes | memoryview, position: int) -> _Pattern | None:
    for index, candidate in enumerate(candidates[:MAXIMUM_CANDIDATES]):
        if candidate.pattern.is_in(data, position):
            if index:  # The last pattern that matched is likely to match next.
                candidates[0], candidates[index] = candidate, candidates[0]
            return candidate
    return None

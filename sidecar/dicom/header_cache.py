"""Headers that are laid out alike: an instance's elements mostly stand where those of the one before it stood.

A walk over a header decides by the heads of the elements alone (tag, VR and length) and takes some
values. So where the same heads stand at the same places as once before, it comes out at the same
place, and one call of a C function that compares them all stands for so many steps. Kept for one
stream, of it a bounded number; never a value, so that nothing of one patient is left for the next.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

MOST = 64
"""So many runs and file metas are remembered for a stream."""
MOST_ALIKE = 8
"""Of these so many are tried at one place."""
_IN_VAIN = 16


class Pattern:
    """The bytes at certain places of ``data`` behind ``begin``: positions, ascending, and lengths in bytes."""

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
        """Whether the same bytes stand there in these ``data``, behind ``position``."""
        return len(data) - position >= self.size and self._take(data, position) == self._expected


@dataclass(frozen=True, slots=True)
class ElementRun:
    """Elements one behind the other, over which a walk goes at once.

    ``values``: of those that are wanted the tag, and where from the run's begin the value begins
    and ends. ``length``: where the next element is, in bytes from the run's begin. ``last`` and
    ``is_past_wanted``: what the walk knows then.
    """

    pattern: Pattern
    values: tuple[tuple[int, int, int], ...]
    elements: int
    length: int
    last: int
    is_past_wanted: bool


@dataclass(frozen=True, slots=True)
class FileMeta:
    """A File Meta Information: its ``end`` in bytes, the TransferSyntaxUID, and the ``places`` that count.

    No places: it is not to be remembered.
    """

    pattern: Pattern
    end: int
    syntax: str
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HeaderPattern:
    """File meta and elements up to somewhere behind the wanted ones: ``run`` counts from the data set's begin."""

    pattern: Pattern
    meta: FileMeta
    run: ElementRun


_Layout = TypeVar("_Layout", FileMeta, ElementRun, HeaderPattern)


class HeaderPatternCache:
    """What has been seen in one stream."""

    def __init__(self) -> None:
        self._heads: list[HeaderPattern] = []
        self._metas: list[FileMeta] = []
        self._runs: dict[Hashable, list[ElementRun]] = {}
        self._left = MOST
        self._hits = self._misses = 0
        self._gives_up = False

    def head(self, data: memoryview) -> HeaderPattern | None:
        """Return a known head with which the instance in ``data`` begins."""
        head = _known(self._heads, data, 0)
        if head is not None:
            self._hits += 1
        elif self._heads:
            self._misses += 1
            # Each instance is laid out in its own way.
            if self._misses > _IN_VAIN + 2 * self._hits:
                self._heads.clear()
                self._gives_up = True
        return head

    @property
    def has_room_for_head(self) -> bool:
        """Whether one more may be learnt."""
        return not self._gives_up and self._left > 0 and len(self._heads) < MOST_ALIKE

    def learn_head(self, head: HeaderPattern | None) -> None:
        """Remember a head, if there is room."""
        if head is not None:
            self._learn(self._heads, lambda: head)

    def meta(self, data: bytes | memoryview) -> FileMeta | None:
        """Return a known file meta with which ``data`` begin."""
        return _known(self._metas, data, 0)

    def run(self, state: Hashable, data: memoryview, position: int) -> ElementRun | None:
        """Return a known run that goes on from ``position``, for a walk that has come there in this ``state``."""
        known = self._runs.get(state)
        return None if known is None else _known(known, data, position)

    def learn_meta(self, meta: FileMeta) -> None:
        """Remember a file meta, if there is room."""
        self._learn(self._metas, lambda: meta)

    def learn_run(self, state: Hashable, make: Callable[[], ElementRun]) -> None:
        """Remember a run, if there is room."""
        if self._left:
            self._learn(self._runs.setdefault(state, []), make)

    def _learn(self, known: list[_Layout], make: Callable[[], _Layout]) -> None:
        if self._left and len(known) < MOST_ALIKE:
            self._left -= 1
            known.append(make())


def _known(known: list[_Layout], data: bytes | memoryview, position: int) -> _Layout | None:
    for place, one in enumerate(known):
        if one.pattern.is_in(data, position):
            if place:  # What came last comes next, mostly.
                known[0], known[place] = one, known[0]
            return one
    return None

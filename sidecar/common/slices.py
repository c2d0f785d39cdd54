"""Long work on the event loop, done in slices: other requests have their turn in between.

What takes long here is short work on each of many rows. A thread would not help: the interpreter
runs one at a time.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.005
"""How long work goes on before others have their turn."""

SMALL_SECONDS = 0.0005
"""How long work goes on before it waits for its turn at all."""
BATCH = 50
"""Tasks started together, at most: all of them run before the loop polls the network."""

T = TypeVar("T")


class _Slices:
    """Those of one event loop: what has been worked on since its last look at the network.

    Short work that follows short work without such a look is one slice, and so is all small work.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._small = SLICE_SECONDS
        self._until: float | None = None
        self._waits = False

    def begin(self) -> float:
        """Return when the slice ends that has begun since the last look, or begins now."""
        if self._until is None:
            self._until = time.perf_counter() + SLICE_SECONDS
            self._notice()
        return self._until

    def work_small(self, items: Iterator[T | None], found: list[T]) -> bool:
        """Do small work without its turn, if there is time left for that.

        Return whether it was all.
        """
        if self._small <= 0:
            return False
        began = time.perf_counter()
        self._notice()
        ended = _work(items, found, began + min(SMALL_SECONDS, self._small))
        self._small -= time.perf_counter() - began
        return ended

    def _notice(self) -> None:
        if not self._waits:
            self._waits = True
            asyncio.get_running_loop().call_soon(self._looked)

    def _looked(self) -> None:
        self._waits, self._until, self._small = False, None, SLICE_SECONDS


_SLICES: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Slices]" = WeakKeyDictionary()


async def let_go(items: list[T]) -> None:
    """Empty a list in slices: to free what nobody else has takes time, too."""

    def few() -> Iterator[None]:
        while items:
            del items[-BATCH:]
            yield

    await in_slices(few())


def batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return ``items`` in parts that can be awaited together."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


async def in_slices(items: Iterable[T | None]) -> list[T]:
    """Return the items of a generator that works for each of them, a slice at a time.

    The time is looked at between two items: a generator that leaves out some yields ``None`` for
    them, which is left out.

    Of all that is sliced one slice runs between two looks at the network, each in its turn: so the
    stall is one slice however many requests do this at once. Small work, one
    slice of it in all, does not wait behind large work. Raises what the generator raises.
    """
    slices = _SLICES.setdefault(asyncio.get_running_loop(), _Slices())
    iterator = iter(items)
    found: list[T] = []
    if slices.work_small(iterator, found):
        return found
    while True:
        async with slices.turn:
            if _work(iterator, found, slices.begin()):
                return found
            # With the turn: the next one begins after a look at the network.
            await asyncio.sleep(0)


def _work(items: Iterator[T | None], found: list[T], until: float) -> bool:
    """Add the next items to those ``found`` until then; return whether that were all."""
    for item in items:
        if item is not None:
            found.append(item)
        if time.perf_counter() >= until:
            return False
    return True

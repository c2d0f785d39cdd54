"""Long work on the event loop, in slices: other requests have their turn in between.

It is short work on each of many rows. A thread would not help: the interpreter runs one at a time.
Long work on one item is done in a thread, from which the interpreter goes back to the loop every
few milliseconds.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.005
"""Seconds of work before others have their turn."""
SMALL_SECONDS = 0.0005
"""Seconds of work that needs no turn of its own."""
BATCH = 50
"""Limit of tasks that start together: all of them run before the loop polls the network."""
LONG_ROWS = 500
"""Number of rows from which work on one item is long: some 30 µs for each."""
_LONG = ThreadPoolExecutor(1, "long-work")
"""One thread: a second would have the interpreter no sooner, and others need theirs."""

Item = TypeVar("Item")
T = TypeVar("T")


class _Slices:
    """The work of one event loop since it last polled the network.

    All short work between two polls is one slice, and so is all small work.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._small = SLICE_SECONDS
        self._until: float | None = None
        self._waits = False

    def begin(self) -> float:
        """Return when the slice ends that began after the last poll, or begins now."""
        if self._until is None:
            self._until = time.perf_counter() + SLICE_SECONDS
            self._notice()
        return self._until

    def work_small(self, items: Iterator[T | None], done: list[T]) -> bool:
        """Do small work without a turn, if there is time left. Return whether that was all."""
        if self._small <= 0:
            return False
        began = time.perf_counter()
        self._notice()
        ended = _work(items, done, began + min(SMALL_SECONDS, self._small))
        self._small -= time.perf_counter() - began
        return ended

    def _notice(self) -> None:
        if not self._waits:
            self._waits = True
            asyncio.get_running_loop().call_soon(self._polled)

    def _polled(self) -> None:
        self._waits, self._until, self._small = False, None, SLICE_SECONDS


_SLICES: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Slices]" = WeakKeyDictionary()


async def let_go(items: list[T]) -> None:
    """Empty a list in slices, because freeing many objects takes time."""

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

    The time is checked between two items. A generator that skips an item yields ``None`` for it,
    which is left out.

    All callers take turns, and one slice runs between two polls of the network. So the stall is one
    slice, however many requests do this at once. Small work does not wait behind large work, up to
    one slice of it in all. Raises what the generator raises.
    """
    loop = asyncio.get_running_loop()
    slices = _SLICES.get(loop)
    if slices is None:
        slices = _SLICES[loop] = _Slices()
    iterator = iter(items)
    done: list[T] = []
    if slices.work_small(iterator, done):
        return done
    while True:
        async with slices.turn:
            if _work(iterator, done, slices.begin()):
                return done
            # While holding the turn: the next one begins after a poll of the network.
            await asyncio.sleep(0)


async def for_each(
    items: Sequence[Item], work: Callable[[Item], T | None], rows: Callable[[Item], int]
) -> list[T]:
    """Return ``work(item)`` for each of the items, in slices; ``None`` is left out.

    ``rows(item)``: how many rows it works on. Work on more than ``LONG_ROWS`` is done in a thread.
    Raises what ``work`` raises.
    """
    loop = asyncio.get_running_loop()
    long = {
        place: await loop.run_in_executor(_LONG, work, item)
        for place, item in enumerate(items)
        if rows(item) > LONG_ROWS
    }
    return await in_slices(
        long[place] if place in long else work(item) for place, item in enumerate(items)
    )


def _work(items: Iterator[T | None], done: list[T], until: float) -> bool:
    """Add items to ``done`` until that time. Return whether those were all."""
    for item in items:
        if item is not None:
            done.append(item)
        if time.perf_counter() >= until:
            return False
    return True

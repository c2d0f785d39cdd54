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
_TURNS: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = WeakKeyDictionary()


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
    stall is one slice however many requests do this at once. Small work is done at once: it
    does not wait behind large work. Raises what the generator raises.
    """
    turn = _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    iterator = iter(items)
    found: list[T] = []
    if _work(iterator, found, SMALL_SECONDS):
        return found
    while True:
        async with turn:
            if _work(iterator, found, SLICE_SECONDS):
                return found
            await asyncio.sleep(0)  # With the turn: the next one begins its slice after a look at the network.


def _work(items: Iterator[T | None], found: list[T], seconds: float) -> bool:
    """Add the next items to those ``found`` for so long; return whether that were all."""
    until = time.perf_counter() + seconds
    for item in items:
        if item is not None:
            found.append(item)
        if time.perf_counter() >= until:
            return False
    return True

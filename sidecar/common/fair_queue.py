"""A bounded queue for a limited number of places, fair among its callers."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import repeat
from operator import lt
from typing import TypeAlias

Key: TypeAlias = tuple[Hashable, ...]
"""The caller, from the whole to the part: ``(patient, app)``."""

UNLIMITED = 2**31


class QueueFull(Exception):
    """Too many wait already.

    ``level`` is 0 for all callers together, else the part of the key that has too many.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.level = level


class WaitTooLong(Exception):
    """No place became free in time."""


class FairQueue:
    """Grant places to callers, whose keys have one part for each level.

    ``at_once`` and ``waiting`` have a limit for each level. ``(64, 32, 16)`` is 64 places in all,
    32 for one patient and 16 for one app of the patient. A caller waits ``seconds`` at most.

    A place that becomes free goes to the patient who holds the fewest, round robin among equals,
    and likewise among the patient's apps. Requests of one app are served in order. An eighth of all
    places is for patients who hold none, so that a few patients do not keep others out.
    """

    def __init__(self, at_once: Sequence[int], *, waiting: Sequence[int], seconds: float) -> None:
        if len(at_once) != len(waiting):
            raise ValueError("at_once and waiting are for different levels")
        self._at_once = tuple(at_once)
        self._at_once_of_holders = self._at_once[0] - self._at_once[0] // 8
        self._most_waiting = tuple(waiting)
        self._seconds = seconds
        self._running: Counter[Key] = Counter()
        self._waiting: Counter[Key] = Counter()
        # For each prefix of a key with waiting callers: the next parts, in order of their turns.
        self._turns: dict[Key, OrderedDict[Hashable, None]] = {}
        self._futures: dict[Key, OrderedDict[asyncio.Future[None], None]] = {}

    @asynccontextmanager
    async def place(self, *key: Hashable) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the block runs. Raises as ``enter``."""
        await self.enter(key)
        try:
            yield
        finally:
            self.leave(key)

    async def enter(self, key: Key, seconds: float | None = None) -> None:
        """Wait for a place, which is held until ``leave``.

        ``seconds`` is a limit other than the queue's own. Raises ``QueueFull`` or ``WaitTooLong``.
        """
        if len(key) != len(self._at_once) - 1:
            raise ValueError("the key has another number of levels than the limits")
        prefixes = _prefixes(key)
        if self._has_room(prefixes):
            _count(self._running, prefixes, 1)
        else:
            await self._wait(key, self._seconds if seconds is None else seconds)

    def leave(self, key: Key) -> None:
        """Give a place back."""
        _count(self._running, _prefixes(key), -1)
        if self._futures:
            self._serve()

    async def _wait(self, key: Key, seconds: float) -> None:
        for level, prefix in enumerate(_prefixes(key)):
            if self._waiting[prefix] >= self._most_waiting[level]:
                raise QueueFull(level)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enter(key, future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except BaseException as error:
            if future in self._futures.get(key, ()):
                self._leave(key, future)
            elif not future.cancelled():  # It was served in the same moment.
                self.leave(key)
            if isinstance(error, TimeoutError):
                raise WaitTooLong from None
            raise

    def _enter(self, key: Key, future: asyncio.Future[None]) -> None:
        _count(self._waiting, _prefixes(key), 1)
        self._futures.setdefault(key, OrderedDict())[future] = None
        for level, part in enumerate(key):
            self._turns.setdefault(key[:level], OrderedDict()).setdefault(part)

    def _leave(self, key: Key, future: asyncio.Future[None]) -> None:
        _count(self._waiting, _prefixes(key), -1)
        del self._futures[key][future]
        if not self._futures[key]:
            del self._futures[key]
        for level in reversed(range(len(key))):
            if not self._waiting[key[: level + 1]]:
                del self._turns[key[:level]][key[level]]
                if not self._turns[key[:level]]:
                    del self._turns[key[:level]]

    def _serve(self) -> None:
        while self._futures and (key := self._next(())) is not None:
            future = next(iter(self._futures[key]))
            for level, part in enumerate(key):
                self._turns[key[:level]].move_to_end(part)
            self._leave(key, future)
            if future.cancelled():
                # Its caller has left, but its task has not run yet. Other tasks run first.
                asyncio.get_running_loop().call_soon(self._serve)
                return
            _count(self._running, _prefixes(key), 1)
            future.set_result(None)

    def _next(self, prefix: Key, other_than: Key | None = None) -> Key | None:
        """Return the key below ``prefix`` whose turn it is, or ``None``."""
        if self._running[prefix] >= self._at_once[len(prefix)]:
            return None
        if len(prefix) == len(self._at_once) - 1:
            return None if prefix == other_than or prefix not in self._futures else prefix
        # The fewest places first, and among equals the longest wait since the last turn.
        for part in sorted(
            self._turns.get(prefix, ()), key=lambda part: self._running[*prefix, part]
        ):
            if not self._is_left_to((*prefix, part)):
                return None
            if (key := self._next((*prefix, part), other_than)) is not None:
                return key
        return None

    def would_serve_another(self, key: Key) -> bool:
        """Return whether another key would be served if ``key`` held one place less."""
        _count(self._running, _prefixes(key), -1)
        try:
            return self._next((), other_than=key) is not None
        finally:
            _count(self._running, _prefixes(key), 1)

    def _has_room(self, prefixes: Sequence[Key]) -> bool:
        if len(prefixes) > 1 and not self._is_left_to(prefixes[1]):
            return False
        return all(map(lt, map(self._running.get, prefixes, repeat(0)), self._at_once))

    def _is_left_to(self, prefix: Key) -> bool:
        """Return whether ``prefix`` may have a place, if it has one part (others always may).

        The last eighth of the places is for those who hold none.
        """
        return (
            len(prefix) != 1
            or self._running[()] < self._at_once_of_holders
            or not self._running[prefix]
        )


def _count(counter: Counter[Key], prefixes: Sequence[Key], step: int) -> None:
    """Add ``step`` to the counts of a key and its prefixes. Counts of 0 are removed."""
    for prefix in prefixes:
        # Not counter[prefix]: for what is missing it calls Python.
        if count := counter.get(prefix, 0) + step:
            counter[prefix] = count
        else:
            del counter[prefix]


@lru_cache(1_024)  # Each caller takes many places, one after the other.
def _prefixes(key: Key) -> tuple[Key, ...]:
    return tuple(key[:length] for length in range(len(key) + 1))

"""Cache answers of other systems: load each key once at a time, and forget it when told (SIA-42).

Every answer that is remembered across requests is in a ``LoadingCache``. Its constructor registers
it with the ``Invalidation``, so that no cache can be left out.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from sidecar.common.invalidation import Invalidation
from sidecar.common.single_flight import CALL_SECONDS, SingleFlight

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Stamp = tuple[int, int]
"""The generation of everything and of the key alone when an answer was asked for."""


class ForgetOn(Enum):
    """Which event empties a cache whose keys name no patient."""

    ANY_CHANGE = "any change"
    """Any change at the archive: what stands under a UID may change with any patient."""
    INVALIDATE = "invalidate"
    """``Invalidation.invalidate`` alone: the answer is the EHR's or the policy engine's."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    """A cached value, with times in seconds of the cache's clock.

    ``began``: when its load began. ``asked``: the same, or minus infinity where the load may have
    joined an earlier query. ``until``: its end. ``generation``: that of its key. ``weight``: what
    it counts in its table.
    """

    value: Value
    began: float
    asked: float
    until: float
    generation: int
    weight: int


class _Table(Generic[Key, Value]):
    """Entries that weigh ``most`` at most together, the least recently used one first.

    A hit is one look into a dictionary: with ``cachetools.TLRUCache`` it took three times as long.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Remove all entries."""
        self.entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._left = self._most

    def put(self, key: Key, entry: _Entry[Value], now: float) -> None:
        """Add an entry, for which old ones leave; none that has ended, or is too heavy."""
        if not now < entry.until or entry.weight > self._most:
            return
        while self.entries:
            oldest = next(iter(self.entries))
            if now < self.entries[oldest].until and entry.weight <= self._left:
                break
            self.pop(oldest)
        self.entries[key] = entry
        self._left -= entry.weight

    def pop(self, key: Key) -> None:
        """Remove an entry, if it is there."""
        if (entry := self.entries.pop(key, None)) is not None:
            self._left += entry.weight


class LoadingCache(Generic[Key, Value]):
    """Cache what ``load`` returns for a key; errors are raised to all who wait and not cached.

    - One load runs at a time per key, in a task of its own (``SingleFlight``).
    - ``ttl_seconds``: lifetime of an entry from the end of its load, or a function of its value;
      0 caches nothing.
    - ``is_negative(key, value)`` is true for an answer that says "no". Such an entry lives for
      ``negative_seconds`` in a table of its own, so that nobody can push out good entries by
      asking for what is not there. Each table has at most ``max_entries``, least recently used
      ones leave; an entry counts ``weight(value)``, and one that counts more than that is not
      cached.
    - ``forget_on``: the event that empties the cache, or a function that returns the PatientIDs
      of a key; then a change of these patients forgets the key.
    - ``study(key)`` is the StudyInstanceUID that a key is about: ``Invalidation.forget_study`` of
      it forgets the entry.

    An answer that was asked for before a forgetting is never cached after it, nor does anybody who
    asks after it wait for that load. A value is never ``None``. The clock is monotonic, in seconds.
    """

    def __init__(
        self,
        invalidation: Invalidation,
        forget_on: ForgetOn | Callable[[Key], Collection[str]] = ForgetOn.ANY_CHANGE,
        *,
        max_entries: int,
        ttl_seconds: float | Callable[[Value], float],
        negative_seconds: float = 0,
        is_negative: Callable[[Key, Value], bool] = lambda key, value: False,
        study: Callable[[Key], str] | None = None,
        weight: Callable[[Value], int] = lambda value: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._invalidation = invalidation
        self._forget_on = forget_on
        self._is_negative = is_negative
        self._ttl = ttl_seconds if callable(ttl_seconds) else lambda value: ttl_seconds
        self._negative_seconds = negative_seconds
        self._study = study
        self._weight = weight
        self._clock = clock
        self._flight: SingleFlight[tuple[Key, bool, Stamp], Value] = SingleFlight()
        self._positive: _Table[Key, Value] = _Table(max_entries)
        self._negative: _Table[Key, Value] = _Table(max_entries)
        invalidation.register(
            self,
            others=forget_on is ForgetOn.INVALIDATE,
            seconds=self._study_seconds(ttl_seconds),
        )

    def __len__(self) -> int:
        return len(self._positive.entries) + len(self._negative.entries)

    async def get(
        self,
        key: Key,
        load: Callable[[], Awaitable[Value]],
        *,
        max_age_seconds: float = math.inf,
    ) -> Value:
        """Return what is cached for ``key``, or load it. Raises what ``load`` and ``reload`` raise.

        An entry is discarded when more than ``max_age_seconds`` went by since it was asked for. The
        age of one that was loaded for a caller without such a limit is not known: it is too old.
        Who finds a load under way that a caller with a limit began takes its answer.
        """
        value = self.peek(key, max_age_seconds=max_age_seconds)
        if value is not None:
            return value
        self.discard(key)
        return await self.reload(key, load, is_dated=max_age_seconds < math.inf)

    async def reload(
        self, key: Key, load: Callable[[], Awaitable[Value]], *, is_dated: bool = False
    ) -> Value:
        """Load ``key`` whatever is cached, or wait for the load that is under way.

        ``is_dated``: the entry's age counts from now; else it is not known, because ``load`` may
        join a query that began earlier. Nobody who wants the one waits for a load of the other.
        Raises ``Unavailable`` (503) as ``SingleFlight.run`` does.
        """
        stamp = self.stamp(key)

        async def fill() -> Value:
            began = self._clock()
            value = await load()
            self._put(key, value, stamp, began, began if is_dated else -math.inf)
            return value

        return await self._flight.run((key, is_dated, stamp), fill)

    def peek(self, key: Key, *, max_age_seconds: float = math.inf) -> Value | None:
        """Return what is cached for ``key``, if it is as young as for ``get``, or ``None``."""
        self._invalidation.catch_up()
        entry = self._stored(key)
        if entry is None:
            return None
        if max_age_seconds < math.inf and self._clock() - entry.asked >= max_age_seconds:
            return None
        return entry.value

    def stamp(self, key: Key) -> Stamp:
        """Return what changes when ``key`` is forgotten: to be taken before asking, for ``put``."""
        return self._invalidation.generation, self._generation(key)

    def put(self, key: Key, value: Value, stamp: Stamp) -> None:
        """Cache a value that was asked for at ``stamp``, unless it was forgotten since."""
        self._put(key, value, stamp, self._clock(), -math.inf)

    def setdefault(self, key: Key, value: Value) -> Value:
        """Return what is cached for ``key``, or cache ``value`` for it and return that."""
        if (kept := self.peek(key)) is not None:
            return kept
        self.put(key, value, self.stamp(key))
        return value

    def discard(self, key: Key) -> None:
        """Forget one key, if it is cached. A load of it that is under way goes on."""
        self._positive.pop(key)
        self._negative.pop(key)

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """Forget what is about the patients of these PatientIDs, ``None``: about all."""
        # Where a key names its patients, its entry has their generation.
        if patient_ids is None or isinstance(self._forget_on, ForgetOn):
            self._positive.clear()
            self._negative.clear()

    async def close(self) -> None:
        """Cancel the loads that are under way, and wait for their end."""
        await self._flight.close()

    def _study_seconds(self, ttl_seconds: float | Callable[[Value], float]) -> float:
        """Return how long it must be known that a study was forgotten.

        That is as long as an entry of an earlier generation may be cached, or may still be loaded.
        """
        if self._study is None:
            return 0
        return math.inf if callable(ttl_seconds) else max(CALL_SECONDS, ttl_seconds)

    def _generation(self, key: Key) -> int:
        # Each forgetting has a number of its own: the latest one counts.
        known, forget_on = self._invalidation, self._forget_on
        generation = 0 if self._study is None else known.of(self._study(key))
        if known.changed_patients and not isinstance(forget_on, ForgetOn):
            return max(generation, known.of_patients(forget_on(key)))
        return generation

    def _stored(self, key: Key) -> _Entry[Value] | None:
        """Return the entry of ``key``, unless it has ended or is of another generation."""
        entries = self._positive.entries
        if (entry := entries.get(key)) is None:
            entries = self._negative.entries
            if (entry := entries.get(key)) is None:
                return None
        if entry.generation != self._generation(key) or not self._clock() < entry.until:
            return None
        entries.move_to_end(key)
        return entry

    def _put(self, key: Key, value: Value, stamp: Stamp, began: float, asked: float) -> None:
        if stamp != self.stamp(key):
            return  # It may be from before what made us forget.
        # From here on nothing catches up with other workers: what one of them forgets now is
        # forgotten with this entry in it.
        kept = self._stored(key)
        if kept is not None and kept.began > began:
            return  # A load that began later has ended earlier.
        self.discard(key)
        is_negative = self._is_negative(key, value)
        now = self._clock()
        until = now + (self._negative_seconds if is_negative else self._ttl(value))
        weight = 1 if is_negative else self._weight(value)
        table = self._negative if is_negative else self._positive
        table.put(key, _Entry(value, began, asked, until, stamp[1], weight), now)

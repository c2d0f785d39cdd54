"""How everything that is kept of other systems' answers is forgotten at once, and nothing older is kept afterwards."""

import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any, Protocol, TypeVar

from cachetools import TLRUCache, TTLCache

NEGATIVE_SECONDS = 5
"""How long at most an answer is kept that says that something is not there: images and records arrive."""
FRESH_SECONDS = 2
"""Shortest time in seconds between two no-cache requests of one patient that are passed on."""
MAX_FORGOTTEN = 20_000
"""Studies that are remembered as forgotten; with one more everything is forgotten."""


class Invalidatable(Protocol):
    """Whatever keeps answers of the archive and knows itself how to forget them."""

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """Forget what is kept of the patients of these PatientIDs, ``None``: of all."""


Cache = TypeVar("Cache", bound=MutableMapping[Any, Any])
Kept = TypeVar("Kept", bound=Invalidatable)


class Invalidation:
    """All caches of what the archive, the EHR and the policy engine answered, and their ``generation``.

    Each forgetting begins a generation. An answer that was asked for in an earlier one is not kept:
    whoever keeps an answer notes the generation before asking and compares it before keeping. Nor
    does a request of this generation wait for a call of an earlier one (``SingleFlight``). A study
    that is forgotten alone has a generation of its own, which is part of the key of what is kept
    about it: nothing has to be searched for, and what is asked about others is kept. The clock is
    monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.generation = 0
        self._longest: float = NEGATIVE_SECONDS
        # As long as anything that was kept of it before it was forgotten.
        self._forgotten: TLRUCache[str, int] = TLRUCache(
            MAX_FORGOTTEN, lambda _, __, now: now + self._longest, timer=clock
        )
        self._of_archive: list[tuple[object, Callable[[Collection[str] | None], None]]] = []
        self._of_others: list[tuple[object, Callable[[], None]]] = []

    def __contains__(self, kept: object) -> bool:
        """Whether it was registered."""
        registered = [*(one for one, _ in self._of_archive), *(one for one, _ in self._of_others)]
        return any(one is kept for one in registered)

    def cache(
        self, cache: Cache, patient_ids: Callable[[Any], Collection[str]] | None = None
    ) -> Cache:
        """Register a cache of what the archive answered, and return it.

        ``patient_ids(key)`` are the PatientIDs that an entry is about. Without it the cache is
        emptied whoever changed: what stands under a UID may change with any patient.
        """
        if isinstance(cache, TTLCache):
            self._longest = max(self._longest, cache.ttl)

        def forget(changed: Collection[str] | None) -> None:
            if changed is None or patient_ids is None:
                cache.clear()
                return
            for key in [
                one for one in cache if not frozenset(changed).isdisjoint(patient_ids(one))
            ]:
                cache.pop(key, None)

        self._of_archive.append((cache, forget))
        return cache

    def cache_of_others(self, cache: Cache) -> Cache:
        """Register a cache of what the EHR or the policy engine answered, and return it."""
        self._of_others.append((cache, cache.clear))
        return cache

    def register(self, kept: Kept, *, others: bool = False, seconds: float = 0) -> Kept:
        """Register what keeps answers of the archive, and return it.

        ``others``: they are of the EHR or the policy engine, and a change at the archive forgets
        none of them. ``seconds``: longest time for which one of them is kept.
        """
        if others:
            self._of_others.append((kept, lambda: kept.forget(None)))
        else:
            self._of_archive.append((kept, kept.forget))
        self._longest = max(self._longest, seconds)
        return kept

    def of(self, study: str) -> int:
        """Return the generation of the study with this UID; 0 unless it was forgotten alone."""
        return self._forgotten.get(study, 0)

    def stamp(self, study: str) -> tuple[int, int]:
        """Return what changes when anything, or this study alone, is forgotten."""
        return self.generation, self.of(study)

    def forget_study(self, study: str) -> None:
        """Let nothing be found any more that has an earlier generation of this study in its key."""
        if study not in self._forgotten and len(self._forgotten) >= MAX_FORGOTTEN:
            self.archive_changed(None)
            self._forgotten.clear()
        self._forgotten[study] = self.of(study) + 1

    def archive_changed(self, patient_ids: Collection[str] | None) -> None:
        """Forget what the archive answered about the patients of these PatientIDs, ``None``: about all."""
        self.generation += 1
        for _, forget in self._of_archive:
            forget(patient_ids)

    def invalidate(self) -> None:
        """Forget everything."""
        self.archive_changed(None)
        for _, forget in self._of_others:
            forget()


class NoPatientData:
    """Registers nothing: for caches that no invalidation has to reach.

    These are tokens, which have a bound of their own, and the names, keys and credentials of
    endpoints.
    """

    generation = 0

    def register(self, kept: Kept, *, others: bool = False, seconds: float = 0) -> Kept:
        """Return ``kept`` as it is."""
        return kept

    def of(self, study: str) -> int:
        """Return the generation of every study."""
        return 0


NO_PATIENT_DATA = NoPatientData()

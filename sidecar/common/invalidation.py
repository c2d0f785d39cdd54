"""Forget in one place what is kept of other systems' answers, and keep nothing older afterwards."""

import itertools
import time
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from sidecar.common.shared_generation import SharedGeneration

NEGATIVE_SECONDS = 5
"""Longest time in seconds for which an absence is cached: images and records arrive."""
FRESH_SECONDS = 2
"""Shortest time in seconds between two no-cache requests of one patient that are passed on."""
FORGOTTEN_SECONDS = 3_600
"""Shortest time in seconds for which a study is known as forgotten.

Something foreign may have been seen in it: so long each of its instances speaks for itself alone.
"""
MAX_FORGOTTEN = 20_000
"""Studies, or patients, that are known as forgotten; with one more everything is forgotten."""


class Invalidatable(Protocol):
    """Whatever keeps answers of other systems, and can forget them."""

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """Forget what is kept of the patients of these PatientIDs, ``None``: of all."""


Kept = TypeVar("Kept", bound=Invalidatable)


class Invalidation:
    """All caches of what the archive, the EHR and the policy engine answered.

    Each forgetting begins a ``generation``. An answer that was asked for in an earlier one is not
    cached, and nobody waits for it who asks in this one (``LoadingCache``). A study or a patient
    that is forgotten alone has a generation of its own, and an entry about it counts in that alone:
    nothing has to be searched for, and what is cached about others stays. The clock is monotonic,
    in seconds.

    ``invalidate`` and ``forget_study`` reach all workers that have the same ``shared`` generation,
    and are complete when they return: each of them looks at it before it uses anything that is
    cached. ``archive_changed`` is of this process.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        shared: SharedGeneration | None = None,
    ) -> None:
        self._shared = shared
        self._generation = 0
        self._longest: float = FORGOTTEN_SECONDS
        # As long as anything that was cached of it before it was forgotten. A number is used once:
        # else a study that is forgotten again later would find what was cached in between.
        self._generations = itertools.count(1)
        self._forgotten: dict[str, tuple[int, float]] = {}
        """StudyInstanceUID -> its generation and until when it is known; the first ends first."""
        self._clock = clock
        self.changed_patients: dict[str, int] = {}
        """PatientID -> its generation."""
        self._of_archive: list[Invalidatable] = []
        self._of_others: list[Invalidatable] = []

    def __contains__(self, kept: object) -> bool:
        """Whether it was registered."""
        return any(registered is kept for registered in (*self._of_archive, *self._of_others))

    def register(self, kept: Kept, *, others: bool = False, seconds: float = 0) -> Kept:
        """Register what keeps answers of the archive, and return it.

        ``others``: they are of the EHR or the policy engine, and a change at the archive forgets
        none of them. ``seconds``: longest time for which one of them is kept.
        """
        (self._of_others if others else self._of_archive).append(kept)
        self._longest = max(self._longest, seconds)
        return kept

    @property
    def generation(self) -> int:
        """The number of forgettings, with those of other workers."""
        self.catch_up()
        return self._generation

    def catch_up(self) -> None:
        """Forget what other workers have: everything, or studies."""
        if self._shared is None or not self._shared.has_changed():
            return
        everything, studies = self._shared.take()
        if everything:
            self._forget_everything()
        for study in studies:
            self._forget_study(study)

    def of(self, study: str) -> int:
        """Return the generation of the study with this UID; 0 unless it was forgotten alone."""
        if (forgotten := self._forgotten.get(study)) is None:
            return 0
        generation, until = forgotten
        return generation if self._clock() < until else 0

    def stamp(self, study: str) -> tuple[int, int]:
        """Return what changes when anything, or this study alone, is forgotten."""
        return self.generation, self.of(study)

    def of_patients(self, patient_ids: Collection[str]) -> int:
        """Return the latest generation of these PatientIDs; 0 unless one was forgotten alone."""
        changed = self.changed_patients
        return max([changed.get(patient_id, 0) for patient_id in patient_ids], default=0)

    def forget_study(self, study: str) -> None:
        """Let no entry be found any more that is of an earlier generation of this study.

        This is so in all workers: something foreign may have been seen in it.
        """
        if self._shared is not None:
            self._shared.begin_study(study)
            self.catch_up()  # With it, so that it is not forgotten again later.
        self._forget_study(study)

    def _forget_study(self, study: str) -> None:
        now = self._clock()
        self._forgotten.pop(study, None)  # It is the last one to end again.
        while self._forgotten and next(iter(self._forgotten.values()))[1] <= now:
            del self._forgotten[next(iter(self._forgotten))]
        if len(self._forgotten) >= MAX_FORGOTTEN:
            self._forget_everything()
            self._forgotten.clear()
        self._forgotten[study] = next(self._generations), now + self._longest

    def archive_changed(self, patient_ids: Collection[str] | None) -> None:
        """Forget the archive's answers about the patients of these PatientIDs, ``None``: all."""
        self._generation += 1
        if patient_ids is None or len(self.changed_patients) + len(patient_ids) > MAX_FORGOTTEN:
            patient_ids = None
            self.changed_patients.clear()
        else:
            self.changed_patients |= dict.fromkeys(patient_ids, next(self._generations))
        for kept in self._of_archive:
            kept.forget(patient_ids)

    def invalidate(self) -> None:
        """Forget everything, in all workers."""
        if self._shared is not None:
            self._shared.begin()
        self._forget_everything()

    def _forget_everything(self) -> None:
        self.archive_changed(None)
        for kept in self._of_others:
            kept.forget(None)


class NoPatientData(Invalidation):
    """Registers nothing: for caches that no invalidation has to reach.

    These are tokens, which have a bound of their own, and the names, keys and credentials of
    endpoints.
    """

    def register(self, kept: Kept, *, others: bool = False, seconds: float = 0) -> Kept:
        """Return ``kept`` as it is."""
        return kept


NO_PATIENT_DATA = NoPatientData()

"""Forgetting what is kept: of everybody, or of the patients who changed."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import pytest

from sidecar.common.invalidation import FORGOTTEN_SECONDS, Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from tests.common.peer import Clock
from tests.waiting import wait_until_async


class Nothing:
    """Has nothing to forget."""

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """See there."""


class Caches(dict[str, LoadingCache[str, int]]):
    """One of each kind, each with what is about p1 and about p2."""

    def __init__(self, kept: Invalidation) -> None:
        self["by patient"] = make(kept, lambda patient: {patient})
        self["by UID"] = make(kept)
        self["of others"] = make(kept, ForgetOn.INVALIDATE)

    def left(self) -> dict[str, set[str]]:
        """What is in each."""
        return {
            name: {key for key in ("p1", "p2") if cache.peek(key) is not None}
            for name, cache in self.items()
        }


def make(kept: Invalidation, *forget_on: Any, seconds: float = 99) -> LoadingCache[str, int]:
    """A cache of p1 and p2."""
    cache: LoadingCache[str, int] = LoadingCache(
        kept, *forget_on, max_entries=9, ttl_seconds=seconds
    )
    for patient in ("p1", "p2"):
        cache.put(patient, 1, cache.stamp(patient))
    return cache


def caches() -> tuple[Invalidation, Caches]:
    """All kinds, and what forgets them."""
    kept = Invalidation()
    return kept, Caches(kept)


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({"p1"}, {"by patient": {"p2"}, "by UID": set(), "of others": {"p1", "p2"}}),
        (("p3",), {"by patient": {"p1", "p2"}, "by UID": set(), "of others": {"p1", "p2"}}),
        (None, {"by patient": set(), "by UID": set(), "of others": {"p1", "p2"}}),
    ],
)
def test_the_archive_changed(changed: set[str] | None, left: dict[str, set[str]]) -> None:
    """Whoever changed, what is known of UIDs goes; what others than the archive say stays."""
    kept, made = caches()
    kept.archive_changed(changed)
    assert made.left() == left
    assert kept.generation == 1


def test_everything_is_forgotten() -> None:
    kept, made = caches()
    kept.invalidate()
    assert not any(made.left().values())
    assert kept.generation > 0


def test_what_is_registered_is_known_by_itself_not_by_what_is_in_it() -> None:
    kept, made = caches()
    assert all(cache in kept for cache in made.values())
    assert make(Invalidation()) not in kept


async def test_a_call_is_not_shared_with_whoever_asks_after_a_forgetting() -> None:
    """Neither does its answer take the new call's place when it ends."""
    kept = Invalidation()
    cache: LoadingCache[str, int] = LoadingCache(kept, max_entries=9, ttl_seconds=99)
    answers: list[asyncio.Future[int]] = []

    async def call() -> int:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    early = asyncio.create_task(cache.get("key", call))
    await wait_until_async("the first call", lambda: len(answers) == 1)
    kept.invalidate()
    late = asyncio.create_task(cache.get("key", call))
    await wait_until_async("the second call", lambda: len(answers) == 2)
    answers[1].set_result(2)
    assert await late == 2
    answers[0].set_result(1)
    assert (await early, cache.peek("key")) == (1, 2)


def test_a_study_is_forgotten_alone() -> None:
    """Nothing else begins anew, nor is anything looked through."""
    kept, made = caches()
    kept.forget_study("1.2")
    kept.forget_study("1.2")
    assert (kept.of("1.2"), kept.of("1.3"), kept.generation) == (2, 0, 0)
    assert all(made.left().values())


def test_that_a_study_was_forgotten_is_known_as_long_as_anything_is_kept() -> None:
    clock = Clock()
    kept = Invalidation(clock)
    for seconds in (30, 9_000, 60):
        kept.register(Nothing(), seconds=seconds)
    kept.forget_study("1.2")
    clock.now += 8_999
    assert kept.of("1.2") == 1
    clock.now += 2
    assert kept.of("1.2") == 0


LONG = 3 * FORGOTTEN_SECONDS


@pytest.mark.parametrize("seconds", [LONG, lambda value: LONG])
def test_what_lives_long_is_not_found_after_its_study_was_forgotten(
    seconds: float | Callable[[int], float],
) -> None:
    """At no time: that it was forgotten is known for as long as the entry lives."""
    clock = Clock()
    kept = Invalidation(clock)
    cache: LoadingCache[str, int] = LoadingCache(
        kept, max_entries=9, ttl_seconds=seconds, study=lambda key: key, clock=clock
    )
    cache.put("1.2", 1, cache.stamp("1.2"))
    kept.forget_study("1.2")
    clock.now += LONG - 1
    assert cache.peek("1.2") is None


@pytest.mark.parametrize("study", [None, lambda key: key])
def test_a_forgotten_study_is_known_for_no_longer_than_it_must_be(
    study: Callable[[str], str] | None,
) -> None:
    clock = Clock()
    kept = Invalidation(clock)
    LoadingCache[str, int](kept, max_entries=9, ttl_seconds=LONG, study=study, clock=clock)
    kept.forget_study("1.2")
    clock.now += LONG if study else FORGOTTEN_SECONDS
    assert kept.of("1.2") == 0


def test_with_too_many_forgotten_studies_everything_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was kept of the first of them must not be found again."""
    monkeypatch.setattr("sidecar.common.invalidation.MAX_FORGOTTEN", 2)
    kept, made = caches()
    for study in ("1.2", "1.3", "1.2", "1.3"):
        kept.forget_study(study)
    assert made.left()["by UID"]
    kept.forget_study("1.4")
    assert not made.left()["by UID"]
    assert (kept.of("1.2"), kept.of("1.4"), kept.generation) == (0, 5, 1)
    kept.forget_study("1.5")
    assert kept.generation == 1  # And not again with each further one.


def test_what_no_change_at_the_archive_forgets_is_not_found_again_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cache of another system's answers may name studies as well."""
    monkeypatch.setattr("sidecar.common.invalidation.MAX_FORGOTTEN", 1)
    kept = Invalidation()
    cache: LoadingCache[str, int] = LoadingCache(
        kept, ForgetOn.INVALIDATE, max_entries=9, ttl_seconds=99, study=lambda study: study
    )
    cache.put("1.2", 1, cache.stamp("1.2"))
    kept.forget_study("1.2")
    kept.forget_study("1.3")  # One too many: of the first it is not known any more.
    assert kept.of("1.2") == 0
    assert cache.peek("1.2") is None


def test_nothing_is_looked_through_when_patients_change() -> None:
    """Caches are large, and an archive that is in use changes each second."""
    kept, named = Invalidation(), []

    def patients(key: str) -> set[str]:
        named.append(key)
        return {key}

    cache = make(kept, patients)
    named.clear()
    kept.archive_changed({"p1", "p3"})
    assert named == []
    assert (cache.peek("p1"), cache.peek("p2")) == (None, 1)


def test_what_was_cached_between_two_changes_of_a_patient_is_not_found_again() -> None:
    kept = Invalidation()
    cache = make(kept, lambda patient: {patient})
    for _ in range(3):
        kept.archive_changed({"p1"})
        assert cache.peek("p1") is None
        cache.put("p1", 2, cache.stamp("p1"))
        assert cache.peek("p1") == 2


def test_what_is_about_several_patients_is_forgotten_with_each_of_them() -> None:
    kept = Invalidation()
    cache = make(kept, lambda patient: {patient, "p1", "p3"})
    for changed in ("p1", "p2", "p3", "p1"):
        cache.put("p2", 1, cache.stamp("p2"))
        kept.archive_changed({changed})
        assert cache.peek("p2") is None
    assert (kept.of_patients(("p1", "p2")), kept.of_patients(())) == (4, 0)


def test_with_too_many_changed_patients_everything_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was kept of the first of them must not be found again."""
    monkeypatch.setattr("sidecar.common.invalidation.MAX_FORGOTTEN", 2)
    kept, made = caches()
    kept.archive_changed({"p3", "p4"})
    assert made.left()["by patient"] == {"p1", "p2"}
    kept.archive_changed({"p1"})
    assert made.left()["by patient"] == set()
    assert kept.of_patients({"p1", "p3"}) == 0

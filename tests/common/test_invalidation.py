"""Forgetting what is kept: of everybody, or of the patients who changed."""

from typing import Any

import pytest
from cachetools import TTLCache

from sidecar.common.invalidation import Invalidation
from sidecar.common.single_flight import SingleFlight
from tests.common.peer import Clock


def caches() -> tuple[Invalidation, dict[str, TTLCache[Any, Any]]]:
    """One of each kind, each with what is about p1 and about p2."""
    kept = Invalidation()
    made: dict[str, TTLCache[Any, Any]] = {
        "by patient": kept.cache(TTLCache(9, 99), lambda patient: {patient}),
        "by UID": kept.cache(TTLCache(9, 99)),
        "of others": kept.cache_of_others(TTLCache(9, 99)),
    }
    for cache in made.values():
        cache.update({"p1": 1, "p2": 2})
    return kept, made


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
    assert {name: set(cache) for name, cache in made.items()} == left
    assert kept.generation == 1


def test_everything_is_forgotten() -> None:
    kept, made = caches()
    kept.invalidate()
    assert not any(made.values())
    assert kept.generation > 0


def test_what_is_registered_is_known_by_itself_not_by_what_is_in_it() -> None:
    kept, made = caches()
    assert all(cache in kept for cache in made.values())
    assert TTLCache(9, 99) not in kept


async def test_a_call_is_not_shared_with_whoever_asks_after_a_forgetting() -> None:
    """Neither does it take the new call's place when it ends."""
    kept, calls = Invalidation(), []
    flight: SingleFlight[str, int] = SingleFlight(kept)

    async def call() -> int:
        calls.append(kept.generation)
        return kept.generation

    early = flight.run("key", call)
    assert await early == 0
    kept.invalidate()
    assert await flight.run("key", call) == kept.generation
    assert calls == [0, kept.generation]


def test_a_study_is_forgotten_alone() -> None:
    """Nothing else begins anew, nor is anything looked through."""
    kept, made = caches()
    kept.forget_study("1.2")
    kept.forget_study("1.2")
    assert (kept.of("1.2"), kept.of("1.3"), kept.generation) == (2, 0, 0)
    assert all(made.values())


def test_that_a_study_was_forgotten_is_known_as_long_as_anything_is_kept() -> None:
    clock = Clock()
    kept = Invalidation(clock)
    for seconds in (30, 90, 60):
        kept.cache(TTLCache(9, seconds, timer=clock))
    kept.forget_study("1.2")
    clock.now += 89
    assert kept.of("1.2") == 1
    clock.now += 2
    assert kept.of("1.2") == 0


def test_with_too_many_forgotten_studies_everything_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was kept of the first of them must not be found again."""
    monkeypatch.setattr("sidecar.common.invalidation.MAX_FORGOTTEN", 2)
    kept, made = caches()
    for study in ("1.2", "1.3", "1.2", "1.3"):
        kept.forget_study(study)
    assert made["by UID"]
    kept.forget_study("1.4")
    assert not made["by UID"]
    assert (kept.of("1.2"), kept.of("1.4"), kept.generation) == (0, 1, 1)

"""The cache of loaded answers: what each option does."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import NO_PATIENT_DATA, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.single_flight import CALL_SECONDS
from tests.common.peer import Clock

TTL, NEGATIVE, MAX_AGE = 10, 3, 2


def make(clock: Clock | None = None, **options: Any) -> LoadingCache[str, int]:
    """A cache of numbers by name; negative numbers are negative answers."""
    given = {"max_entries": 3, "ttl_seconds": TTL, "negative_seconds": NEGATIVE} | options
    return LoadingCache(
        NO_PATIENT_DATA, is_negative=lambda key, value: value < 0, clock=clock or Clock(), **given
    )


async def test_nobody_pushes_out_what_is_there_by_asking_for_what_is_not() -> None:
    cache = make()
    await load_number(cache, "there", 1)
    for number in range(10):
        await load_number(cache, f"absent {number}", -1)
    assert (cache.peek("there"), len(cache)) == (1, 4)


async def test_an_answer_takes_the_place_of_its_opposite() -> None:
    """What was withdrawn is not permitted any longer, and what has come is not absent."""
    cache = make()
    for value in (1, -1, 1):
        await cache.reload("key", lambda value=value: number(value))  # type: ignore[misc]
        assert (cache.peek("key"), len(cache)) == (value, 1)


async def test_a_lifetime_may_depend_on_the_value() -> None:
    clock = Clock()
    cache = make(clock, ttl_seconds=lambda value: value)
    for name, seconds in (("none", 0), ("short", 1), ("long", 5)):
        await load_number(cache, name, seconds)
    assert [cache.peek(name) for name in ("none", "short", "long")] == [None, 1, 5]
    clock.now += 1
    assert [cache.peek(name) for name in ("none", "short", "long")] == [None, None, 5]


async def test_what_has_no_end_that_can_be_compared_is_not_cached() -> None:
    cache = make(ttl_seconds=lambda value: math.nan)
    await load_number(cache, "key", 1)
    assert cache.peek("key") is None


async def test_what_has_ended_leaves_before_what_has_not() -> None:
    clock = Clock()
    cache = make(clock, ttl_seconds=lambda value: value)
    for name, seconds in (("short", 1), ("long", 5), ("longer", 7)):
        await load_number(cache, name, seconds)
    clock.now += 1
    await load_number(cache, "new", 5)
    assert [cache.peek(name) for name in ("short", "long", "longer", "new")] == [None, 5, 7, 5]


async def test_a_lifetime_begins_when_the_answer_has_come_and_no_look_renews_it() -> None:
    clock = Clock()
    cache = make(clock)

    async def slow() -> int:
        clock.now += 100
        return 1

    await cache.get("key", slow)
    clock.now += TTL - 1
    assert cache.peek("key") == 1
    clock.now += 1
    assert cache.peek("key") is None


async def test_a_load_that_began_earlier_does_not_replace_a_later_one() -> None:
    """It ended later, and its answer is older."""
    clock = Clock()
    cache, begun, go_on = make(clock), asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        begun.set()
        await go_on.wait()
        return 1

    early = asyncio.create_task(cache.get("key", slow))
    await begun.wait()
    clock.now += 1
    assert await cache.get("key", lambda: number(2), max_age_seconds=MAX_AGE) == 2
    go_on.set()
    assert (await early, cache.peek("key")) == (1, 2)


async def test_what_is_too_old_for_one_is_discarded_for_all() -> None:
    """Nobody gets it after somebody asked anew, even if that fails; a dated entry has an age."""
    clock = Clock()
    cache = make(clock)

    async def fail() -> int:
        raise Unavailable("Not now.", reason="down")

    await load_number(cache, "key", 1)
    with pytest.raises(Unavailable):
        await cache.get("key", fail, max_age_seconds=MAX_AGE)
    assert cache.peek("key") is None
    for seconds, value, expected in ((0, 2, 2), (MAX_AGE - 1, 7, 2), (1, 3, 3)):
        clock.now += seconds
        loaded = await cache.get(
            "key",
            lambda value=value: number(value),  # type: ignore[misc]
            max_age_seconds=MAX_AGE,
        )
        assert loaded == expected


async def test_entries_may_have_weights() -> None:
    cache = make(weight=lambda value: value)
    for name, weight in (("a", 1), ("b", 2), ("c", 1)):
        await load_number(cache, name, weight)
    assert [cache.peek(name) for name in ("a", "b", "c")] == [None, 2, 1]


async def test_an_entry_that_is_too_heavy_is_not_cached_and_pushes_out_none() -> None:
    cache = make(weight=lambda value: value)
    await load_number(cache, "a", 1)
    await load_number(cache, "b", 1_000)
    assert [cache.peek(name) for name in ("a", "b")] == [1, None]


async def test_what_was_forgotten_since_it_was_asked_for_is_not_put() -> None:
    invalidation = Invalidation()
    cache: LoadingCache[str, int] = LoadingCache(
        invalidation, max_entries=3, ttl_seconds=TTL, study=lambda key: key
    )
    forgettings: list[Callable[[], None]] = [
        invalidation.invalidate,
        lambda: invalidation.archive_changed({"p"}),
        lambda: invalidation.forget_study("1.1"),
    ]
    for forget in forgettings:
        stamp = cache.stamp("1.1")
        forget()
        cache.put("1.1", 1, stamp)
        assert cache.peek("1.1") is None
    cache.put("1.1", 1, cache.stamp("1.1"))
    assert (cache.setdefault("1.1", 2), cache.setdefault("1.2", 2)) == (1, 2)
    assert (cache.peek("1.1"), cache.peek("1.2")) == (1, 2)


async def test_a_study_is_known_as_forgotten_as_long_as_a_load_may_take() -> None:
    """Else the answer to an old question would be cached, however short lifetimes are."""
    clock = Clock()
    invalidation = Invalidation(clock)
    cache: LoadingCache[str, int] = LoadingCache(
        invalidation, max_entries=3, ttl_seconds=1, study=lambda key: key, clock=clock
    )
    stamp = cache.stamp("1.1")
    invalidation.forget_study("1.1")
    clock.now += CALL_SECONDS - 1
    cache.put("1.1", 1, stamp)
    assert cache.peek("1.1") is None


def test_a_study_that_is_forgotten_again_does_not_find_what_was_cached_in_between() -> None:
    """Its first forgetting has been forgotten by then; the entry is younger and lives still."""
    clock = Clock()
    invalidation = Invalidation(clock)
    cache: LoadingCache[str, int] = LoadingCache(
        invalidation,
        max_entries=3,
        ttl_seconds=2 * CALL_SECONDS,
        study=lambda key: key,
        clock=clock,
    )
    invalidation.forget_study("1.1")
    clock.now += 2 * CALL_SECONDS - 1
    cache.put("1.1", 1, cache.stamp("1.1"))
    clock.now += 1
    invalidation.forget_study("1.1")
    assert cache.peek("1.1") is None


def test_every_cache_registers_itself() -> None:
    invalidation = Invalidation()
    cache: LoadingCache[str, int] = LoadingCache(invalidation, max_entries=1, ttl_seconds=1)
    assert cache in invalidation
    assert NO_PATIENT_DATA.register(cache) is cache


async def number(value: int) -> int:
    """A load that ends at once."""
    return value


async def load_number(cache: LoadingCache[str, int], key: str, value: int) -> None:
    """Cache a number."""
    assert await cache.get(key, lambda: number(value)) == value

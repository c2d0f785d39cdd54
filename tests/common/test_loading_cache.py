"""The cache of loaded answers: against a model, and what each option does."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import NO_PATIENT_DATA, Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from sidecar.common.single_flight import CALL_SECONDS
from tests.common.peer import Clock

TTL, NEGATIVE, MAX_AGE = 10, 3, 2
KEYS = [(patient, study) for patient in ("p1", "p2") for study in ("1.1", "1.2")]
"""Of the cache under test: a PatientID and a StudyInstanceUID."""
FORGET_ON: dict[str, ForgetOn | Callable[[tuple[str, str]], set[str]]] = {
    "patients": lambda key: {key[0]},
    "any change": ForgetOn.ANY_CHANGE,
    "invalidate": ForgetOn.INVALIDATE,
}


@dataclass
class Load:
    """A load under way, which the model lets end. ``epoch``: how often its key was forgotten."""

    key: tuple[str, str]
    epoch: int
    began: float
    joins: bool
    outcome: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass
class Kept:
    """What the model keeps."""

    value: int
    began: float
    asked: float
    ends: float


class Machine(RuleBasedStateMachine):
    """Callers, loads that end in any order, forgettings and the clock, at random.

    The model: for each key one entry and how often it was forgotten. Values are numbers that are
    never used twice, even ones are negative; so a value says which load it is of.
    """

    forget_on = "patients"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock, self.invalidation = Clock(), Invalidation()
        self.cache: LoadingCache[tuple[str, str], int] = LoadingCache(
            self.invalidation,
            FORGET_ON[self.forget_on],
            max_entries=100,
            ttl_seconds=TTL,
            negative_seconds=NEGATIVE,
            is_negative=lambda key, value: value % 2 == 0,
            study=lambda key: key[1],
            clock=self.clock,
        )
        self.kept: dict[tuple[str, str], Kept] = {}
        self.shared: dict[tuple[tuple[str, str], bool, tuple[int, int]], Load] = {}
        self.loads: list[Load] = []
        self.epochs = dict.fromkeys(KEYS, 0)
        self.everything = 0
        self.waiting: list[tuple[asyncio.Task[int], Load]] = []
        self.number = 0

    def teardown(self) -> None:
        """No load outlives the cache."""
        self.loop.run_until_complete(self.cache.close())
        self.settle()
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

    def settle(self) -> None:
        """Let all tasks go on until they wait."""

        async def turns() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def fresh(self, key: tuple[str, str]) -> Kept | None:
        """What the model has of a key now."""
        entry = self.kept.get(key)
        return entry if entry is not None and self.clock.now < entry.ends else None

    @rule(key=strategies.sampled_from(KEYS), limited=strategies.booleans())
    def get(self, key: tuple[str, str], limited: bool) -> None:
        """A caller gets what is kept at once, or waits for the load that the model says."""
        max_age = MAX_AGE if limited else math.inf
        entry = self.fresh(key)
        began: list[Load] = []

        async def load() -> int:
            began.append(Load(key, self.epochs[key], self.clock.now, not limited))
            return await began[0].outcome

        task = self.loop.create_task(self.cache.get(key, load, max_age_seconds=max_age))
        self.settle()
        if entry is not None and (not limited or self.clock.now - entry.asked < MAX_AGE):
            assert task.done()
            assert task.result() == entry.value
            assert not began
            return
        self.kept.pop(key, None)
        assert not task.done()
        place = (key, not limited, (self.everything, self.epochs[key]))
        assert bool(began) == (place not in self.shared)
        if began:
            self.shared[place] = began[0]
            self.loads.append(began[0])
        self.waiting.append((task, self.shared[place]))

    @rule(data=strategies.data(), negative=strategies.booleans(), fails=strategies.booleans())
    def end(self, data: strategies.DataObject, negative: bool, fails: bool) -> None:
        """A load ends: all who wait for it and no others get its outcome."""
        if not self.loads:
            return
        load = self.loads.pop(data.draw(strategies.integers(0, len(self.loads) - 1)))
        place = next(place for place, shared in self.shared.items() if shared is load)
        del self.shared[place]
        if fails:
            load.outcome.set_exception(Unavailable("Not now.", reason="down"))
        else:
            self.number += 2
            value = self.number + (not negative)
            load.outcome.set_result(value)
            entry = self.fresh(load.key)
            is_current = place[2] == (self.everything, self.epochs[load.key])
            if is_current and (entry is None or entry.began <= load.began):
                asked = -math.inf if load.joins else load.began
                ends = self.clock.now + (NEGATIVE if negative else TTL)
                self.kept[load.key] = Kept(value, load.began, asked, ends)
        self.settle()
        theirs = [task for task, waited in self.waiting if waited is load]
        self.waiting = [(task, waited) for task, waited in self.waiting if waited is not load]
        for task in theirs:
            assert task.done()
            if fails:
                assert isinstance(task.exception(), Unavailable)
            else:
                assert task.result() == value
        assert not any(task.done() for task, _ in self.waiting)

    @rule(data=strategies.data())
    def leave(self, data: strategies.DataObject) -> None:
        """A caller leaves, even the one who began the load: the load and the others go on."""
        if not self.waiting:
            return
        task, _ = self.waiting.pop(data.draw(strategies.integers(0, len(self.waiting) - 1)))
        task.cancel()
        self.settle()
        assert task.cancelled()
        assert not any(waiting.done() for waiting, _ in self.waiting)
        assert not any(load.outcome.cancelled() for load in self.loads)

    @rule(patients=strategies.sets(strategies.sampled_from(["p1", "p2", "p3"])))
    def archive_changed(self, patients: set[str]) -> None:
        """Some patients' images changed."""
        self.invalidation.archive_changed(patients)
        self.everything += 1
        for key in list(self.kept):
            if self.forget_on == "any change" or (
                self.forget_on == "patients" and key[0] in patients
            ):
                del self.kept[key]

    @rule()
    def invalidate(self) -> None:
        """Everything is forgotten."""
        self.invalidation.invalidate()
        self.everything += 1
        self.kept.clear()

    @rule(study=strategies.sampled_from(["1.1", "1.2"]))
    def forget_study(self, study: str) -> None:
        """One study is forgotten."""
        self.invalidation.forget_study(study)
        for key in KEYS:
            if key[1] == study:
                self.kept.pop(key, None)
                self.epochs[key] += 1

    @rule(key=strategies.sampled_from(KEYS))
    def discard(self, key: tuple[str, str]) -> None:
        """One key is forgotten; what is under way goes on and is kept."""
        self.cache.discard(key)
        self.kept.pop(key, None)

    @rule(seconds=strategies.integers(1, 4))
    def later(self, seconds: int) -> None:
        """Time goes by."""
        self.clock.now += seconds

    @invariant()
    def is_the_model(self) -> None:
        """What is kept is what the model keeps."""
        for key in KEYS:
            entry = self.fresh(key)
            assert self.cache.peek(key) == (None if entry is None else entry.value)


class ByPatients(Machine):
    """A cache whose keys name patients."""


class OnAnyChange(Machine):
    """A cache of what stands under a UID."""

    forget_on = "any change"


class OnInvalidate(Machine):
    """A cache of what the EHR said."""

    forget_on = "invalidate"


for machine in (ByPatients, OnAnyChange, OnInvalidate):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestByPatients = ByPatients.TestCase
TestOnAnyChange = OnAnyChange.TestCase
TestOnInvalidate = OnInvalidate.TestCase


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
        found = await cache.get(
            "key",
            lambda value=value: number(value),  # type: ignore[misc]
            max_age_seconds=MAX_AGE,
        )
        assert found == expected


async def test_entries_may_have_weights() -> None:
    cache = make(weight=lambda value: value)
    for name, weight in (("a", 1), ("b", 2), ("c", 1)):
        await load_number(cache, name, weight)
    assert [cache.peek(name) for name in ("a", "b", "c")] == [None, 2, 1]


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

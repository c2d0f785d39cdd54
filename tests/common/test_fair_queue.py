"""The queue before transfers, searches and queries: bounded in all, and fair among callers."""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.fair_queue import FairQueue, Key, QueueFull, WaitTooLong
from tests.fair_queues import held_count, is_empty, waiting_count
from tests.waiting import wait_until_async

LONG = 600.0


@dataclass
class Callers:
    """Callers of a queue, each a task that holds its place until it is let go."""

    queue: FairQueue
    served: list[str] = field(default_factory=list)
    running: dict[str, asyncio.Event] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def ask(self, name: str, *key: str) -> None:
        """Ask for a place under ``name``."""
        self.tasks[name] = asyncio.create_task(self._hold(name, key))
        await settled()

    async def _hold(self, name: str, key: Sequence[str]) -> None:
        async with self.queue.place(*key):
            self.served.append(name)
            self.running[name] = asyncio.Event()
            try:
                await self.running[name].wait()
            finally:
                del self.running[name]

    async def end(self, name: str) -> None:
        """Give this one's place back."""
        self.running[name].set()
        await settled()

    async def end_all(self) -> None:
        """Give places back, the oldest first, until nobody waits."""
        while self.running:
            await self.end(next(iter(self.running)))
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def queue(*at_once: int, waiting: Sequence[int] | None = None, seconds: float = LONG) -> FairQueue:
    return FairQueue(at_once, waiting=waiting or [1_000] * len(at_once), seconds=seconds)


async def test_one_request_of_another_is_served_within_a_turn() -> None:
    """A thousand of one patient wait; the one of another is next, whenever it comes."""
    callers = Callers(queue(2, 2, 2))
    for number in range(1_000):
        callers.tasks[f"greedy{number}"] = asyncio.create_task(
            callers._hold(f"greedy{number}", ("p1", "app"))
        )
    await settled()
    await callers.ask("other", "p2", "app")
    assert callers.served == ["greedy0", "greedy1"]
    await callers.end("greedy0")
    assert callers.served == ["greedy0", "greedy1", "other"]
    await callers.end_all()
    assert len(callers.served) == 1_001
    assert is_empty(callers.queue)


async def test_patients_have_their_turns_however_many_apps_they_have() -> None:
    callers = Callers(queue(1, 1, 1))
    await callers.ask("first", "p0", "a")
    for app in "abcd":
        await callers.ask(f"p1{app}1", "p1", app)
        await callers.ask(f"p1{app}2", "p1", app)
    await callers.ask("p2a1", "p2", "a")
    await callers.ask("p2a2", "p2", "a")
    await callers.end_all()
    assert callers.served == [
        "first",
        "p1a1",
        "p2a1",
        "p1b1",
        "p2a2",
        "p1c1",
        "p1d1",
        "p1a2",
        "p1b2",
        "p1c2",
        "p1d2",
    ]


@pytest.mark.parametrize(
    ("at_once", "asked", "served"),
    [
        (
            (4, 2, 1),
            ["p1 a", "p1 a", "p1 b", "p1 c", "p2 a", "p3 a"],
            ["p1 a", "p1 b", "p2 a", "p3 a"],
        ),
        ((2, 2, 2), ["p1 a", "p1 a", "p1 b", "p2 a"], ["p1 a", "p1 a"]),
        ((9, 1, 1), ["p1 a", "p1 b", "p2 a"], ["p1 a", "p2 a"]),
    ],
)
async def test_each_level_has_its_limit(
    at_once: tuple[int, ...], asked: list[str], served: list[str]
) -> None:
    callers = Callers(queue(*at_once))
    for number, one in enumerate(asked):
        await callers.ask(f"{one} {number}", *one.split())
    assert [name.rpartition(" ")[0] for name in callers.served] == served
    await callers.end_all()
    assert len(callers.served) == len(asked)
    assert is_empty(callers.queue)


@pytest.mark.parametrize(
    ("waiting", "asked", "level"),
    [
        ((9, 9, 1), ["p1 a", "p1 a", "p1 a"], 2),
        ((9, 1, 9), ["p1 a", "p1 a", "p1 b"], 1),
        ((1, 9, 9), ["p1 a", "p1 a", "p2 a"], 0),
    ],
)
async def test_the_queue_is_bounded_for_each_level(
    waiting: tuple[int, ...], asked: list[str], level: int
) -> None:
    callers = Callers(queue(1, 1, 1, waiting=waiting))
    *first, last = asked
    for number, one in enumerate(first):
        await callers.ask(str(number), *one.split())
    with pytest.raises(QueueFull) as full:
        await callers.queue.place(*last.split()).__aenter__()
    assert full.value.level == level
    await callers.end_all()
    assert is_empty(callers.queue)


async def test_a_wait_that_is_too_long_ends_and_leaves_nothing_behind() -> None:
    places = queue(1, 1, 1, seconds=0.01)
    async with places.place("p1", "a"):
        with pytest.raises(WaitTooLong):
            await places.place("p2", "a").__aenter__()
        assert (held_count(places), waiting_count(places)) == (1, 0)
    assert is_empty(places)


async def test_whoever_leaves_while_it_waits_frees_its_entry() -> None:
    callers = Callers(queue(1, 1, 1, waiting=(1, 1, 1)))
    await callers.ask("holds", "p1", "a")
    await callers.ask("leaves", "p1", "a")
    callers.tasks["leaves"].cancel()
    await settled()
    await callers.ask("stays", "p1", "a")
    await callers.end_all()
    assert callers.served == ["holds", "stays"]
    assert is_empty(callers.queue)


async def test_whoever_leaves_in_the_moment_in_which_it_is_served_passes_the_place_on() -> None:
    callers = Callers(queue(1, 1, 1))
    await callers.ask("holds", "p1", "a")
    await callers.ask("leaves", "p1", "a")
    await callers.ask("waits", "p2", "a")
    callers.running["holds"].set()
    await asyncio.sleep(0)  # The place is given, and the task has not gone on yet.
    assert waiting_count(callers.queue) == 1
    callers.tasks["leaves"].cancel()
    await settled()
    assert callers.served == ["holds", "waits"]
    await callers.end_all()
    assert is_empty(callers.queue)


async def test_what_fails_gives_its_place_back() -> None:
    """Also where all callers are one, whose key is empty."""
    places = queue(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            async with places.place():
                raise ValueError("x")
    assert is_empty(places)


@pytest.mark.parametrize(
    ("at_once", "running", "waits", "is_wanted"),
    [
        ((2, 2, 2), ["p1 a", "p1 a"], "p2 a", True),
        ((2, 2, 2), ["p1 a", "p1 a"], "p1 a", False),
        ((9, 2, 2), ["p1 a", "p1 a"], "p1 b", True),
        # What waits for its own app's places would not run if this one was free.
        ((9, 9, 1), ["p1 a", "p2 a"], "p2 a", False),
    ],
)
async def test_a_place_is_wanted_by_another_whom_it_would_serve(
    at_once: tuple[int, ...], running: list[str], waits: str, is_wanted: bool
) -> None:
    places = queue(*at_once)
    async with contextlib.AsyncExitStack() as stack:
        for one in running:
            await stack.enter_async_context(places.place(*one.split()))
        first = tuple(running[0].split())
        waiting = asyncio.create_task(places.place(*waits.split()).__aenter__())
        await settled()
        assert waiting_count(places) == 1
        assert places.would_serve_another(first) == is_wanted
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not places.would_serve_another(first)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "end", "cancel"]),
        st.sampled_from(["p1", "p2", "p3"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_never_more_than_allowed_and_nobody_waits_beside_a_free_place(
    steps: list[tuple[str, str, str, int]], overall: int, of_patient: int, of_app: int
) -> None:
    limits = (overall, of_patient, of_app)

    async def run() -> None:
        callers = Callers(queue(*limits))
        places = callers.queue
        for number, (step, patient, app, which) in enumerate(steps):
            if step == "ask":
                await callers.ask(f"{number}", patient, app)
            elif step == "end" and callers.running:
                await callers.end(list(callers.running)[which % len(callers.running)])
            elif step == "cancel" and callers.tasks:
                list(callers.tasks.values())[which % len(callers.tasks)].cancel()
                await settled()
            assert held_count(places) == len(callers.running) <= overall
            for one in ("p1", "p2", "p3"):
                assert held_count(places, one) <= of_patient
                for other in ("a", "b"):
                    assert held_count(places, one, other) <= of_app
                    full = (
                        held_count(places) >= overall
                        or held_count(places, one) >= of_patient
                        or held_count(places, one, other) >= of_app
                    )
                    assert full or not waiting_count(places, one, other)
        await callers.end_all()
        assert is_empty(places)

    asyncio.run(run())


async def test_the_last_eighth_is_for_those_who_hold_none() -> None:
    """Two callers do not keep a third one out, however much they ask for."""
    queue = FairQueue((16, 8), waiting=(99, 99), seconds=60)
    async with AsyncExitStack() as held:
        for number in range(14):
            await held.enter_async_context(queue.place(number % 2))
        more = [asyncio.create_task(queue.place(number).__aenter__()) for number in (0, 1)]
        await wait_until_async("both to wait", lambda: waiting_count(queue) == 2)
        async with queue.place(2), queue.place(3):
            assert held_count(queue) == 16
        assert waiting_count(queue) == 2
        for one in more:
            one.cancel()
        await asyncio.gather(*more, return_exceptions=True)


async def test_many_that_leave_at_once_are_not_looked_through_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One turn of the event loop chooses one of them."""
    queue = FairQueue((1, 1), waiting=(999, 999), seconds=60)
    chosen = 0
    choose = FairQueue._next

    def counted(self: FairQueue, prefix: Key, other_than: Key | None = None) -> Key | None:
        nonlocal chosen
        chosen += prefix == ()
        return choose(self, prefix, other_than)

    async with queue.place("first"):
        leaving = [asyncio.create_task(queue.place(number).__aenter__()) for number in range(500)]
        await wait_until_async("all to wait", lambda: waiting_count(queue) == 500)
        for one in leaving:
            one.cancel()
        monkeypatch.setattr(FairQueue, "_next", counted)
    await asyncio.gather(*leaving, return_exceptions=True)
    assert chosen <= 3
    assert is_empty(queue)

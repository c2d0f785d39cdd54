"""One call at a time per key, and what happens to those who wait for it."""

import asyncio
import functools
import gc
from collections.abc import Callable

import pytest

from sidecar.common.errors import Unavailable
from sidecar.common.single_flight import SingleFlight


class Calls:
    """A call that ends when the test says so, and counts how often it began."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()
        self.outcome: Callable[[], str] = lambda: "found"

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcome()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_at_the_same_time_share_one_call() -> None:
    """A thousand waiters, one call, one outcome; nothing is left behind."""
    flight: SingleFlight[str, str] = SingleFlight()
    call = Calls()
    waiting = [asyncio.create_task(flight.run("key", call)) for _ in range(1_000)]
    await _settle()
    assert call.begun == len(flight) == 1
    call.go_on.set()
    assert await asyncio.gather(*waiting) == ["found"] * 1_000
    await _settle()
    assert len(flight) == 0


async def test_keys_do_not_share() -> None:
    """The answer of one key is never another's."""
    flight: SingleFlight[str, str] = SingleFlight()

    async def answer(key: str) -> str:
        await asyncio.sleep(0)
        return key

    keys = [f"k{number % 50}" for number in range(200)]
    calls = (flight.run(key, functools.partial(answer, key)) for key in keys)
    assert await asyncio.gather(*calls) == keys


async def test_whoever_asks_later_gets_a_new_call() -> None:
    """It is no cache."""
    flight: SingleFlight[str, str] = SingleFlight()
    call = Calls()
    call.go_on.set()
    for _ in range(3):
        await flight.run("key", call)
    assert call.begun == 3


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_a_waiter_that_leaves_cancels_only_its_own_waiting(leaving: int) -> None:
    """Even the first one, for whom the call began."""
    flight: SingleFlight[str, str] = SingleFlight()
    call = Calls()
    waiting = [asyncio.create_task(flight.run("key", call)) for _ in range(3)]
    await _settle()
    waiting[leaving].cancel()
    await _settle()
    assert waiting[leaving].cancelled()
    assert call.cancelled == 0
    call.go_on.set()
    others = [task for task in waiting if task is not waiting[leaving]]
    assert await asyncio.gather(*others) == ["found", "found"]
    assert call.begun == 1


async def test_all_waiters_may_leave_a_call_that_fails() -> None:
    """Nobody looks at its exception, and the loop complains of nothing."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(context)
    )
    flight: SingleFlight[str, str] = SingleFlight()
    call = Calls()
    call.outcome = lambda: str(1 / len(complaints))
    waiting = [asyncio.create_task(flight.run("key", call)) for _ in range(3)]
    await _settle()
    for task in waiting:
        task.cancel()
    await _settle()
    call.go_on.set()
    await _settle()
    assert len(flight) == 0
    del waiting, call, task
    gc.collect()
    await _settle()
    assert complaints == []


async def test_a_failure_reaches_all_waiters_and_is_not_kept() -> None:
    """The next one asks again."""
    flight: SingleFlight[str, str] = SingleFlight()
    call = Calls()

    def fail() -> str:
        raise Unavailable("Not now.", reason="down")

    call.outcome = fail
    waiting = [asyncio.create_task(flight.run("key", call)) for _ in range(10)]
    await _settle()
    call.go_on.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 10
    call.outcome = lambda: "found"
    assert await flight.run("key", call) == "found"
    assert call.begun == 2


async def test_calls_under_way_are_bounded_waiters_are_not() -> None:
    """A flood of keys is refused with a time to come back; those who share a call are let in."""
    flight: SingleFlight[int, str] = SingleFlight(limit=3)
    call = Calls()
    waiting = [asyncio.create_task(flight.run(number, call)) for number in (0, 1, 2, 0, 1, 2)]
    await _settle()
    with pytest.raises(Unavailable) as refused:
        await flight.run(3, call)
    assert refused.value.status == 503
    assert (refused.value.retry_after or 0) > 0
    call.go_on.set()
    assert await asyncio.gather(*waiting) == ["found"] * 6
    assert await flight.run(3, call) == "found"
    assert call.begun == 4


async def test_closing_ends_what_is_under_way() -> None:
    """No task outlives the server."""
    flight: SingleFlight[int, str] = SingleFlight()
    call = Calls()
    waiting = [asyncio.create_task(flight.run(number, call)) for number in range(3)]
    await _settle()
    await flight.close()
    assert call.cancelled == 3
    assert len(flight) == 0
    assert all(
        isinstance(o, asyncio.CancelledError)
        for o in await asyncio.gather(*waiting, return_exceptions=True)
    )


async def test_a_call_that_hangs_is_shared_until_its_limit_and_brings_nothing_late() -> None:
    """Whoever waited is refused; whoever asks then starts a call of their own."""
    flight: SingleFlight[str, str] = SingleFlight(seconds=0.05)
    hung, well, kept = Calls(), Calls(), []

    async def keeping() -> str:
        kept.append(await hung())
        return kept[-1]

    waiting = [asyncio.create_task(flight.run("key", keeping)) for _ in range(10)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [getattr(one, "reason", one) for one in outcomes] == ["call_timeout"] * 10
    well.go_on.set()
    assert await flight.run("key", well) == "found"
    hung.go_on.set()
    await _settle()
    assert (hung.begun, hung.cancelled, kept, len(flight)) == (1, 1, [], 0)


async def test_a_time_out_of_the_call_itself_stays_what_it_is() -> None:
    flight: SingleFlight[str, str] = SingleFlight()

    async def late() -> str:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await flight.run("key", late)

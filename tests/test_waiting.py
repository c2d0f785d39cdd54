"""Waits end with the thing itself; and no test sleeps, or limits time, but where time is its subject."""

import asyncio

import pytest

from tests.waiting import wait_until, wait_until_async


def test_what_becomes_true_ends_the_wait() -> None:
    numbers = iter(range(10))
    assert wait_until("three", lambda: next(numbers), lambda number: number == 3) == 3


async def test_so_it_does_in_a_loop() -> None:
    numbers = iter(range(10))
    assert await wait_until_async("three", lambda: next(numbers), lambda number: number == 3) == 3
    event = asyncio.Event()

    async def look() -> str:
        event.set()
        return "seen"

    assert await wait_until_async("a word", look) == "seen"
    assert event.is_set()


def test_the_end_says_what_was_waited_for_and_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"^the events: not within 0.01 s; seen last: 2\nits log$"):
        wait_until("the events", lambda: 2, lambda count: count > 2, seconds=0.01, explain=lambda: "its log")


async def test_so_it_says_in_a_loop() -> None:
    with pytest.raises(AssertionError, match=r"^the events: not within 0.01 s; seen last: 2$"):
        await wait_until_async("the events", lambda: 2, lambda count: count > 2, seconds=0.01)


def test_only_the_named_errors_are_waited_through() -> None:
    steps = iter([ConnectionError("not yet"), None])

    def look() -> bool:
        if (error := next(steps)) is not None:
            raise error
        return True

    assert wait_until("the server", look, not_yet=(ConnectionError,))
    with pytest.raises(AssertionError, match=r"seen last: ConnectionError\('no'\)"):
        wait_until("it", lambda: (_ for _ in ()).throw(ConnectionError("no")), not_yet=(OSError,), seconds=0.01)
    with pytest.raises(ZeroDivisionError):
        wait_until("it", lambda: 1 / 0, not_yet=(OSError,))

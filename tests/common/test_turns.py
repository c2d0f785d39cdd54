"""The queue before the EHR: bounded in number and time."""

import asyncio

import pytest

from sidecar.common.turns import Busy, Turns


async def test_no_more_at_once_than_allowed_and_everybody_has_a_turn() -> None:
    turns = Turns(3, waiting=100, seconds=60)
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        async with turns.turn():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert most == 3


async def test_a_full_queue_and_a_long_wait_end_at_once_and_free_their_place() -> None:
    turns = Turns(1, waiting=1, seconds=0.05)
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await turns.turn().__aenter__()
        with pytest.raises(Busy):
            await waiting
    async with turns.turn():
        pass


async def test_who_gives_up_or_fails_leaves_no_turn_behind() -> None:
    turns = Turns(1, waiting=1, seconds=60)
    with pytest.raises(ValueError, match="x"):
        async with turns.turn():
            raise ValueError("x")
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(60), turns.turn():
        pass

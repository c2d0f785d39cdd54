"""Long work in slices: whole, in order, and others have their turn in between."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from sidecar.common import slices
from sidecar.common.slices import LONG_ROWS, for_each, in_slices


@pytest.fixture(autouse=True)
def _each_item_is_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(slices, "SMALL_SECONDS", -1.0)


async def test_all_items_come_in_order() -> None:
    assert await in_slices(iter(range(100))) == list(range(100))
    assert await in_slices([]) == []


async def test_others_have_their_turn_in_between() -> None:
    seen: list[str] = []

    def work() -> Iterator[None]:
        for number in range(3):
            seen.append(f"work {number}")
            yield

    async def other() -> None:
        for number in range(3):
            seen.append(f"other {number}")
            await asyncio.sleep(0)

    await asyncio.gather(in_slices(work()), other())
    assert seen == ["work 0", "other 0", "work 1", "other 1", "work 2", "other 2"]


async def test_small_work_does_not_wait_behind_large_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many have large work: else one app's searches would hold up everybody's."""
    monkeypatch.setattr(slices, "SMALL_SECONDS", 60.0)
    monkeypatch.setattr(slices, "SLICE_SECONDS", 60.0)
    state = slices._SLICES.setdefault(asyncio.get_running_loop(), slices._Slices())
    async with state.turn:
        assert await in_slices(iter(range(3))) == [0, 1, 2]


async def test_one_slice_runs_between_two_looks_at_the_network_however_many_wait() -> None:
    rounds: list[list[int]] = [[]]
    done = asyncio.Event()

    def work(who: int) -> Iterator[None]:
        for _ in range(5):
            rounds[-1].append(who)
            yield

    async def count() -> None:
        while not done.is_set():
            rounds.append([])
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.gather(*(in_slices(work(who)) for who in range(4)))
    done.set()
    await counting
    assert max(map(len, rounds)) == 1
    worked = [who for one in rounds for who in one]
    assert sorted(worked) == sorted([*range(4)] * 5)
    assert set(worked[:8]) == {0, 1, 2, 3}  # Nobody waits for the end of another's work.


async def test_work_that_fails_frees_its_turn() -> None:
    def fails() -> Iterator[None]:
        yield
        raise KeyError

    with pytest.raises(KeyError):
        await in_slices(fails())
    assert await in_slices("ab") == ["a", "b"]


async def test_short_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a turn of the loop: what a handful of rows costs stays as it was."""
    monkeypatch.setattr(slices, "SLICE_SECONDS", 60.0)
    work = in_slices(range(10))
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    assert ended.value.value == list(range(10))


async def test_short_work_after_short_work_is_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are there already, each shorter than a slice, do not all run at once."""
    monkeypatch.setattr(slices, "SLICE_SECONDS", 3.0)
    now = 0.0
    monkeypatch.setattr("sidecar.common.slices.time.perf_counter", lambda: now)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        asyncio.get_running_loop().call_soon(look)

    def piece() -> Iterator[int]:
        nonlocal now
        now += 1
        yield 1

    look()
    for _ in range(30):
        assert await in_slices(piece()) == [1]
    assert looks >= 4  # One slice of small work and one of more between two looks.


async def test_long_work_on_one_item_is_done_in_a_thread() -> None:
    here = threading.get_ident()
    rows = [1, LONG_ROWS + 1, LONG_ROWS, 0]
    done = await for_each(rows, lambda size: (size, threading.get_ident() == here), int)
    assert done == [(size, size <= LONG_ROWS) for size in rows]

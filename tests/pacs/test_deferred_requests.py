"""Slow archives (SIA-44): told to come back, served when it is there, bounded, and nothing is left
open.
"""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from sidecar.common.errors import Unavailable
from sidecar.pacs.deferred_requests import DeferredRequests
from tests.pacs.deferred import Archive, Door, deferred_requests
from tests.pacs.fake import settle
from tests.waiting import forever, wait_until_async


async def test_what_is_there_in_time_is_returned() -> None:
    archive = Archive()
    archive.ready.set()
    deferred = deferred_requests()
    assert (await deferred.open("a", archive.open)).closed is False
    assert len(deferred) == 0


async def test_a_slow_one_is_503_and_the_retry_gets_what_the_first_request_started() -> None:
    archive, deferred = Archive(), deferred_requests()
    for _ in range(3):
        with pytest.raises(Unavailable) as refused:
            await deferred.open("a", archive.open)
        assert refused.value.retry_after == 1
    archive.ready.set()
    door = await deferred.open("a", archive.open)
    assert archive.asked == 1
    assert archive.doors == [door]
    assert not door.closed
    assert len(deferred) == 0


async def test_another_key_does_not_get_it() -> None:
    archive, other, deferred = Archive(), Archive(), deferred_requests()
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    other.ready.set()
    archive.ready.set()
    await deferred.open("b", other.open)
    assert other.asked == 1
    await deferred.close()


async def test_two_that_retry_at_once_get_one_each() -> None:
    """An opened answer can be read once."""
    archive, deferred = Archive(), deferred_requests(patience_seconds=0.2)
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    retries = [asyncio.create_task(deferred.open("a", archive.open)) for _ in range(3)]
    await settle()
    archive.ready.set()
    doors = await asyncio.gather(*retries)
    assert len({id(door) for door in doors}) == 3
    assert not any(door.closed for door in doors)


async def test_nobody_comes_back() -> None:
    archive, deferred = Archive(), deferred_requests(keep_seconds=0.05)
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    archive.ready.set()
    await wait_until_async("the closing", lambda: archive.doors and archive.doors[0].closed)
    assert len(deferred) == 0


async def test_it_never_becomes_ready() -> None:
    """``warm_seconds`` bounds the work in the background; the retry hears of it."""
    archive, deferred = Archive(), deferred_requests(warm_seconds=0.1)
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    await wait_until_async("the end of the warming", lambda: archive.cancelled)
    with pytest.raises(TimeoutError):
        await deferred.open("a", archive.open)
    assert archive.cancelled == 1
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    await deferred.close()


async def test_a_failure_reaches_the_retry() -> None:
    archive, deferred = Archive(), deferred_requests()
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    archive.failing = ZeroDivisionError()
    archive.ready.set()
    with pytest.raises(ZeroDivisionError):
        await deferred.open("a", archive.open)


async def test_only_so_many_are_kept_warming() -> None:
    archive, deferred = Archive(), deferred_requests()
    for key in ("a", "b", "c", "d"):
        with pytest.raises(Unavailable):
            await deferred.open(key, archive.open)
    await asyncio.sleep(0)
    assert len(deferred) == 2
    assert archive.cancelled == 2
    await deferred.close()


async def test_nobody_takes_the_places_of_all() -> None:
    """One app that asks for many slow things in many ways leaves room for the others."""
    archive, deferred = Archive(), deferred_requests(limit=8, limit_per_owner=2)
    for key in range(5):
        with pytest.raises(Unavailable):
            await deferred.open(key, archive.open, owner="greedy")
    with pytest.raises(Unavailable):
        await deferred.open("mine", archive.open, owner="other")
    assert len(deferred) == 3
    archive.ready.set()
    await deferred.open(0, archive.open, owner="greedy")
    archive.ready.clear()
    with pytest.raises(Unavailable):  # What was taken makes room.
        await deferred.open(9, archive.open, owner="greedy")
    assert len(deferred) == 3
    await deferred.close()


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit": 8, "limit_per_owner": 2}])
async def test_a_result_that_nobody_has_taken_makes_room(limits: dict[str, float]) -> None:
    """Its caller may have to ask something else first, again: it would never get that."""
    waiting, slow = Archive(), Archive()
    deferred = deferred_requests(**limits)
    for key in ("a", "b"):
        with pytest.raises(Unavailable):
            await deferred.open(key, waiting.open, owner="p")
    waiting.ready.set()
    await settle()
    with pytest.raises(Unavailable):  # Others have no part in it.
        await deferred.open("c", Archive().open, owner="q")
    assert len(deferred) == (2 if limits == {"limit": 2} else 3)
    with pytest.raises(Unavailable):
        await deferred.open("first", slow.open, owner="p")
    await settle()
    assert [door.closed for door in waiting.doors] == [True, False]
    slow.ready.set()
    await deferred.open("first", slow.open, owner="p")
    assert slow.asked == 1
    assert await deferred.open("b", waiting.open, owner="p") is waiting.doors[1]
    await deferred.close()


async def test_a_client_that_leaves_while_it_waits_ends_what_it_started() -> None:
    archive, deferred = Archive(), deferred_requests(patience_seconds=60)
    waiting = asyncio.create_task(deferred.open("a", archive.open))
    await wait_until_async("the question", lambda: archive.asked)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert archive.cancelled == 1
    assert len(deferred) == 0


async def test_a_retry_that_leaves_does_not_end_the_warming() -> None:
    archive, deferred = Archive(), deferred_requests(patience_seconds=0.05)
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    waiting = asyncio.create_task(deferred.open("a", archive.open))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert archive.cancelled == 0
    archive.ready.set()
    assert await deferred.open("a", archive.open) is archive.doors[0]


async def test_closing_leaves_nothing_open() -> None:
    archive, late, deferred = Archive(), Archive(), deferred_requests()
    for key, one in (("a", archive), ("b", late)):
        with pytest.raises(Unavailable):
            await deferred.open(key, one.open)
    archive.ready.set()
    await wait_until_async("an opened one", lambda: archive.doors)
    await deferred.close()
    await asyncio.sleep(0)
    assert archive.doors[0].closed
    assert late.cancelled == 1


LOST = {"silence_seconds": 0.01}
"""Longer than that is silence: what has waited for the patience has been silent."""


async def lost(deferred: DeferredRequests[Door], **named: str) -> Archive:
    """An archive that never answers what it was asked for first."""
    archive = Archive()
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open, **named)
    return archive


async def test_a_lost_answer_is_left_behind() -> None:
    """The archive is well: the next call gets an answer of its own, and the silent one ends."""
    deferred, well = deferred_requests(**LOST), Archive()
    never = await lost(deferred)
    well.ready.set()
    door = await deferred.open("a", well.open)
    await settle()
    assert (door.closed, len(deferred), well.asked, never.cancelled) == (False, 0, 1, 1)


async def test_what_comes_late_is_closed_and_given_to_nobody() -> None:
    """An opening that does not end when cancelled, and brings something after a newer answer."""
    deferred, well, late = deferred_requests(**LOST), Archive(), Door()
    came = asyncio.Event()

    async def stubborn(note: Callable[[], None]) -> Door:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        came.set()
        return late

    with pytest.raises(Unavailable):
        await deferred.open("a", stubborn)
    well.ready.set()
    door = await deferred.open("a", well.open)
    await came.wait()
    await settle()
    assert (door.closed, late.closed, len(deferred)) == (False, True, 0)
    assert await deferred.open("a", well.open) is not late


async def test_a_slow_archive_is_not_left_for_its_silence() -> None:
    """The first question goes on, however often it is asked again; its answer is taken, and the
    others end.
    """
    deferred, again = deferred_requests(**LOST, limit=8), Archive()
    slow = await lost(deferred)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await deferred.open("a", again.open)
        assert len(deferred) == 2  # The first and the newest.
    await settle()
    assert (again.asked, again.cancelled, slow.cancelled) == (3, 2, 0)
    waiting = asyncio.create_task(deferred.open("a", again.open))
    await settle()
    slow.ready.set()
    assert await waiting is slow.doors[0]
    await settle()
    assert (len(deferred), again.asked, again.cancelled) == (0, 4, 4)


async def test_what_still_comes_is_not_silent() -> None:
    """A search of many pages is waited for, not asked for a second time."""
    deferred, other = deferred_requests(silence_seconds=5), Archive()
    loop = asyncio.get_running_loop()
    paging = await lost(deferred)
    (opening,) = deferred._deferred["a"]
    opening.heard = loop.time() - 10
    paging.note()
    with pytest.raises(Unavailable):
        await deferred.open("a", other.open)
    assert other.asked == 0
    opening.heard = loop.time() - 10
    with pytest.raises(Unavailable):
        await deferred.open("a", other.open)
    assert other.asked == 1
    await deferred.close()


async def test_many_who_leave_the_silent_one_leave_nothing_behind() -> None:
    deferred, well = deferred_requests(**LOST, patience_seconds=0.2, limit=8), Archive()
    never = await lost(deferred)
    waiting = [asyncio.create_task(deferred.open("a", well.open)) for _ in range(5)]
    await settle()
    well.ready.set()
    doors = await asyncio.gather(*waiting)
    await settle()
    assert len({id(door) for door in doors}) == 5
    assert (len(deferred), never.cancelled, any(door.closed for door in doors)) == (0, 1, False)


async def test_a_failure_of_the_newer_one_does_not_end_the_older() -> None:
    deferred, failing = deferred_requests(**LOST), Archive()
    slow = await lost(deferred)
    failing.failing = ZeroDivisionError()
    failing.ready.set()
    with pytest.raises(ZeroDivisionError):
        await deferred.open("a", failing.open)
    assert (len(deferred), slow.cancelled) == (1, 0)
    await deferred.close()


@pytest.mark.parametrize("limits", [{"limit": 1}, {"limit": 8, "limit_per_owner": 1}])
async def test_the_limits_hold_for_those_beside_a_silent_one(limits: dict[str, float]) -> None:
    """One that finds no place lives as long as its caller waits."""
    deferred, again = deferred_requests(**LOST, **limits), Archive()
    slow = await lost(deferred, owner="p")
    with pytest.raises(Unavailable):
        await deferred.open("a", again.open, owner="p")
    await settle()
    assert (len(deferred), again.cancelled, slow.cancelled) == (1, 1, 0)
    await deferred.close()


async def test_a_forgetting_ends_all_of_a_key() -> None:
    deferred, again = deferred_requests(**LOST), Archive()
    slow = await lost(deferred)
    with pytest.raises(Unavailable):
        await deferred.open("a", again.open)
    deferred.forget(None)
    await settle()
    assert (len(deferred), again.cancelled, slow.cancelled) == (0, 1, 1)

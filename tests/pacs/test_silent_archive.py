"""An answer that may be lost while the archive is well (SIA-44)."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from sidecar.common.errors import Unavailable
from sidecar.pacs.deferred_requests import DeferredRequests
from tests.pacs.deferred import Archive, Door, deferred_requests
from tests.pacs.fake import settle
from tests.waiting import forever

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

"""Slow archives (SIA-44): told to come back, served when it is there, bounded, and nothing is left
open.
"""

import asyncio

import pytest

from sidecar.common.errors import Unavailable
from tests.pacs.deferred import Archive, deferred_requests
from tests.pacs.fake import settle
from tests.waiting import wait_until_async


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


@pytest.mark.parametrize(
    ("changed", "left"), [({"p1"}, {"b"}), ({"p3"}, {"a", "b"}), (None, set())]
)
async def test_what_is_forgotten_is_closed_at_once(
    changed: set[str] | None, left: set[str]
) -> None:
    """Opened or still under way, of the patients who changed; that of others goes on."""
    for ready in (False, True):
        archives, deferred = {"a": Archive(), "b": Archive()}, deferred_requests(limit=8)
        for (key, archive), patient_ids in zip(
            archives.items(), ({"p1", "p9"}, {"p2"}), strict=True
        ):
            with pytest.raises(Unavailable):
                await deferred.open(key, archive.open, patient_ids=patient_ids)
            if ready:
                archive.ready.set()
        await settle()
        deferred.forget(changed)
        await settle()
        ended = {
            key
            for key, one in archives.items()
            if one.cancelled or (one.doors and one.doors[0].closed)
        }
        assert archives.keys() - ended == left
        assert len(deferred) == len(left)
        await deferred.close()


async def test_what_is_about_nobody_in_particular_is_forgotten_with_anybody() -> None:
    archive, deferred = Archive(), deferred_requests()
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open)
    deferred.forget({"p1"})
    await settle()
    assert archive.cancelled == 1


async def test_what_was_asked_for_before_the_forgetting_is_kept_for_nobody() -> None:
    """Its own caller would still get it; the patience ends, and the next one starts anew."""
    archive, deferred = Archive(), deferred_requests(patience_seconds=0.2)
    waiting = asyncio.create_task(deferred.open("a", archive.open, patient_ids={"p1"}))
    await settle()
    deferred.forget({"p1"})
    with pytest.raises(Unavailable):
        await waiting
    await settle()
    assert (archive.cancelled, len(deferred)) == (1, 0)


async def test_a_retry_that_waits_for_what_is_forgotten_starts_anew() -> None:
    archive, deferred = Archive(), deferred_requests(patience_seconds=1)
    with pytest.raises(Unavailable):
        await deferred.open("a", archive.open, patient_ids={"p1"})
    waiting = asyncio.create_task(deferred.open("a", archive.open, patient_ids={"p1"}))
    await settle()
    deferred.forget({"p1"})
    archive.ready.set()
    assert not (await waiting).closed
    assert archive.asked == 2

"""What is forgotten of a slow archive is given to nobody (SIA-42, 44)."""

import asyncio

import pytest

from sidecar.common.errors import Unavailable
from tests.pacs.deferred import Archive, deferred_requests
from tests.pacs.fake import settle


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

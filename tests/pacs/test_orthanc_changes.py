"""Following Orthanc's /changes: whose lists are forgotten, and what if that is unclear."""

import asyncio
from typing import Any

import aiohttp
import pytest

from sidecar.common.fetch import FetchFailed
from sidecar.pacs.orthanc_changes import LOOKUPS, OrthancChanges
from tests.common.peer import Peer, Reply
from tests.waiting import wait_until_async

STUDY_ID = "0123abcd-0123abcd-0123abcd-0123abcd-01234567"


def change(
    kind: str = "NewInstance", level: str = "Instance", identifier: str = STUDY_ID
) -> dict[str, Any]:
    """One entry, as Orthanc 1.10 writes it."""
    path = f"/{level.lower()}s/{identifier}"
    return {
        "ChangeType": kind,
        "Date": "20240101T000000",
        "ID": identifier,
        "Path": path,
        "ResourceType": level,
        "Seq": None,
    }


def page(*changes: Any, last: Any = 9, done: Any = True) -> Reply:
    """An answer of /changes after number 7."""
    numbered = [
        {**one, "Seq": one.get("Seq") or 8 + at} if isinstance(one, dict) else one
        for at, one in enumerate(changes)
    ]
    return Reply({"OrthancChanges": numbered, "Done": done, "Last": last})


def patient(patient_id: Any) -> Reply:
    """An answer of /instances/…/patient."""
    return Reply({"ID": STUDY_ID, "MainDicomTags": {"PatientID": patient_id}, "Type": "Patient"})


def count(instances: Any = 5) -> Reply:
    """An answer of /statistics."""
    return Reply({"CountInstances": instances, "CountStudies": 1})


BEGIN = (page(last=7), count())


async def forgotten(
    session: aiohttp.ClientSession, peer: Peer, *replies: Reply
) -> list[frozenset[str] | None]:
    """What is forgotten when, behind number 7, the replies come."""
    found: list[frozenset[str] | None] = []
    changes = OrthancChanges(session, peer.url, found.append, poll_seconds=1, timeout_seconds=60)
    peer.say(*BEGIN, *replies)
    await changes.poll()
    assert found == [None]  # What was remembered before we began to follow.
    await changes.poll()
    assert [asked.target for asked in peer.asked[:3]] == [
        "/changes?last",
        "/statistics",
        "/changes?since=7&limit=200",
    ]
    return found[1:]


@pytest.mark.parametrize(
    ("level", "path"),
    [("Instance", "instances"), ("Series", "series"), ("Study", "studies")],
)
async def test_the_patient_whose_something_came_is_forgotten(
    session: aiohttp.ClientSession, peer: Peer, level: str, path: str
) -> None:
    told = await forgotten(
        session, peer, page(change("New" + level, level)), patient(" p1 "), count(6)
    )
    assert told == [frozenset({"p1"})]
    assert peer.asked[3].target == f"/{path}/{STUDY_ID}/patient"


async def test_a_patient_is_asked_for_itself(session: aiohttp.ClientSession, peer: Peer) -> None:
    assert await forgotten(
        session, peer, page(change("UpdatedMetadata", "Patient")), patient("p1"), count()
    ) == [frozenset({"p1"})]
    assert peer.asked[3].target == f"/patients/{STUDY_ID}"


async def test_nothing_that_matters_forgets_nothing(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    stable = [change("Stable" + level, level) for level in ("Patient", "Study", "Series")]
    assert await forgotten(session, peer, page(*stable), count()) == []
    assert len(peer.asked) == 4


MANY = [change(identifier=f"{number:08x}" + STUDY_ID[8:]) for number in range(LOOKUPS + 1)]
UNCLEAR = {
    "deleted": (page(), count(4), *BEGIN),
    "deleted while as much came": (page(change()), patient("p1"), count(5), *BEGIN),
    "gone since": (page(change()), Reply(status=404), *BEGIN),
    "no patient id": (page(change()), patient(None), *BEGIN),
    "more than a page": (page(change(), done=False), *BEGIN),
    "many at once": (page(*MANY), *BEGIN),
    "began anew": (page(last=3), *BEGIN),
    "another resource": (page(change(level="Worklist")), *BEGIN),
    "an id that is a path": (page(change(identifier="../system")), *BEGIN),
    "no object": (page("x"), *BEGIN),
    "a change is missing": (page(change() | {"Seq": 9}), *BEGIN),
    "a change is missing in between": (page(change(), change() | {"Seq": 10}), *BEGIN),
    "a kind that is a list": (page(change() | {"ChangeType": []}), *BEGIN),
}


@pytest.mark.parametrize("case", UNCLEAR)
async def test_when_it_cannot_be_told_everybody_is_forgotten(
    session: aiohttp.ClientSession, peer: Peer, case: str
) -> None:
    assert await forgotten(session, peer, *UNCLEAR[case]) == [None]


BROKEN = {
    "status": Reply(status=500),
    "not json": Reply("<html>"),
    "no list": Reply({"Last": 9, "Done": True}),
    "no number": page(last="9"),
    "a truth for a number": page(last=True),
}


async def test_a_count_that_fails_skips_nothing(session: aiohttp.ClientSession, peer: Peer) -> None:
    found: list[frozenset[str] | None] = []
    changes = OrthancChanges(session, peer.url, found.append, poll_seconds=1, timeout_seconds=60)
    peer.say(
        *BEGIN,
        page(change()),
        patient("p1"),
        Reply(status=500),
        page(change()),
        patient("p1"),
        count(6),
    )
    await changes.poll()
    with pytest.raises(FetchFailed):
        await changes.poll()
    await changes.poll()
    assert found == [None, frozenset({"p1"})]


@pytest.mark.parametrize("case", BROKEN)
async def test_a_failure_skips_nothing(
    session: aiohttp.ClientSession, peer: Peer, case: str
) -> None:
    """The same changes are asked for again."""
    found: list[frozenset[str] | None] = []
    changes = OrthancChanges(session, peer.url, found.append, poll_seconds=1, timeout_seconds=60)
    peer.say(*BEGIN, BROKEN[case], page(change()), patient("p1"), count(6), page(), count(6))
    await changes.poll()
    with pytest.raises(FetchFailed):
        await changes.poll()
    await changes.poll()
    await changes.poll()
    assert found == [None, frozenset({"p1"})]
    since = [asked.target for asked in peer.asked if "since" in asked.target]
    assert since == ["/changes?since=7&limit=200"] * 2 + ["/changes?since=9&limit=200"]


async def test_changes_that_somebody_else_deleted(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    """What is counted once must come by a change: when it does not, nobody knows whose it was."""
    found: list[frozenset[str] | None] = []
    changes = OrthancChanges(session, peer.url, found.append, poll_seconds=1, timeout_seconds=60)
    peer.say(*BEGIN, page(last=7), count(6), page(last=7), *BEGIN)
    for _ in range(3):
        await changes.poll()
    assert found == [None, None]


@pytest.mark.parametrize(
    "odd", [Reply({"OrthancChanges": 1}), Reply(status=500), Reply({"Last": 10**400}), Reply([])]
)
async def test_following_goes_on_after_anything(
    session: aiohttp.ClientSession, peer: Peer, odd: Reply
) -> None:
    """And begins anew: what happened meanwhile is not known."""
    found: list[frozenset[str] | None] = []
    changes = OrthancChanges(session, peer.url, found.append, poll_seconds=0.01, timeout_seconds=60)
    peer.say(*BEGIN, odd, *BEGIN, page(last=7), count())
    following = asyncio.create_task(changes.follow())
    await wait_until_async("two beginnings", lambda: found, lambda seen: seen == [None, None])
    assert not following.done()
    following.cancel()


@pytest.mark.parametrize("said", ["P\ufffd1", "Ð\x9012345", "\x1b$B1"])
async def test_a_patient_whose_characters_cannot_be_known_is_everybody(
    session: aiohttp.ClientSession, peer: Peer, said: str
) -> None:
    told = await forgotten(session, peer, page(change()), patient(said), page(last=9), count(6))
    assert told == [None]

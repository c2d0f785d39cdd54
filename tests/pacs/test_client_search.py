"""Queries with paging, against a PACS on a real socket: all rows or an error (SIA-16, 43)."""

import asyncio
import contextlib
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.errors import BadGateway, Problem, Unavailable
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import DIALECTS
from tests.common.peer import Peer, Reply
from tests.pacs.paging import (
    ONE_PAGE_OF_5,
    PAGE,
    REMAIN,
    STUDIES,
    archive,
    numbers,
    pacs,
    pages_asked,
    rows,
)
from tests.permits import ASKED
from tests.waiting import wait_until_async

PAGING: dict[str, tuple[Reply, int, int]] = {
    "none": (archive(0), 0, 1),
    "none, dcm4chee's way": (archive(0, empty=204), 0, 1),
    "a short page": (archive(3), 3, 1),
    "a full page may not be the last": (archive(5), 5, 2),
    "a full page, dcm4chee's way": (archive(5, empty=204), 5, 2),
    "several pages": (archive(13), 13, 3),
    "several full pages": (archive(15), 15, 4),
    "a PACS that cuts and says so": (archive(13, most=2, warns=True), 13, 7),
    "a PACS that ignores limit": (archive(13, honours="offset"), 13, 1),
    "a PACS that ignores limit and offset": (archive(13, honours=""), 13, 1),
    "a PACS that ignores offset, all on one page": (archive(3, honours="limit"), 3, 1),
}


@pytest.mark.parametrize("case", PAGING)
async def test_all_rows_come_once(peer: Peer, session: aiohttp.ClientSession, case: str) -> None:
    reply, number, queries = PAGING[case]
    peer.say(reply)
    assert numbers(await pacs(session, peer).search(STUDIES, [], permit=ASKED)) == list(
        range(number)
    )
    assert len(peer.asked) == queries


@pytest.mark.parametrize(
    ("limit", "offset", "expected", "asked"),
    [
        (3, 0, [0, 1, 2], [(3, 0)]),
        (5, 2, [2, 3, 4, 5, 6], [(5, 2)]),
        (7, 0, list(range(7)), [(5, 0), (2, 5)]),
        (6, 2, list(range(2, 8)), [(6, 2)]),
        (100, 9, [9, 10, 11, 12], [(5, 9)]),
        (1, 99, [], [(1, 99)]),
        (0, 0, [], []),
    ],
)
async def test_a_part_of_the_rows(
    peer: Peer,
    session: aiohttp.ClientSession,
    limit: int,
    offset: int,
    expected: list[int],
    asked: list[tuple[int, int]],
) -> None:
    """No more is asked for than is wanted; ``limit`` is never 0 (dcm4chee: 400)."""
    peer.say(archive(13))
    assert (
        numbers(
            await pacs(session, peer).search(STUDIES, [], limit=limit, offset=offset, permit=ASKED)
        )
        == expected
    )
    assert pages_asked(peer) == asked


async def test_a_pacs_that_ignores_limit_gives_no_more_than_was_wanted(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(archive(13, honours=""))
    assert numbers(await pacs(session, peer).search(STUDIES, [], limit=3, permit=ASKED)) == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("total", [PAGE, 13])
async def test_a_pacs_that_ignores_offset_is_noticed(
    peer: Peer, session: aiohttp.ClientSession, total: int
) -> None:
    """Rather an error than the first page for all there is."""
    peer.say(archive(total, honours="limit"))
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer).search(STUDIES, [], permit=ASKED)
    assert refused.value.reason == "query_paging"


async def test_rows_without_their_uid_do_not_page_for_ever(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply([{}] * PAGE))
    with pytest.raises(BadGateway):
        await pacs(session, peer).search(STUDIES, [], permit=ASKED)
    assert len(peer.asked) == 2


async def test_a_pacs_that_ignores_limit_and_has_more_is_asked_on(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Half a list is never returned as a whole one."""
    peer.say(archive(25, honours="offset", most=10, warns=True))
    assert numbers(await pacs(session, peer).search(STUDIES, [], permit=ASKED)) == list(range(25))


async def test_more_than_one_warning(peer: Peer, session: aiohttp.ClientSession) -> None:
    """PS3.18 8.3.4.2 has one for what was ignored, too."""
    warnings = [
        ("Warning", '299 pacs "The fuzzymatching parameter is not supported."'),
        ("Warning", "299 " + REMAIN.format(2)),
    ]

    async def first(request: web.Request) -> web.StreamResponse:
        response = web.json_response(rows(0, 2))
        for name, value in warnings:
            response.headers.add(name, value)
        return response

    peer.say(Reply(write=first), Reply(rows(2, 2)))
    assert numbers(await pacs(session, peer).search(STUDIES, [], permit=ASKED)) == [0, 1, 2, 3]


async def test_results_are_bounded(peer: Peer, session: aiohttp.ClientSession) -> None:
    peer.say(archive(12))
    assert (
        len(await pacs(session, peer, maximum_results=12).search(STUDIES, [], permit=ASKED)) == 12
    )
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer, maximum_results=11).search(STUDIES, [], permit=ASKED)
    assert refused.value.reason == "query_too_many_results"


async def test_endless_results_are_bounded(peer: Peer, session: aiohttp.ClientSession) -> None:
    peer.say(archive(10**9))
    with pytest.raises(BadGateway):
        await pacs(session, peer, maximum_results=52).search(STUDIES, [], permit=ASKED)
    assert len(peer.asked) == 11


async def test_results_are_bounded_whatever_limit_is_asked_for(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(archive(10**9))
    with contextlib.suppress(Problem):
        results = await pacs(session, peer, maximum_results=20).search(
            STUDIES, [], limit=60, permit=ASKED
        )
        assert len(results) <= 20


async def test_what_is_asked(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Values cannot add parameters; nothing of the client's request, our own credentials where the
    site has them.
    """
    peer.say(Reply([]))
    parameters = [("PatientID", "a&b=c d/ä%41+#"), ("includefield", "00100020,00100021")]
    query = Query("instances", "1.2", "1.3")
    await pacs(session, peer, authorization="Basic c2lkZWNhcg==").search(
        query, parameters, permit=ASKED
    )
    (asked,) = peer.asked
    target = urlsplit(asked.target)
    assert target.path == "/rs/studies/1.2/series/1.3/instances"
    assert parse_qs(target.query) == {
        "PatientID": ["a&b=c d/ä%41+#"],
        "includefield": ["PatientID,IssuerOfPatientID,SpecificCharacterSet"],
        "limit": ["5"],
    }
    assert asked.method == "GET"
    assert asked.headers["Accept"] == "application/dicom+json"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert asked.headers["Authorization"] == "Basic c2lkZWNhcg=="


async def test_without_credentials_none_are_sent(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply([]))
    await pacs(session, peer).search(STUDIES, [], permit=ASKED)
    assert "Authorization" not in peer.asked[0].headers


async def test_ping(peer: Peer, session: aiohttp.ClientSession) -> None:
    """One cheap question; any answer that is none to it is a problem."""
    peer.say(Reply([]), Reply("", 204), Reply("", 401))
    client = pacs(session, peer)
    await client.ping()
    await client.ping()
    with pytest.raises(BadGateway):
        await client.ping()
    assert pages_asked(peer) == [(1, 0)] * 3


def test_dialects() -> None:
    """Orthanc writes +0000 whatever the truth; one query may bring a page within seconds."""
    assert set(DIALECTS) == {"generic", "orthanc", "dcm4chee"}
    assert not DIALECTS["orthanc"].true_timezone
    assert DIALECTS["dcm4chee"].true_timezone
    for name, dialect in DIALECTS.items():
        assert dialect.name == name
        assert 1 <= dialect.page_size <= 99_999
    assert replace(DIALECTS["generic"], page_size=PAGE) == ONE_PAGE_OF_5


async def test_the_peer_of_these_tests_pages_as_it_says(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Without this, the table above could pass for a wrong reason."""
    peer.say(archive(7, warns=True))
    async with session.get(peer.url + "/rs/studies?limit=3&offset=2") as response:
        assert numbers(json.loads(await response.read())) == [2, 3, 4]
        assert "2 additional results" in response.headers["Warning"]


@pytest.mark.parametrize("value", ["p1", "1.2.840", "Doe^Jane"])
def test_what_any_archive_reads_is_written_exactly(value: str) -> None:
    assert all(dialect.writes_exactly(value) for dialect in DIALECTS.values())


@pytest.mark.parametrize("value", ["M\u00fcller", "a b", "a&b", "a%41", "a#b", "a+b", "a,b"])
def test_what_orthanc_cannot_read_is_written_with_wildcards(value: str) -> None:
    """Others may come as well, so that a limit of the client's must not be passed on."""
    assert not DIALECTS["orthanc"].writes_exactly(value)
    assert DIALECTS["generic"].writes_exactly(value)


async def test_what_is_wanted_fresh_is_never_what_a_slow_query_brought(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-42: such rows may be from before a correction."""
    deferred = DeferredRequests[list[Row]](lambda rows: None, patience_seconds=0.01)
    slow = asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        await slow.wait()
        return web.json_response(rows(0, 1), content_type="application/dicom+json")

    peer.say(Reply(write=later))
    client = pacs(session, peer, deferred=deferred)
    with pytest.raises(Unavailable):
        await client.search(STUDIES, [], permit=ASKED)
    slow.set()
    await wait_until_async(
        "the rows", lambda: all(request.task.done() for (request,) in deferred._deferred.values())
    )
    peer.say(Reply([]))
    assert await client.search(STUDIES, [], fresh=True, permit=ASKED) == []
    assert (
        await client.search(STUDIES, [], permit=ASKED) != []
    )  # They are kept for whoever asked for them.

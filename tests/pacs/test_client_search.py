"""Queries with paging, against a PACS on a real socket: all rows or an error (SIA-16, 43)."""

import asyncio
import contextlib
import gc
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.errors import BadGateway, GatewayTimeout, Problem, Unavailable
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused
from sidecar.pacs import query_rows
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import DIALECTS
from tests.common.peer import Peer, Reply, all_that_is_said
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
    assert numbers(await pacs(session, peer).search(STUDIES, [])) == list(range(number))
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
        numbers(await pacs(session, peer).search(STUDIES, [], limit=limit, offset=offset))
        == expected
    )
    assert pages_asked(peer) == asked


async def test_a_pacs_that_ignores_limit_gives_no_more_than_was_wanted(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(archive(13, honours=""))
    assert numbers(await pacs(session, peer).search(STUDIES, [], limit=3)) == [0, 1, 2]


@pytest.mark.parametrize("total", [PAGE, 13])
async def test_a_pacs_that_ignores_offset_is_noticed(
    peer: Peer, session: aiohttp.ClientSession, total: int
) -> None:
    """Rather an error than the first page for all there is."""
    peer.say(archive(total, honours="limit"))
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer).search(STUDIES, [])
    assert refused.value.reason == "query_paging"


async def test_rows_without_their_uid_do_not_page_for_ever(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply([{}] * PAGE))
    with pytest.raises(BadGateway):
        await pacs(session, peer).search(STUDIES, [])
    assert len(peer.asked) == 2


async def test_a_pacs_that_ignores_limit_and_has_more_is_asked_on(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Half a list is never returned as a whole one."""
    peer.say(archive(25, honours="offset", most=10, warns=True))
    assert numbers(await pacs(session, peer).search(STUDIES, [])) == list(range(25))


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
    assert numbers(await pacs(session, peer).search(STUDIES, [])) == [0, 1, 2, 3]


async def test_results_are_bounded(peer: Peer, session: aiohttp.ClientSession) -> None:
    peer.say(archive(12))
    assert len(await pacs(session, peer, maximum_results=12).search(STUDIES, [])) == 12
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer, maximum_results=11).search(STUDIES, [])
    assert refused.value.reason == "query_too_many_results"


async def test_endless_results_are_bounded(peer: Peer, session: aiohttp.ClientSession) -> None:
    peer.say(archive(10**9))
    with pytest.raises(BadGateway):
        await pacs(session, peer, maximum_results=52).search(STUDIES, [])
    assert len(peer.asked) == 11


async def test_results_are_bounded_whatever_limit_is_asked_for(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(archive(10**9))
    with contextlib.suppress(Problem):
        found = await pacs(session, peer, maximum_results=20).search(STUDIES, [], limit=60)
        assert len(found) <= 20


async def test_what_is_asked(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Values cannot add parameters; nothing of the client's request, our own credentials where the
    site has them.
    """
    peer.say(Reply([]))
    parameters = [("PatientID", "a&b=c d/ä%41+#"), ("includefield", "00100020,00100021")]
    query = Query("instances", "1.2", "1.3")
    await pacs(session, peer, authorization="Basic c2lkZWNhcg==").search(query, parameters)
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
    await pacs(session, peer).search(STUDIES, [])
    assert "Authorization" not in peer.asked[0].headers


SECRET = "http://pacs.internal/secret"
UNUSABLE: dict[str, tuple[Reply, type[Problem], str]] = {
    "not JSON": (Reply(f"<html>{SECRET}"), BadGateway, "query_not_json"),
    "much that is not JSON": (Reply(f"<html>{SECRET * 2_000}"), BadGateway, "query_wrong_shape"),
    "much of an object": (Reply({"error": SECRET * 2_000}), BadGateway, "query_wrong_shape"),
    "much, broken off": (
        Reply('[{"00100020": "' + SECRET * 2_000 + '"}, {'),
        BadGateway,
        "query_not_json",
    ),
    "much, one is no object": (Reply(["x" * 50_000]), BadGateway, "query_wrong_shape"),
    "nothing": (Reply(""), BadGateway, "query_not_json"),
    "half": (Reply('[{"0020000D"'), BadGateway, "query_not_json"),
    "NaN": (Reply("[NaN]"), BadGateway, "query_not_json"),
    "a tag that cannot be read": (Reply(b'[{"0010002\xff": {}}]'), BadGateway, "query_not_json"),
    "an attribute twice": (
        Reply('[{"0020000d": {}, "0020000D": {}}]'),
        BadGateway,
        "query_wrong_shape",
    ),
    "more behind the rows": (Reply("[{}] x"), BadGateway, "query_not_json"),
    "too deep": (Reply('[{"00100020":' + "[" * 100_000), BadGateway, "query_not_json"),
    "an object": (Reply({"error": SECRET}), BadGateway, "query_wrong_shape"),
    "null": (Reply("null"), BadGateway, "query_wrong_shape"),
    "half a byte order mark": (Reply(b"\xef\xbb[{}]"), BadGateway, "query_not_json"),
    "two byte order marks": (Reply(b"\xef\xbb\xbf\xef\xbb\xbf[{}]"), BadGateway, "query_not_json"),
    "UTF-16": (Reply("[{}]".encode("utf-16")), BadGateway, "query_not_json"),
    "a text": (Reply('"[]"'), BadGateway, "query_wrong_shape"),
    "an array of arrays": (Reply([[]]), BadGateway, "query_wrong_shape"),
    "one that is no object": (Reply([*rows(0, 1), SECRET]), BadGateway, "query_wrong_shape"),
    "a null among the rows": (Reply([*rows(0, 1), None]), BadGateway, "query_wrong_shape"),
    "400": (Reply(SECRET, 400), QueryRefused, "pacs_query_refused"),
    "401": (Reply(SECRET, 401, {"WWW-Authenticate": "Basic"}), BadGateway, "pacs_credentials"),
    "403": (Reply(SECRET, 403), BadGateway, "pacs_credentials"),
    "404": (Reply(SECRET, 404), BadGateway, "pacs_status"),
    "413, dcm4chee's second limit": (Reply(SECRET, 413), BadGateway, "pacs_status"),
    "206": (Reply(rows(0, 1), 206), BadGateway, "pacs_status"),
    "302": (Reply("", 302, {"Location": "/rs/studies?elsewhere"}), BadGateway, "pacs_status"),
    "500": (Reply(SECRET, 500), BadGateway, "pacs_status"),
    "503": (Reply(SECRET, 503, {"Retry-After": "17"}), Unavailable, "pacs_busy"),
    "429": (Reply(SECRET, 429), Unavailable, "pacs_busy"),
    "504": (Reply(SECRET, 504), GatewayTimeout, "pacs_timeout"),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_answer_that_cannot_be_used_is_an_error(
    peer: Peer, session: aiohttp.ClientSession, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never an empty list, which would look like a patient without studies; and its text goes
    nowhere.
    """
    reply, problem, reason = UNUSABLE[case]
    peer.say(reply)
    seen: list[str] = []
    with pytest.raises(Problem) as refused:
        await pacs(
            session, peer, observe=lambda kind, status, seconds: seen.append(f"{kind} {status}")
        ).search(STUDIES, [])
    assert isinstance(refused.value, problem)
    assert refused.value.reason == reason
    assert refused.value.retry_after == (
        17 if case == "503" else 5 if problem is Unavailable else None
    )
    # A 400 may be for SpecificCharacterSet: once more without it.
    times = 2 if case == "400" else 1
    assert len(peer.asked) == times
    assert seen == [f"query {reply.status}"] * times
    assert "pacs.internal" not in all_that_is_said(caplog, refused.value)
    assert peer.url not in refused.value.diagnostics


async def test_an_answer_that_breaks_off_on_a_later_page_is_an_error(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply(rows(0, 5)), Reply("", 500))
    with pytest.raises(BadGateway):
        await pacs(session, peer).search(STUDIES, [])


async def test_an_answer_that_is_too_large_is_refused(
    peer: Peer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_rows, "SEARCH_BYTES", 1_000)
    peer.say(Reply(rows(0, 100)))
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer).search(STUDIES, [])
    assert refused.value.reason == "query_too_large"


VALUES = ",".join(["0"] * (query_rows.ROW_VALUES + 1))


def with_values(values: str) -> str:
    return f'[{{"00081030": {{"Value": [{values}]}}}}]'


def empty_rows(count: int) -> str:
    return "[" + ",".join(["{}"] * count) + "]"


# Made when they are asked for: the largest have tens of MB.
TOO_MUCH: dict[str, tuple[Callable[[], str], str]] = {
    "a row of many bytes": (
        lambda: with_values('"' + "x" * query_rows.ROW_BYTES + '"'),
        "query_too_large",
    ),
    "a row of many values": (lambda: with_values(VALUES), "query_too_large"),
    "five million values": (lambda: with_values(",".join(["0"] * 5_000_000)), "query_too_large"),
    "rows that hold many values together": (
        lambda: "[" + ",".join(['{"00081030":[0,0,0]}'] * 300) + "]",
        "query_too_large",
    ),
    "many rows": (lambda: empty_rows(20_001), "query_too_many_results"),
    "2 million rows": (lambda: empty_rows(2_000_000), "query_too_many_results"),
    "20 million rows": (lambda: empty_rows(20_000_000), "query_too_many_results"),
}
LONG = {"20 million rows"}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.exhaustive) if case in LONG else case
        for case in TOO_MUCH
    ],
)
async def test_what_is_over_a_limit_is_never_built(
    peer: Peer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Read whole, 60 MB of empty rows took 1.6 GB."""
    made, reason = TOO_MUCH[case]
    body = made()
    if case == "rows that hold many values together":
        monkeypatch.setattr(query_rows, "SEARCH_VALUES", 1_000)
    peer.say(Reply(body.encode()))
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(BadGateway) as refused:
            await pacs(session, peer, timeout_seconds=300).search(STUDIES, [])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.reason == reason
    assert most < 2 * len(body) + 32 * 2**20, "the peer's copies of the body, and what is bounded"


async def test_the_limits_are_those_of_a_search_not_of_a_page(
    peer: Peer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = rows(0, PAGE)
    monkeypatch.setattr(query_rows, "SEARCH_BYTES", len(json.dumps(page)) + 100)
    peer.say(Reply(page), Reply(rows(PAGE, PAGE)), Reply([]))
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer).search(STUDIES, [])
    assert refused.value.reason == "query_too_large"
    assert len(peer.asked) == 2


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
        await client.search(STUDIES, [])
    slow.set()
    await wait_until_async(
        "the rows", lambda: all(one.task.done() for (one,) in deferred._deferred.values())
    )
    peer.say(Reply([]))
    assert await client.search(STUDIES, [], fresh=True) == []
    assert await client.search(STUDIES, []) != []  # They are kept for whoever asked for them.

"""An answer to a query that cannot be used, or is too large, is an error (SIA-16, 43)."""

import gc
import json
import tracemalloc
from collections.abc import Callable

import aiohttp
import pytest

from sidecar.common.errors import BadGateway, GatewayTimeout, Problem, Unavailable
from sidecar.dicomweb.upstream_errors import QueryRefused
from sidecar.pacs import query_rows
from tests.common.peer import Peer, Reply, all_that_is_said
from tests.pacs.paging import (
    PAGE,
    STUDIES,
    pacs,
    rows,
)
from tests.permits import ASKED

SECRET = "http://pacs.internal/secret"
UNUSABLE: dict[str, tuple[Reply, type[Problem], str]] = {
    "not JSON": (Reply(f"<html>{SECRET}"), BadGateway, "query_not_json"),
    "much that is not JSON": (Reply(f"<html>{SECRET * 3_000}"), BadGateway, "query_wrong_shape"),
    "much of an object": (Reply({"error": SECRET * 3_000}), BadGateway, "query_wrong_shape"),
    "much, broken off": (
        Reply('[{"00100020": "' + SECRET * 3_000 + '"}, {'),
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
        ).search(STUDIES, [], permit=ASKED)
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
        await pacs(session, peer).search(STUDIES, [], permit=ASKED)


async def test_an_answer_that_is_too_large_is_refused(
    peer: Peer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_rows, "SEARCH_BYTES", 1_000)
    peer.say(Reply(rows(0, 100)))
    with pytest.raises(BadGateway) as refused:
        await pacs(session, peer).search(STUDIES, [], permit=ASKED)
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
LONG = {"2 million rows", "20 million rows"}


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
            await pacs(session, peer, timeout_seconds=300).search(STUDIES, [], permit=ASKED)
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
        await pacs(session, peer).search(STUDIES, [], permit=ASKED)
    assert refused.value.reason == "query_too_large"
    assert len(peer.asked) == 2

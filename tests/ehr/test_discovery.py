"""The EHR's ``.well-known/smart-configuration``: what is read from it, and what is refused (SIA-1,
SIA-10, SIA-16).
"""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.errors import Unavailable
from sidecar.common.fetch import FetchedResponse
from sidecar.ehr.discovery import LISTS, Discovery, SmartConfiguration
from tests.common.peer import NO_HEADERS, Clock, Peer, Reply
from tests.waiting import outlast

FOUND: dict[str, Any] = {
    "issuer": "https://ehr.example.org",
    "introspection_endpoint": "https://ehr.example.org/introspect",
    "token_endpoint": "https://ehr.example.org/token",
    "authorization_endpoint": "https://ehr.example.org/authorize",
    "capabilities": ["launch-standalone"],
}
CONFIGURATION = SmartConfiguration(
    introspection_endpoint="https://ehr.example.org/introspect",
    token_endpoint="https://ehr.example.org/token",
    authorization_endpoint="https://ehr.example.org/authorize",
    issuer="https://ehr.example.org",
)


async def _slow(request: web.Request) -> web.StreamResponse:
    await outlast(60)


FAULTS: dict[str, tuple[Reply, str]] = {
    "404": (Reply(FOUND, 404), "unexpected_status"),
    "500": (Reply(FOUND, 500), "unexpected_status"),
    "redirect": (Reply(FOUND, 302, {"Location": "/elsewhere"}), "unexpected_status"),
    "not JSON": (Reply("<html>"), "not_json"),
    "an endpoint twice": (
        Reply('{"introspection_endpoint": "https://a/i", "introspection_endpoint": "https://b/i"}'),
        "not_json",
    ),
    "an array": (Reply([FOUND]), "not_an_object"),
    "huge": (Reply(" " * 1_100_000), "too_large"),
    "slow": (Reply(write=_slow), "timeout"),
    "an endpoint is an object": (
        Reply(FOUND | {"introspection_endpoint": {"url": "https://a/"}}),
        "wrong_shape",
    ),
    "an endpoint is a number": (Reply(FOUND | {"token_endpoint": 1}), "wrong_shape"),
    "an endpoint is relative": (
        Reply(FOUND | {"introspection_endpoint": "/introspect"}),
        "wrong_shape",
    ),
    "an endpoint is empty": (Reply(FOUND | {"introspection_endpoint": ""}), "wrong_shape"),
    "an endpoint has no host": (
        Reply(FOUND | {"introspection_endpoint": "https:///introspect"}),
        "wrong_shape",
    ),
    "an endpoint has no scheme": (
        Reply(FOUND | {"introspection_endpoint": "//ehr/introspect"}),
        "wrong_shape",
    ),
    "an endpoint is a file": (
        Reply(FOUND | {"introspection_endpoint": "file://ehr/introspect"}),
        "wrong_shape",
    ),
    "an endpoint is a script": (
        Reply(FOUND | {"authorization_endpoint": "javascript:alert(1)"}),
        "wrong_shape",
    ),
}


async def failure_of(discovery: Discovery) -> Unavailable:
    """The failure that a request meets."""
    with pytest.raises(Unavailable) as failed:
        await discovery.configuration()
    return failed.value


async def test_what_is_asked_and_what_is_found(peer: Peer, session: aiohttp.ClientSession) -> None:
    """SIA-1: below the FHIR base, without any token."""
    peer.say(Reply(FOUND))
    assert (
        await Discovery(session, f"{peer.url}/fhir", timeout_seconds=60).configuration()
        == CONFIGURATION
    )
    assert [(asked.method, asked.target) for asked in peer.asked] == [
        ("GET", "/fhir/.well-known/smart-configuration")
    ]
    assert "Authorization" not in peer.asked[0].headers


@pytest.mark.parametrize(
    "body", [{}, {"introspection_endpoint": None, "issuer": None}, {"issuer": ["x"]}], ids=str
)
async def test_what_is_not_named_is_none(
    peer: Peer, session: aiohttp.ClientSession, body: dict[str, Any]
) -> None:
    """The EHR need not have introspection; whoever wants it says so."""
    peer.say(Reply(body))
    found = await Discovery(session, peer.url, timeout_seconds=60).configuration()
    assert found == SmartConfiguration(None, None, None, None)


async def test_what_the_authorization_server_takes(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-2: lists of texts; anything else counts as not said, and is no reason to fail."""
    said = dict.fromkeys(LISTS, ("a", "b"))
    for body, wanted in (
        (said, said),
        (said | {"response_types_supported": ["code"]}, said),
        (dict.fromkeys(LISTS, "a"), {}),
        (dict.fromkeys(LISTS, ()), {}),
        (dict.fromkeys(LISTS, ("a", 1)), {}),
    ):
        peer.say(Reply(body))
        found = await Discovery(session, peer.url, timeout_seconds=60).configuration()
        assert found.authorization_metadata == wanted


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_unavailable(
    peer: Peer, session: aiohttp.ClientSession, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-16: 503 with a time to come back, and a log line with the reason; a redirect leads
    nowhere.
    """
    reply, reason = FAULTS[fault]
    peer.say(reply)
    problem = await failure_of(Discovery(session, peer.url, timeout_seconds=60, clock=Clock()))
    assert problem.reason == f"discovery_{reason}"
    assert (problem.retry_after or 0) > 0
    assert len(peer.asked) == 1
    assert [
        vars(record)["reason"] for record in caplog.records if record.name.startswith("sidecar")
    ] == [reason]


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    """SIA-16."""
    assert (
        await failure_of(Discovery(session, "http://127.0.0.1:9", timeout_seconds=60))
    ).status == 503


async def test_a_failure_is_not_kept(peer: Peer, session: aiohttp.ClientSession) -> None:
    """The next request asks again."""
    peer.say(Reply("", 500), Reply(FOUND))
    discovery = Discovery(session, peer.url, timeout_seconds=60, clock=Clock())
    await failure_of(discovery)
    assert await discovery.configuration() == CONFIGURATION


async def test_it_is_asked_once_in_a_while(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Once per ``ttl_seconds``, and once for all that wait."""
    clock = Clock()
    peer.say(Reply(FOUND), Reply({}))
    discovery = Discovery(session, peer.url, timeout_seconds=60, ttl_seconds=3_600, clock=clock)
    together = await asyncio.gather(*(discovery.configuration() for _ in range(100)))
    assert together == [CONFIGURATION] * 100
    clock.now += 3_599.9
    assert await discovery.configuration() == CONFIGURATION
    assert len(peer.asked) == 1
    clock.now += 0.1
    assert (await discovery.configuration()).introspection_endpoint is None
    assert len(peer.asked) == 2


async def test_an_older_one_serves_while_the_ehr_does_not_answer(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """It names endpoints only; it is asked again after ``retry_seconds``, not at each request."""
    clock = Clock()
    peer.say(Reply(FOUND), Reply("", 500), Reply({}))
    discovery = Discovery(
        session, peer.url, timeout_seconds=60, ttl_seconds=60, retry_seconds=5, clock=clock
    )
    await discovery.configuration()
    clock.now += 60
    for _ in range(5):
        assert await discovery.configuration() == CONFIGURATION
    assert len(peer.asked) == 2
    clock.now += 5
    assert (await discovery.configuration()).introspection_endpoint is None


def answer_with(monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]) -> None:
    """Let every fetch of discovery bring ``body``: a test has no https server."""

    async def fetched(*_: object, **__: object) -> FetchedResponse:
        return FetchedResponse(200, NO_HEADERS, json.dumps(body).encode())

    monkeypatch.setattr("sidecar.ehr.discovery.fetch", fetched)


@pytest.mark.parametrize(
    "name", ["introspection_endpoint", "token_endpoint", "authorization_endpoint"]
)
@pytest.mark.parametrize("scheme", ["http", "HTTP"])
async def test_an_https_ehr_never_sends_us_to_plain_http(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    """SIA-10: tokens go there, and must not be read on the way."""
    answer_with(monkeypatch, FOUND | {name: f"{scheme}://ehr.example.org/x"})
    problem = await failure_of(
        Discovery(session, "https://ehr.example.org/fhir", timeout_seconds=60)
    )
    assert problem.reason == "discovery_insecure_endpoint"


async def test_an_http_ehr_may_name_http(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test system."""
    answer_with(
        monkeypatch, FOUND | {"introspection_endpoint": "http://ehr.example.org/introspect"}
    )
    found = await Discovery(
        session, "http://ehr.example.org/fhir", timeout_seconds=60
    ).configuration()
    assert found.introspection_endpoint == "http://ehr.example.org/introspect"


async def test_the_case_of_the_scheme_does_not_count(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIA-10: ``HTTPS://`` in the settings is https."""
    answer_with(
        monkeypatch, FOUND | {"introspection_endpoint": "http://ehr.example.org/introspect"}
    )
    await failure_of(Discovery(session, "HTTPS://ehr.example.org/fhir", timeout_seconds=60))


@pytest.mark.parametrize("url", ["https://[", "https://[::1", "https://ehr]/", "https://e\u2100/"])
async def test_a_url_that_cannot_be_read_is_unavailable(
    peer: Peer, session: aiohttp.ClientSession, url: str
) -> None:
    """SIA-16: 503 as for any other wrong shape, and an older configuration goes on serving."""
    peer.say(Reply(FOUND | {"introspection_endpoint": url}))
    assert (await failure_of(Discovery(session, peer.url, timeout_seconds=60))).status == 503

"""Introspection at a server that misbehaves: no token is found, and others can go on (SIA-16)."""

import asyncio
import json
import logging
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.circuit_breaker import Breaker
from sidecar.common.errors import BadGateway, Unavailable
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.tokens.introspected import TOKEN, problem_of
from tests.tokens.introspecting import ACTIVE, SECRET, introspection
from tests.waiting import WAIT_SECONDS, outlast, pass_time


async def _slow(request: web.Request) -> web.StreamResponse:
    await outlast(60)


async def _slow_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        pass_time(1)
        await asyncio.sleep(0.01)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(json.dumps(ACTIVE).encode() + b" " * 65_536)


async def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


FAULTS: dict[str, tuple[Reply, str]] = {
    "not JSON": (Reply("<html>Please log in</html>"), "not_json"),
    "empty": (Reply(""), "not_json"),
    "active twice": (Reply('{"active": false, "exp": 9999999999, "active": true}'), "not_json"),
    "exp is NaN": (Reply('{"active": true, "exp": NaN}'), "not_json"),
    "deep": (Reply('{"a":' * 10_000), "not_json"),
    "an array": (Reply([ACTIVE]), "not_an_object"),
    "500": (Reply(ACTIVE, 500), "unexpected_status"),
    "503": (Reply(ACTIVE, 503), "server_busy"),
    "429": (Reply(ACTIVE, 429), "server_busy"),
    "404": (Reply(ACTIVE, 404), "unexpected_status"),
    "201": (Reply(ACTIVE, 201), "unexpected_status"),
    "another 400": (Reply({"error": "invalid_request", "token": TOKEN}, 400), "unexpected_status"),
    "302": (Reply(ACTIVE, 302, {"Location": f"/elsewhere?token={TOKEN}"}), "unexpected_status"),
    "307": (Reply(ACTIVE, 307, {"Location": "/elsewhere"}), "unexpected_status"),
    "too large": (Reply(json.dumps(ACTIVE) + " " * 70_000), "too_large"),
    "endless": (Reply(write=_endless), "too_large"),
    "slow": (Reply(write=_slow), "timeout"),
    "slow body": (Reply(write=_slow_body), "timeout"),
    "hangs up": (Reply(write=_hang_up), "unreachable"),
    "echoes the token": (Reply(f"no such token: {TOKEN}"), "not_json"),
}
MISFITS: dict[str, tuple[Reply, str]] = {
    "exp is beyond numbers": (Reply('{"active": true, "exp": 1e999}'), "exp"),
    "exp is a text": (Reply(ACTIVE | {"exp": "2030-01-01"}), "exp"),
    "active is a string": (Reply(ACTIVE | {"active": "true"}), "active"),
    "active is a number": (Reply(ACTIVE | {"active": 1}), "active"),
    "no active": (Reply({"scope": "patient/*.rs"}), "active"),
    "patient is an object": (Reply(ACTIVE | {"patient": {"id": "p1"}}), "patient"),
    "sub is a number": (Reply(ACTIVE | {"sub": 4711}), "sub"),
    "scope is an array of numbers": (Reply(ACTIVE | {"scope": [1]}), "scope"),
}
REFUSALS: dict[str, Reply] = {
    "401": Reply({"error": "invalid_client"}, 401),
    "401 without body": Reply("", 401, {"WWW-Authenticate": "Basic"}),
    "401 with a lie": Reply(ACTIVE, 401),
    "403": Reply(f"<html>{TOKEN}", 403),
    "400 invalid_client": Reply({"error": "invalid_client"}, 400),
}


@pytest.mark.parametrize("misfit", MISFITS)
async def test_what_no_repetition_will_mend_is_no_try_again(
    peer: Peer, session: aiohttp.ClientSession, misfit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """502, with the member in the log, never its value; other tokens are checked all the same."""
    caplog.set_level(logging.DEBUG)
    reply, field = MISFITS[misfit]
    peer.say(reply)
    outcomes: list[str] = []
    asked = introspection(
        peer,
        session,
        breaker=Breaker(failures=1, clock=Clock()),
        observe=lambda what, _: outcomes.append(what),
    )
    problem = await problem_of(asked)
    assert (problem.status, problem.retry_after) == (502, None)
    assert problem.for_operators() == f"introspection_wrong_shape ({field})"
    assert outcomes == ["wrong_shape"]
    assert any(vars(record).get("field") == field for record in caplog.records)
    output = all_that_is_said(caplog, problem)
    assert "4711" not in output
    assert TOKEN not in output
    peer.say(Reply(ACTIVE))
    assert await asked.introspect("another") is not None


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_unavailable(
    peer: Peer, session: aiohttp.ClientSession, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-16: 503 with a time to come back, in bounded time, logged; the answer is not followed and
    not quoted.
    """
    caplog.set_level(logging.DEBUG)
    reply, reason = FAULTS[fault]
    peer.say(reply)
    outcomes: list[str] = []
    asked = introspection(
        peer,
        session,
        timeout_seconds=60,
        observe=lambda what, _: outcomes.append(what),
    )
    async with asyncio.timeout(WAIT_SECONDS):
        problem = await problem_of(asked)
    assert isinstance(problem, Unavailable)
    assert problem.reason == f"introspection_{reason}"
    assert (problem.retry_after or 0) > 0
    assert outcomes == ["unavailable"]
    assert [request.target for request in peer.asked] == ["/introspect"]
    assert any(vars(record).get("reason") == reason for record in caplog.records)
    output = all_that_is_said(caplog, problem)
    assert TOKEN not in output
    assert SECRET not in output
    assert peer.url not in problem.diagnostics


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    """SIA-16: down is 503 as well."""
    problem = await problem_of(introspection("http://127.0.0.1:9/introspect", session))
    assert (problem.status, problem.reason) == (503, "introspection_unreachable")


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_our_own_credentials_are_refused(
    peer: Peer, session: aiohttp.ClientSession, refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    """502: not the caller's fault, and the operators read what to look at."""
    caplog.set_level(logging.DEBUG)
    peer.say(REFUSALS[refusal])
    outcomes: list[str] = []
    problem = await problem_of(
        introspection(peer, session, observe=lambda what, _: outcomes.append(what))
    )
    assert isinstance(problem, BadGateway)
    assert outcomes == ["bad_credentials"]
    (record,) = [
        record for record in caplog.records if record.name == "sidecar.tokens.introspection"
    ]
    assert record.levelno == logging.ERROR
    assert "check tokens.client" in record.getMessage()
    assert vars(record)["upstream_status"] == REFUSALS[refusal].status
    output = all_that_is_said(caplog, problem)
    assert TOKEN not in output
    assert SECRET not in output


async def test_the_breaker_opens_and_half_opens(peer: Peer, session: aiohttp.ClientSession) -> None:
    """A server that is down is left alone for a moment, then asked once; then all goes on."""
    clock = Clock()
    asked = introspection(peer, session, breaker=Breaker(failures=3, open_seconds=2, clock=clock))
    peer.say(Reply("oops", 502))
    reasons = [(await problem_of(asked)).reason for _ in range(6)]
    assert reasons == ["introspection_server_busy"] * 3 + ["introspection_circuit_open"] * 3
    assert len(peer.asked) == 3
    problem = await problem_of(asked)
    assert (problem.status, bool(problem.retry_after)) == (503, True)
    clock.now += 2
    outcomes = await asyncio.gather(*(problem_of(asked) for _ in range(5)))
    assert Counter(outcome.reason for outcome in outcomes) == {
        "introspection_server_busy": 1,
        "introspection_circuit_open": 4,
    }
    assert len(peer.asked) == 4
    clock.now += 2
    peer.say(Reply(ACTIVE))
    for _ in range(3):
        assert await asked.introspect(TOKEN) is not None
    assert len(peer.asked) == 7


@pytest.mark.parametrize("status", [400, 404, 413, 431, 500, 501])
async def test_a_token_that_the_server_stumbles_over_does_not_open_the_breaker(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    """A hostile app sends such tokens; everybody else's are checked all the same."""
    asked = introspection(peer, session, breaker=Breaker(failures=2, clock=Clock()))
    peer.say(Reply("oops", status))
    assert {(await problem_of(asked)).reason for _ in range(5)} == {
        "introspection_unexpected_status"
    }
    peer.say(Reply(ACTIVE))
    assert await asked.introspect(TOKEN) is not None


async def test_no_more_calls_at_once_than_the_server_can_be_asked_to_bear(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """A crowd of new tokens waits for its turn, and all are checked."""
    running, most = 0, 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return web.json_response(ACTIVE)

    peer.say(Reply(write=slow))
    asked = introspection(peer, session)
    tokens = await asyncio.gather(*(asked.introspect(f"token-{number}") for number in range(200)))
    assert all(tokens)
    assert 1 < most <= 50


async def test_inactive_tokens_do_not_open_the_breaker(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Junk is the caller's, not the server's failure."""
    peer.say(Reply({"active": False}))
    asked = introspection(peer, session, breaker=Breaker(failures=2, clock=Clock()))
    assert [await asked.introspect("junk") for _ in range(5)] == [None] * 5


async def test_one_odd_token_does_not_lock_out_the_others(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """SIA-16 is about this token: the server answers, and another app's token can be checked."""

    async def by_token(request: web.Request) -> web.StreamResponse:
        odd = (await request.post())["token"] == "odd"
        return web.json_response({} if odd else ACTIVE)

    peer.say(Reply(write=by_token))
    asked = introspection(peer, session)
    for _ in range(5):
        await problem_of(asked, "odd")
    assert await asked.introspect("another") is not None

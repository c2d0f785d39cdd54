"""Requests are remembered from the log, which itself stays as it was."""

import asyncio
import logging

import pytest

from sidecar.demo.explain.decisions import MAXIMUM_REQUESTS, Decisions
from sidecar.telemetry.logs import log_request

REQUESTS = logging.getLogger("sidecar.request")


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the log writes elsewhere, which is warnings alone, as without ``--verbose``."""
    caplog.set_level("WARNING")
    caplog.handler.setLevel("NOTSET")
    return caplog


def answer(request_id: str, status: int = 200, route: str = "wado-rs", **more: str) -> None:
    level = logging.WARNING if status >= 500 else logging.INFO
    fields = {
        "request_id": request_id,
        "route": route,
        "method": "GET",
        "status": status,
        "seconds": 0.1,
        "durations": {},
    }
    log_request(level, fields | more)


async def test_a_request_is_explained(written: pytest.LogCaptureFixture) -> None:
    decisions = Decisions()
    with decisions.follow():
        answer("a", 403, reason="other_patient")
    found = await decisions.find("a", seconds=0)
    assert found == {
        "request_id": "a",
        "route": "wado-rs",
        "method": "GET",
        "status": 403,
        "seconds": 0.1,
        "reason": "other_patient",
        "outcome": "refused",
        "why": "The token is for another patient than the request.",
        "requirements": [
            {"id": "SIA-12", "text": "the token's patient is the one asked for"},
            {"id": "SIA-22", "text": "another patient is 403"},
        ],
    }
    assert written.records == []


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (200, None, "permitted"),
        (404, "not_shown", "refused"),
        (503, "pacs_warming", "waiting"),
        (503, "pacs_busy", "failed"),
    ],
)
async def test_outcomes(status: int, reason: str | None, outcome: str) -> None:
    decisions = Decisions()
    with decisions.follow():
        answer("a", status, **({"reason": reason} if reason else {}))
    found = await decisions.find("a", seconds=0)
    assert found is not None
    assert (found["outcome"], found["reason"]) == (outcome, reason)


async def test_the_log_stays_as_it_was(written: pytest.LogCaptureFixture) -> None:
    level = REQUESTS.level
    decisions = Decisions()
    with decisions.follow():
        answer("a")
        answer("b", 503)
        REQUESTS.error("internal error", extra={"request_id": "c"})
    answer("d")
    assert REQUESTS.level == level
    assert [vars(record).get("request_id") for record in written.records] == ["b", "c"]
    found = [name for name in "abcd" if await decisions.find(name, seconds=0)]
    assert found == ["a", "b"]


async def test_a_request_that_is_still_running_is_waited_for() -> None:
    decisions = Decisions()
    with decisions.follow():
        waiting = asyncio.create_task(decisions.find("b", seconds=60))
        await asyncio.sleep(0)
        answer("a")
        await asyncio.sleep(0)
        answer("b")
        found = await waiting
    assert found is not None
    assert found["request_id"] == "b"


async def test_what_is_unknown_or_our_own_or_long_ago_is_not_found() -> None:
    decisions = Decisions()
    with decisions.follow():
        answer("old")
        answer("own", route="demo-guide")
        for number in range(MAXIMUM_REQUESTS):
            answer(str(number))
    for name in ("old", "own", "unknown"):
        assert await decisions.find(name, seconds=0.01) is None
    assert await decisions.find("0", seconds=0) is not None

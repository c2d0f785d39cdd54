"""Each request gets an id, headers, an answer, a line in the log, bounded labels (SIA-54)."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.reasons import Reason
from sidecar.authorization.decision_log import Denied
from sidecar.common.errors import BadGateway, NotFound, Unavailable
from sidecar.common.spans import Tracing, measure
from sidecar.server.listener import listen
from sidecar.telemetry.metrics import Metrics
from sidecar.web.middleware import RECORD, TARGET, add_headers, observe_requests
from sidecar.web.target import Target
from tests.fakes.site import NO_AUDIT
from tests.waiting import WAIT_SECONDS, forever, wait_until_async

SECRET = "a-recognizable-secret"

RAISED: dict[str, tuple[Exception, int, str | None]] = {
    "denied": (Denied(Reason.OTHER_PATIENT), 403, "other_patient"),
    "foreign": (Denied(Reason.FOREIGN), 404, "foreign"),
    "absent": (NotFound("There is no such resource.", reason="pacs_absent"), 404, "pacs_absent"),
    "unavailable": (Unavailable("Not now.", reason="pacs_busy"), 503, "pacs_busy"),
    "gateway": (BadGateway("Not usable.", reason="pacs_partial"), 502, "pacs_partial"),
    "method": (web.HTTPMethodNotAllowed("GET", ["POST"], text=SECRET), 405, "http"),
    "fault": (ValueError(SECRET), 500, "internal_error"),
    "time": (TimeoutError(SECRET), 500, "internal_error"),
    "group": (ExceptionGroup(SECRET, [KeyError(SECRET)]), 500, "internal_error"),
}


class World:
    """An application whose handlers raise what a test says, with its metrics and logs."""

    def __init__(self, url: str, metrics: Metrics, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.metrics = metrics
        self.client = client
        self.targets: list[Target] = []
        self.begun, self.left = asyncio.Event(), asyncio.Event()

    def requests(self, route: str, method: str, status: str) -> float:
        """How many were counted."""
        labels = {"route": route, "method": method, "status": status}
        return self.metrics.registry.get_sample_value("smart_imaging_requests_total", labels) or 0.0

    def labels(self) -> set[tuple[str, str, str]]:
        """All labels of ``requests_total`` so far."""
        (family,) = (
            one for one in self.metrics.registry.collect() if one.name == "smart_imaging_requests"
        )
        return {
            (sample.labels["route"], sample.labels["method"], sample.labels["status"])
            for sample in family.samples
        }


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A running one."""
    metrics = Metrics("test")
    observe = observe_requests(
        metrics,
        NO_AUDIT,
        lambda: False,
        Tracing(),
        "",
        None,
        lambda handler, request: handler(request),
    )
    app = web.Application(middlewares=[observe])
    app.on_response_prepare.append(partial(add_headers, lambda *_: asyncio.sleep(0)))

    async def fine(request: web.Request) -> web.Response:
        running.targets.append(request[TARGET])
        with measure("token"):
            await asyncio.sleep(0.01)
        return web.Response(text=request[RECORD].request_id)

    async def failing(request: web.Request) -> web.Response:
        raise RAISED[request.match_info["what"]][0]

    async def slow(request: web.Request) -> web.Response:
        running.begun.set()
        try:
            await forever()
        finally:
            running.left.set()

    async def cached(request: web.Request) -> web.Response:
        return web.Response(
            headers={"Cache-Control": "public, max-age=300", "Server": SECRET, "Vary": "Cookie"}
        )

    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        app.router.add_route(method, "/fine", fine, name="fine" if method == "GET" else None)
    app.router.add_get("/failing/{what}", failing, name="failing")
    app.router.add_get("/slow", slow, name="slow")
    app.router.add_get("/cached", cached, name="cached")
    async with listen(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as client:
        running = World(f"http://127.0.0.1:{port}", metrics, client)
        yield running


async def test_each_request_has_an_id_of_its_own(world: World) -> None:
    """The client's own wish does not count: it would stand in our log as it is."""
    seen = set()
    for _ in range(20):
        async with world.client.get(
            world.url + "/fine", headers={"X-Request-Id": SECRET}
        ) as answer:
            request_id = answer.headers["X-Request-Id"]
            assert await answer.text() == request_id
            assert re.fullmatch(r"[0-9a-f]{16}", request_id)
            seen.add(request_id)
    assert len(seen) == 20


EVERYWHERE = {
    "Server": "smart-imaging-sidecar",
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept, Accept-Encoding, Authorization, Origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


@pytest.mark.parametrize(
    "path", ["/fine", "/nowhere", "/%2e%2e/x", "/fine//", *(f"/failing/{what}" for what in RAISED)]
)
async def test_headers_on_every_answer(world: World, path: str) -> None:
    """Nothing is stored, sniffed, framed or referred, errors of any kind included."""
    async with world.client.get(world.url + path, allow_redirects=False) as answer:
        assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
        assert "X-Request-Id" in answer.headers


async def test_an_answer_may_be_cacheable(world: World) -> None:
    """Only the handler can say so; what is ours in all answers it cannot change."""
    async with world.client.get(world.url + "/cached") as answer:
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert answer.headers["Server"] == "smart-imaging-sidecar"
        assert answer.headers["Vary"] == "Accept, Accept-Encoding, Authorization, Origin"


@pytest.mark.parametrize("what", RAISED)
async def test_each_failure_is_an_answer_and_a_line_in_the_log(
    world: World, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer says what the client may know, the log why."""
    _, status, reason = RAISED[what]
    with caplog.at_level(logging.INFO, "sidecar.request"):
        async with world.client.get(f"{world.url}/failing/{what}") as answer:
            assert answer.status == status
            assert answer.content_type == "application/fhir+json"
            body = await answer.text()
            assert json.loads(body)["resourceType"] == "OperationOutcome"
            assert SECRET not in body + str(answer.headers)
            request_id = answer.headers["X-Request-Id"]
    line = line_of(caplog)
    assert (line["route"], line["method"], line["status"], line["reason"]) == (
        "failing",
        "GET",
        status,
        reason,
    )
    assert line["request_id"] == request_id
    assert world.requests("failing", "GET", str(status)) == 1


def line_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The extra fields of the one request's line."""
    (record,) = (record for record in caplog.records if record.getMessage() == "request")
    return vars(record)


async def test_the_line_of_a_request(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Constants and numbers: no path, no query, no address, no token."""
    with caplog.at_level(logging.INFO, "sidecar.request"):
        headers = {
            "Authorization": f"Bearer {SECRET}",
            "User-Agent": SECRET,
            "Cookie": f"a={SECRET}",
        }
        async with world.client.get(
            f"{world.url}/fine?patient={SECRET}", headers=headers
        ) as answer:
            await answer.read()
    line = line_of(caplog)
    assert (line["route"], line["method"], line["status"]) == ("fine", "GET", 200)
    assert 0.005 < line["durations"]["token"] <= line["seconds"] < 60
    assert "reason" not in line
    assert SECRET not in repr(line)
    assert "127.0.0.1" not in repr(line)


async def test_the_target_is_there_for_the_handler(world: World) -> None:
    async with world.client.get(world.url + "/fine?a=b") as answer:
        assert answer.status == 200
    assert world.targets == [Target(("fine",), "a=b")]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/fine/..%2f", 404),
        ("/%66ine", 404),
        ("/fine;x", 404),
        ("//fine", 404),
        ("/fine?a=b%23" + "x" * 8_000, 414),
    ],
)
async def test_an_unusual_spelling_does_not_reach_the_handler(
    world: World, path: str, status: int
) -> None:
    """Even where the router would take it for the route."""
    assert await raw_status(world, f"GET {path} HTTP/1.1") == status
    assert world.targets == []


async def raw_status(world: World, request_line: str, *headers: str) -> int:
    """The status that a request line gets, written as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(
        "\r\n".join([request_line, "Host: x", "Connection: close", *headers, "", ""]).encode(
            "latin-1"
        )
    )
    answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "line",
    ["OPTIONS * HTTP/1.1", "GET http://pacs.internal/fine HTTP/1.1", "CONNECT x:443 HTTP/1.1"],
)
async def test_what_is_no_path_is_refused(world: World, line: str) -> None:
    """Asterisk, absolute and authority form."""
    assert await raw_status(world, line) in (400, 404, 405)
    assert world.targets == []


async def test_labels_are_bounded(world: World) -> None:
    """Whatever clients invent: a handful of time series."""
    for number in range(30):
        async with world.client.get(f"{world.url}/nowhere-{number}/{SECRET}") as answer:
            assert answer.status == 404
        assert await raw_status(world, f"X{number} /fine HTTP/1.1") in (400, 405)
    for method in ("PUT", "PATCH", "TRACE", "PROPFIND"):
        assert await raw_status(world, f"{method} /fine HTTP/1.1") == 405
    async with world.client.delete(world.url + "/fine"):
        pass
    labels = world.labels()
    assert {method for _, method, _ in labels} <= {"GET", "other"}
    assert {route for route, _, _ in labels} <= {"fine", "unknown"}
    assert len(labels) <= 5
    assert world.requests("unknown", "GET", "404") == 30


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_methods_that_are_told_apart(world: World, method: str) -> None:
    async with world.client.request(method, world.url + "/fine") as answer:
        status = str(answer.status)
    assert {(one, two) for _, one, two in world.labels()} == {(method, status)}


async def test_a_client_that_leaves_is_499_and_cancels_the_handler(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing goes on for nobody."""
    with caplog.at_level(logging.INFO, "sidecar.request"):
        asking = asyncio.ensure_future(world.client.get(world.url + "/slow"))
        async with asyncio.timeout(WAIT_SECONDS):
            await world.begun.wait()
            asking.cancel()
            await world.left.wait()
        await wait_until_async("the count", lambda: world.requests("slow", "GET", "499"))
    assert line_of(caplog)["status"] == 499
    assert "internal error" not in caplog.text


async def test_a_fault_is_logged_with_its_request_and_without_its_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is there for the formatter, which writes places only."""
    async with world.client.get(world.url + "/failing/fault") as answer:
        request_id = answer.headers["X-Request-Id"]
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    assert vars(record)["request_id"] == request_id
    assert SECRET not in record.getMessage()

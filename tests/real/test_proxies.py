"""Two apps behind a real proxy that gives both the same connection to the sidecar (CWE-444)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sidecar.server.listener import listen
from sidecar.web import connection
from sidecar.web.connection_limit import RETRY_AFTER_SECONDS, ConnectionLimit
from tests.attacks.raw import BEARER, RawAnswer, answers, request, send
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import HEADERS, PUBLIC_URL, sidecar_between
from tests.real.proxies import haproxy, nginx
from tests.web.records import events, to

SEARCH = f"/fhir/ImagingStudy?patient={PATIENT}"
FORM = "Content-Type: application/x-www-form-urlencoded"
Proxy = Callable[[int], AbstractContextManager[int]]
PROXIES = [
    pytest.param(haproxy, id="haproxy", marks=pytest.mark.haproxy),
    pytest.param(nginx, id="nginx", marks=pytest.mark.nginx),
]


@pytest.fixture(params=PROXIES)
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of a proxy, with a sidecar behind it."""
    async for port in _behind(request.param):
        yield port


async def _behind(proxy: Proxy) -> AsyncIterator[int]:
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(GOOD["chunked"])) as (url, _):
        with proxy(int(url.rpartition(":")[2])) as port:
            yield port


def chunked(target: str, *, method: str, trailer: str) -> bytes:
    """A request of the first app: its body in chunks, its token as header field, ``trailer`` behind
    the body.
    """
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: sidecar.example.org",
        BEARER,
        FORM,
        "Transfer-Encoding: chunked",
    ]
    body = f"patient={PATIENT}"
    return "\r\n".join(
        [*head, "Connection: close", "", f"{len(body):x}", body, "0", trailer, "", ""]
    ).encode()


async def asked(port: int, data: bytes) -> RawAnswer:
    """The one answer on a connection of an app's own."""
    (answer,) = answers(await send(port, data))
    return answer


async def attacked(port: int, method: str) -> tuple[list[int], list[int]]:
    """The statuses of both apps' answers: the second one asks for a patient's list, and has no
    token at all.
    """
    target = "/fhir/ImagingStudy/_search" if method == "POST" else SEARCH
    first, second = [], []
    for _ in range(5):
        first.append((await asked(port, chunked(target, method=method, trailer=BEARER))).status)
        second.append((await asked(port, request(SEARCH, token=False))).status)
    return first, second


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_app_is_answered_by_another_ones_token(proxy: int, method: str) -> None:
    first, second = await attacked(proxy, method)
    assert set(first) == ({200} if method == "POST" else {400})
    assert set(second) == {401}


@pytest.mark.haproxy
async def test_haproxy_passes_trailers_on_and_shares_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above can fail: without our rules the second app gets the list of the first one's
    patient.
    """
    monkeypatch.setattr(connection, "is_last", lambda message: False)
    monkeypatch.setattr(connection, "is_refused", lambda method, version, headers: False)
    async for port in _behind(haproxy):
        _, second = await attacked(port, "POST")
        assert 200 in second


@pytest.mark.parametrize("proxied", PROXIES)
async def test_the_refusal_of_a_connection_reaches_the_app(proxied: Proxy) -> None:
    """It is written before a request has come,
    which a proxy must not take for a fault of its own.
    """
    begun = asyncio.Event()

    async def endless(request: web.Request) -> web.Response:
        begun.set()
        return await asyncio.Future()

    app = web.Application()
    app.router.add_get("/endless", endless)
    async with listen(app, "127.0.0.1", 0, limit=ConnectionLimit(1)) as upstream:
        _, busy = await asyncio.open_connection("127.0.0.1", upstream)
        busy.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        with proxied(upstream) as port:
            for _ in range(20):
                answer = await asked(port, request(SEARCH))
                assert (answer.status, answer.header("retry-after")) == (
                    503,
                    str(RETRY_AFTER_SECONDS),
                )
                assert b"too many connections" in answer.body
        busy.close()


async def test_plain_requests_are_served(proxy: int) -> None:
    form = request(
        "/fhir/ImagingStudy/_search", FORM, method="POST", body=f"patient={PATIENT}".encode()
    )
    for data in (request(SEARCH), form, request(SEARCH)):
        assert (await asked(proxy, data)).status == 200


@pytest.mark.parametrize("proxied", PROXIES)
async def test_the_audit_trail_names_the_client_behind_the_proxy(
    proxied: Proxy, tmp_path: Path
) -> None:
    """The lines for it are those of docs/operations.md."""
    file = tmp_path / "audit.jsonl"
    trusted = {"forwarded_allow_ips": ["127.0.0.1"], "public_url": PUBLIC_URL}
    async with sidecar_between(
        ScriptedEhr(), ScriptedPacs(GOOD["chunked"]), audit=to(file), server=trusted
    ) as (url, _):
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
        with proxied(int(url.rpartition(":")[2])) as port:
            async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
                for name in ("X-Forwarded-For", "Forwarded"):
                    header = {name: "for=6.6.6.6" if name == "Forwarded" else "6.6.6.6"}
                    target = f"http://127.0.0.1:{port}{SEARCH}"
                    async with session.get(target, headers=header) as response:
                        assert response.status == 200
    told = [event["agent"][0]["network"]["address"] for event in events(file)]
    assert told == ["127.0.0.9"] * 2

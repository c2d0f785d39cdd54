"""The end of the process: transfers go on for ``drain_seconds``; what breaks off says why in
metrics and log.
"""

import asyncio
import contextlib
import logging
import socket
import time
from typing import Self

import aiohttp
import pytest
from aiohttp import web

from sidecar.bootstrap.build import build
from sidecar.server.listener import _ARRIVING_SECONDS, Listener, listen
from sidecar.server.sockets import listen_on
from sidecar.settings.adapter import ADAPTER
from tests.authorization.limited import Slow
from tests.event_loops import Run
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import BROKEN, PATH
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import WAIT_SECONDS, wait_until_async

KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("seconds", [0.5, 1.0])
async def test_a_transfer_that_goes_on_is_ended_after_drain_seconds(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, not twice: orchestrators kill what takes longer than it said."""

    async def took() -> float:
        caplog.clear()
        found = await _end_of_a_transfer(seconds)
        assert found > seconds * 0.8
        (line,) = [vars(record) for record in caplog.records if record.getMessage() == "request"]
        assert (line["status"], line["reason"]) == (503, "draining")
        return found

    with caplog.at_level(logging.INFO):
        # A busy machine makes it longer at times; if it took twice as long, it would each time.
        await wait_until_async("an end in time", took, lambda found: found < seconds * 1.6)


async def _end_of_a_transfer(seconds: float) -> float:
    """Return the seconds that a listener's end takes during a transfer; ``seconds``: its limit."""
    slow, ehr = Slow(asyncio.Event()), ScriptedEhr()
    async with listen(ehr.app(), "127.0.0.1", 0) as ehr_port, ScriptedPacs(slow).serve() as root:
        document = {
            "ehr": {"fhir_url": f"http://127.0.0.1:{ehr_port}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": root},
        }
        async with (
            build(ADAPTER.validate_python(document)) as sidecar,
            aiohttp.ClientSession() as client,
        ):
            async with listen(sidecar.public, "127.0.0.1", 0, drain_seconds=seconds) as port:
                running = await client.get(f"http://127.0.0.1:{port}{PATH}", headers=HEADERS)
                assert running.status == 200
                sidecar.readiness.draining = True
                began = time.monotonic()
            took = time.monotonic() - began
            with pytest.raises(aiohttp.ClientError):
                await running.read()
    slow.done.set()
    return took


async def test_a_request_that_is_on_its_way_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection was accepted just before the end: it is not an idle one."""
    monkeypatch.setattr("sidecar.server.listener._FIRST_REQUEST_SECONDS", 60)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    listener = Listener(app, listen_on("127.0.0.1", 0, "listener"))
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await wait_until_async(
        "the connection", lambda: listener._runner.server and listener._runner.server.connections
    )
    ending = asyncio.create_task(listener.stop(600))
    await wait_until_async("the end's beginning", lambda: not listener._runner.sites)
    await asyncio.sleep(_ARRIVING_SECONDS * 2)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), WAIT_SECONDS)).endswith(b"here")
    await ending
    writer.close()


class Kept:
    """A listener, and clients' connections to it that are kept after an answer."""

    def __init__(self, count: int = 1) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text="here")

        app = web.Application()
        app.router.add_get("/", answer)
        self.listener = Listener(app, listen_on("127.0.0.1", 0, "listener"))
        self.clients = [socket.socket() for _ in range(count)]

    async def __aenter__(self) -> Self:
        await self.listener.start()
        loop = asyncio.get_running_loop()
        for client in self.clients:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", self.listener.port))
            client.send(KEPT)
            assert b"Connection: close" not in await loop.sock_recv(client, 1_000)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for client in self.clients:
            client.close()


async def last_answer(client: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    loop, answer = asyncio.get_running_loop(), b""
    while part := await asyncio.wait_for(loop.sock_recv(client, 1_000), WAIT_SECONDS):
        answer += part
    return answer


async def test_an_idle_connection_has_one_more_request() -> None:
    """A replaced worker closes none that its client uses (RFC 9112 9.5)."""
    async with Kept() as kept:
        (client,) = kept.clients
        ending = asyncio.create_task(kept.listener.stop(600, idle_seconds=60))
        await asyncio.sleep(_ARRIVING_SECONDS * 3)
        client.send(KEPT)
        answered = await last_answer(client)
        assert answered.endswith(b"here")
        assert b"\r\nConnection: close\r\n" in answered
        await asyncio.wait_for(ending, WAIT_SECONDS)


async def test_a_connection_that_stays_idle_is_closed() -> None:
    async with Kept() as kept:
        ending = asyncio.create_task(kept.listener.stop(600, idle_seconds=0.5))
        assert await last_answer(kept.clients[0]) == b""
        await asyncio.wait_for(ending, WAIT_SECONDS)


def test_no_request_on_an_open_connection_is_lost(run: Run) -> None:
    """One after the other is sent while the loop is held, at whichever step of the end."""
    sent: list[socket.socket] = []

    async def scenario() -> None:
        async with Kept(100) as kept:
            unsent, loop = list(kept.clients), asyncio.get_running_loop()
            ending = asyncio.create_task(kept.listener.stop(600))

            def send_next() -> None:
                client = unsent.pop()
                with contextlib.suppress(BlockingIOError):  # Nothing to read: it is open.
                    assert client.recv(1) == b""
                    return
                sent.append(client)
                client.send(KEPT)
                time.sleep(0.01)
                if unsent and not ending.done():
                    loop.call_soon(send_next)

            loop.call_soon(send_next)
            await asyncio.wait_for(ending, WAIT_SECONDS)
            for client in sent:
                assert (await last_answer(client)).endswith(b"here")

    run(scenario())
    assert sent


@pytest.mark.parametrize("waits", [True, False])
async def test_the_last_answer_of_a_connection_says_so(
    monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    """Else the client sends its next request on a connection that closes, and it is lost."""
    monkeypatch.setattr("sidecar.server.listener._ARRIVING_SECONDS", 3)
    begun, ready = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        begun.set()
        await ready.wait()
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    listener = Listener(app, listen_on("127.0.0.1", 0, "listener"))
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    if waits:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
    else:
        await wait_until_async(
            "the connection",
            lambda: listener._runner.server and listener._runner.server.connections,
        )
    ending = asyncio.create_task(listener.stop(60))
    await wait_until_async("the end's beginning", lambda: not listener._runner.sites)
    if not waits:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
    ready.set()
    answered = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    assert answered.endswith(b"here")
    assert b"\r\nConnection: close\r\n" in answered
    await ending
    writer.close()


async def test_an_answer_that_the_pacs_broke_off_is_no_client_that_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        async with (
            sidecar_between(ScriptedEhr(), ScriptedPacs(BROKEN["until-close-no-last-part"])) as (
                url,
                sidecar,
            ),
            aiohttp.ClientSession(headers=HEADERS) as client,
        ):
            with pytest.raises(aiohttp.ClientError):
                async with client.get(url + PATH) as response:
                    await response.read()
            labels = {"route": "wado-rs", "method": "GET", "status": "502"}
            count = await wait_until_async(
                "the count",
                lambda: sidecar.metrics.registry.get_sample_value(
                    "smart_imaging_requests_total", labels
                ),
            )
            assert count == 1
    (line,) = [record for record in caplog.records if record.getMessage() == "request"]
    assert line.levelno == logging.WARNING
    assert (vars(line)["status"], vars(line)["reason"]) == (502, "pacs_truncated")


async def test_an_ehr_that_goes_away_is_seen_by_readiness() -> None:
    """Also when its configuration has been known for long."""
    ehr = ScriptedEhr()
    pacs = ScriptedPacs(BROKEN["reset"])
    async with listen(ehr.app(), "127.0.0.1", 0) as ehr_port, pacs.serve() as root:
        document = {
            "ehr": {"fhir_url": f"http://127.0.0.1:{ehr_port}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": root},
        }
        async with build(ADAPTER.validate_python(document)) as sidecar:
            assert await sidecar.readiness.problems() == {}
            ehr.answer, ehr.status = "oops", 500
            ehr.configuration_status = 500
            sidecar.readiness.forget()
            assert await sidecar.readiness.problems() == {
                "ehr": "discovery_unexpected_status (status 500)"
            }
            ehr.configuration_status = 200
            sidecar.readiness.forget()
            assert await sidecar.readiness.problems() == {}


async def test_a_transfer_that_is_ended_is_no_whole_answer_for_an_old_client() -> None:
    """Of HTTP/1.0 a close is the regular end: its connection is reset (SIA-43)."""
    slow = Slow(asyncio.Event())
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(slow)) as (_, sidecar):
        listener = Listener(sidecar.public, listen_on("127.0.0.1", 0, "listener"))
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(f"GET {PATH} HTTP/1.0\r\n{head}\r\n".encode())
        assert b" 200 " in await reader.readline()
        ending = asyncio.create_task(listener.stop(0.5))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        await ending
        writer.close()
        slow.done.set()

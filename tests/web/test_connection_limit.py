"""Clients that hold hundreds of connections: idle ones make room, a further one gets a clear 503,
/healthz answers.
"""

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web

from sidecar.server.listener import Listener
from sidecar.server.open_files import connections_allowed
from sidecar.server.sockets import listen_on
from sidecar.web.connection_limit import (
    _MOST_LINGERING,
    ADMIN_LIMIT,
    RETRY_AFTER_SECONDS,
    ConnectionLimit,
    OpenConnections,
)
from tests.attacks.raw import CONNECTION_SECONDS, RawAnswer, answers
from tests.event_loops import Run
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until_async

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LIMIT = 150


@dataclass
class Served:
    """A listener, and how many connections it refused, or closed for others."""

    listener: Listener
    refused: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0

    @property
    def connections(self) -> int:
        """How many it has open."""
        return len(self.listener._runner.server.open_connections)  # type: ignore[union-attr]

    @property
    def lingering(self) -> int:
        """How many refused ones it still has."""
        return len(self.listener._runner.server._lingering)  # type: ignore[union-attr]

    async def connect(self, count: int) -> list[Connection]:
        """Connect so many clients, which send nothing."""
        connect = asyncio.open_connection
        return [await connect("127.0.0.1", self.listener.port) for _ in range(count)]

    async def occupy(self, count: int) -> list[Connection]:
        """Connect so many clients, each with a request that is answered when it ``may_end``."""
        begun = self.running
        found = await self.connect(count)
        for _, writer in found:
            writer.write(LAST.replace(b"healthz", b"slow"))
        await wait_until_async(
            "they are being answered", lambda: self.running, (begun + count).__eq__
        )
        return found


def slow_app(served: "list[Served]") -> web.Application:
    """/healthz at once, /slow when it may end."""

    async def slow(request: web.Request) -> web.Response:
        served[0].running += 1
        await served[0].may_end.wait()
        return web.Response()

    async def alive(request: web.Request) -> web.Response:
        return web.Response(text="alive")

    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/healthz", alive)
    return app


@contextlib.asynccontextmanager
async def served(
    limit: int, beyond: Any, app: web.Application | None = None
) -> AsyncIterator[Served]:
    found: list[Served] = []
    most = ConnectionLimit(
        limit,
        beyond,
        lambda: found[0].refused.append(1),
        lambda: found[0].closed.append(1),
    )
    listener = Listener(app or slow_app(found), listen_on("127.0.0.1", 0, "listener"), limit=most)
    found.append(Served(listener))
    await listener.start()
    try:
        yield found[0]
    finally:
        found[0].may_end.set()
        await listener.stop(1)


async def asked(connection: Connection, data: bytes = b"") -> RawAnswer:
    """All that comes on a connection until the server closes it: one answer."""
    reader, writer = connection
    writer.write(data)
    async with asyncio.timeout(CONNECTION_SECONDS):
        (answer,) = answers(await reader.read())
    return answer


async def sent(port: int) -> Connection:
    """A client whose request is there before the server has accepted its connection."""
    own = socket.create_connection(("127.0.0.1", port), timeout=CONNECTION_SECONDS)
    own.sendall(LAST)
    return await asyncio.open_connection(sock=own)


def check_refusal(answer: RawAnswer) -> None:
    assert answer.status == 503
    assert answer.header("retry-after") == str(RETRY_AFTER_SECONDS)
    assert answer.header("connection") == "close"
    assert json.loads(answer.body)["issue"][0]["code"] == "transient"


def close(connections: list[Connection]) -> None:
    for _, writer in connections:
        writer.close()


def test_a_connection_beyond_the_limit_is_refused_at_once(run: Run) -> None:
    """Where none is idle. Hundreds wait for nothing; those that have been accepted go on, and a
    free place is given.
    """

    async def scenario() -> None:
        async with served(LIMIT, "refuse") as server:
            busy = await server.occupy(LIMIT)
            # Half of them send nothing, the others their request before they are accepted.
            further = await server.connect(LIMIT // 2) + [
                await sent(server.listener.port) for _ in range(LIMIT // 2)
            ]
            for one in further:
                check_refusal(await asked(one))
            assert len(server.refused) == LIMIT
            assert server.connections == LIMIT
            close(busy[:1])
            await wait_until_async("one has left", lambda: server.connections, (LIMIT - 1).__eq__)
            (another,) = await server.connect(1)
            assert (await asked(another, LAST)).status == 200
            server.may_end.set()
            assert (await asked(busy[-1])).status == 200
            assert server.closed == []
            close([*busy, *further, another])

    run(scenario())


@pytest.mark.parametrize(
    "head", [b"", b"GET /healthz HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_idle_connections_keep_nobody_out(run: Run, head: bytes) -> None:
    """They sent nothing, half a request's head, or have their answer and stay: for each further one
    the oldest goes.
    """

    async def scenario() -> None:
        async with served(LIMIT, "refuse") as server:
            (busy,) = await server.occupy(1)
            idle = await server.connect(LIMIT - 1)
            for reader, writer in idle:
                writer.write(head)
                if head.endswith(b"\r\n\r\n"):
                    async with asyncio.timeout(CONNECTION_SECONDS):
                        await reader.readuntil(b"alive")
            await wait_until_async("all are accepted", lambda: server.connections, LIMIT.__eq__)
            further = [await sent(server.listener.port) for _ in range(10)]
            for one in further:
                assert (await asked(one)).status == 200
            assert server.refused == []
            # Some had the place of one of the ten that had left.
            assert 1 <= len(server.closed) <= 10
            async with asyncio.timeout(CONNECTION_SECONDS):
                with contextlib.suppress(ConnectionError):
                    assert await idle[0][0].read() == b""
            server.may_end.set()
            assert (await asked(busy)).status == 200
            close([busy, *idle, *further])

    run(scenario())


def test_the_connection_that_is_idle_longest_goes_first(run: Run) -> None:
    """Not the oldest: a proxy in front keeps connections, and uses them again."""

    async def scenario() -> None:
        async with served(3, "refuse") as server:
            kept, silent, last = await server.connect(3)
            await wait_until_async("all are accepted", lambda: server.connections, (3).__eq__)
            kept[1].write(LAST.replace(b"Connection: close\r\n", b""))
            async with asyncio.timeout(CONNECTION_SECONDS):
                await kept[0].readuntil(b"alive")
            further = []
            for one in (silent, last):
                further += await server.occupy(1)
                with contextlib.suppress(ConnectionError):
                    assert await one[0].read() == b""
            assert (await asked(kept, LAST)).status == 200
            close([kept, silent, last, *further])

    run(scenario())


class _Idle:
    """An idle connection with so many bytes that its client has not taken yet."""

    def __init__(self, unsent: int) -> None:
        self.transport: Any = self
        self.unsent = unsent
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> None:
        return None

    def abort(self) -> None:
        self.closed = True


def test_a_slow_client_gets_the_rest_of_its_answer() -> None:
    """Its request is answered, and the end of the answer waits for it: others that are idle go
    before.
    """
    connections = OpenConnections()
    idle: list[Any] = [_Idle(60_000), _Idle(0), _Idle(1), _Idle(0)]
    for one in idle:
        connections.add(one)
    closed = []
    while connections.close_idle():
        closed += [number for number, one in enumerate(idle) if one.closed and number not in closed]
    assert closed == [1, 3, 0, 2]


def test_refused_connections_do_not_stay(run: Run) -> None:
    """A client that never reads and never closes has a descriptor of ours for a moment, and few
    have one at once.
    """

    async def scenario() -> None:
        async with served(1, "refuse") as server:
            busy = await server.occupy(1)
            further, most = [], 0
            for _ in range(2 * _MOST_LINGERING):
                further += await server.connect(1)
                most = max(most, server.lingering)
            await wait_until_async(
                "all are refused", lambda: len(server.refused), (2 * _MOST_LINGERING).__eq__
            )
            assert 0 < max(most, server.lingering) <= _MOST_LINGERING
            await wait_until_async("all are closed", lambda: server.lingering, (0).__eq__)
            for one in further:
                check_refusal(await asked(one))
            close([*busy, *further])

    run(scenario())


def test_a_listener_ends_with_refused_connections(run: Run) -> None:
    async def scenario() -> None:
        async with served(1, "refuse") as server:
            busy = await server.occupy(1)
            further = await server.connect(20)
            await wait_until_async("they are refused", lambda: len(server.refused), (20).__eq__)
        assert server.listener._runner.server is None
        close([*busy, *further])

    run(scenario())


def test_health_is_answered_through_hundreds_of_idle_connections(run: Run) -> None:
    """On the listener of /healthz itself: each further connection takes the place of the one that
    is idle longest.
    """

    async def scenario() -> None:
        async with served(ADMIN_LIMIT.most, ADMIN_LIMIT.beyond) as server:
            idle = []
            for _ in range(3):
                idle += await server.connect(ADMIN_LIMIT.most)
                (probe,) = await server.connect(1)
                assert (await asked(probe, LAST)).status == 200
                assert server.connections <= ADMIN_LIMIT.most
                close([probe])
            with contextlib.suppress(ConnectionError):
                assert await idle[0][0].read() == b""
            assert (await asked(idle[-1], LAST)).status == 200
            assert server.refused == []
            close(idle)

    run(scenario())


def test_an_answer_under_way_is_not_ended_for_another_connection(run: Run) -> None:
    """As long as an idle connection is there. Without one the oldest goes: /healthz is answered in
    any case.
    """

    async def scenario() -> None:
        async with served(2, "close_oldest") as server:
            (first,) = await server.occupy(1)
            (second,) = await server.connect(1)
            await wait_until_async("it is accepted", lambda: server.connections, (2).__eq__)
            (probe,) = await server.connect(1)
            assert (await asked(probe, LAST)).status == 200
            with contextlib.suppress(ConnectionError):
                assert await second[0].read() == b""
            (third,) = await server.occupy(1)
            (last,) = await server.connect(1)
            assert (await asked(last, LAST)).status == 200
            with contextlib.suppress(ConnectionError):
                assert await first[0].read() == b""
            server.may_end.set()
            assert (await asked(third)).status == 200
            close([first, second, third, probe, last])

    run(scenario())


@pytest.mark.parametrize(
    ("files", "configured", "allowed"),
    [(1_024, 2_000, 512), (4_096, 2_000, 2_000), (resource.RLIM_INFINITY, 9, 9)],
)
def test_half_of_the_open_files_is_for_others(
    monkeypatch: pytest.MonkeyPatch, files: int, configured: int, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (files, files))
    assert connections_allowed(configured) == allowed


def test_the_process_answers_probes_while_both_listeners_are_full(tmp_path: Path) -> None:
    """As it is deployed: limits.client_connections, and more idle connections than that on each of
    its ports.
    """
    configuration = {
        "limits": {"client_connections": 100},
        "ehr": {"fhir_url": "http://127.0.0.1:9/fhir"},
        "tokens": {"client": {"method": "none"}},
        "pacs": {"url": "http://127.0.0.1:9/dicom-web"},
    }

    async def scenario(process: SidecarProcess) -> None:
        connect = asyncio.open_connection
        idle = [
            await connect("127.0.0.1", port)
            for port in [process.port] * 300 + [process.admin_port] * 300
        ]
        further = await connect("127.0.0.1", process.port)
        assert (await asked(further, LAST)).status == 404
        get = requests.get
        assert (
            await asyncio.to_thread(get, process.admin + "/healthz", timeout=60)
        ).status_code == 200
        metrics = (await asyncio.to_thread(get, process.admin + "/metrics", timeout=60)).text
        assert "smart_imaging_connections_refused_total 0.0" in metrics
        assert "smart_imaging_idle_connections_closed_total 201.0" in metrics
        close([*idle, further])
        await asyncio.gather(*(writer.wait_closed() for _, writer in idle), return_exceptions=True)

    with SidecarProcess(tmp_path, configuration) as process:
        asyncio.run(scenario(process))

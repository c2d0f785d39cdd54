"""The end of the process waits for what the kernel still has to send: with a pod's network it is
lost (SIA-43).
"""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop
from aiohttp import web

from sidecar.server.listener import Listener
from sidecar.server.sockets import listen_on
from sidecar.web.send_buffers import abort_connection, unsent_bytes
from tests.waiting import WAIT_SECONDS, wait_until_async

MANY = 2_000_000
"""More than a client takes that does not read, fewer than the kernel takes from us."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as found:
        yield found


def application(seen: list[str]) -> web.Application:
    async def many(request: web.Request) -> web.Response:
        seen.append("begun")
        return web.Response(body=b"x" * MANY)

    async def reset(request: web.Request) -> web.StreamResponse:
        seen.append("begun")
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * MANY)
        await asyncio.sleep(0.3)
        abort_connection(request)
        raise ConnectionResetError

    async def slow(request: web.Request) -> web.Response:
        seen.append("begun")
        await asyncio.sleep(0.5)
        return web.Response(body=b"x" * MANY)

    async def endless(request: web.Request) -> web.StreamResponse:
        """All that is taken, and the end: what is left is in the transport's own buffer."""
        seen.append("begun")
        response = web.StreamResponse()
        response.force_close()
        await response.prepare(request)
        while request.transport is not None and not request.transport.get_write_buffer_size():
            await response.write(b"x" * 16_384)
        await response.write(b"x" * 16_384)
        return response

    app = web.Application()
    app.router.add_get("/endless", endless)
    app.router.add_get("/many", many)
    app.router.add_get("/reset", reset)
    app.router.add_get("/slow", slow)
    return app


@contextlib.asynccontextmanager
async def client(
    path: str, seen: list[str], version: str = "1.1", header: str = ""
) -> AsyncIterator[tuple[Listener, socket.socket]]:
    """A listener, and a client that has asked it and reads nothing yet."""
    listener = Listener(application(seen), listen_on("127.0.0.1", 0, "listener"))
    await listener.start()
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", listener.port))
        await loop.sock_sendall(
            own, f"GET {path} HTTP/{version}\r\nHost: a\r\n{header}\r\n".encode()
        )
        await wait_until_async("the request", lambda: seen)
        yield listener, own


async def read_all(own: socket.socket, *, pause: float = 0.0) -> int:
    """How many bytes come until the end. Raises ``ConnectionResetError``."""
    loop, count = asyncio.get_running_loop(), 0
    while data := await loop.sock_recv(own, 65_536):
        count += len(data)
        await asyncio.sleep(pause)
    return count


@pytest.mark.parametrize("path", ["/many", "/slow"])
def test_a_slow_client_gets_its_last_bytes_before_the_end(
    runner: asyncio.Runner, path: str
) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with client(path, seen) as (listener, own):
            if path == "/many":
                await asyncio.sleep(0.3)  # All of it is written: no handler is there any more.
            ending = asyncio.create_task(listener.stop(600))
            await asyncio.sleep(1)
            assert not ending.done()
            count = await read_all(own, pause=0.001)  # To the end, of which it hears at once.
            assert count > MANY
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


@pytest.mark.parametrize(("version", "header"), [("1.0", ""), ("1.1", "Connection: close\r\n")])
def test_so_does_one_whose_connection_was_closed_before(
    runner: asyncio.Runner, version: str, header: str
) -> None:
    """HTTP/1.0, as nginx speaks it upstream if it is told nothing else."""

    async def scenario() -> None:
        async with client("/many", [], version, header) as (listener, own):
            await asyncio.sleep(0.3)
            ending = asyncio.create_task(listener.stop(600))
            await asyncio.sleep(1)
            assert not ending.done()
            assert await read_all(own) > MANY
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


def test_so_does_one_that_says_that_it_sends_nothing_more(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with client("/many", []) as (listener, own):
            await asyncio.sleep(0.3)
            own.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.2)
            ending = asyncio.create_task(listener.stop(600))
            await asyncio.sleep(0.5)
            assert not ending.done()
            assert await read_all(own) > MANY
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


def test_one_that_takes_nothing_is_not_kept_for_ever(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may fill the places of others, nor our descriptors, by reading nothing."""
    monkeypatch.setattr("sidecar.web.send_buffers.KEPT_SECONDS", 0.2)

    async def scenario() -> None:
        async with client("/many", [], "1.0") as (listener, own):
            await asyncio.sleep(0.2)
            own.shutdown(socket.SHUT_WR)
            await asyncio.sleep(1)
            await asyncio.wait_for(listener.stop(600), WAIT_SECONDS)

    runner.run(scenario())


def test_a_connection_that_ends_ends_at_once(runner: asyncio.Runner) -> None:
    """Nobody waits for the end of an answer because of that."""

    async def scenario() -> None:
        async with client("/many", [], "1.0") as (listener, own):
            assert await asyncio.wait_for(read_all(own), WAIT_SECONDS) > MANY
            await asyncio.wait_for(listener.stop(600), WAIT_SECONDS)

    runner.run(scenario())


def test_what_is_not_sent_in_time_is_reset(runner: asyncio.Runner) -> None:
    """Else an HTTP/1.0 client took what it has for whole, and one behind a pod's network waited for
    ever.
    """

    async def scenario() -> None:
        async with client("/endless", [], "1.0") as (listener, own):
            await asyncio.sleep(0.3)
            await listener.stop(0.5)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(read_all(own), WAIT_SECONDS)

    runner.run(scenario())


def test_without_a_descriptor_a_reset_is_one_all_the_same(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("os.dup", none)
    test_one_that_is_reset_is_reset_at_once(runner)


def test_the_end_at_once_is_at_once(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with client("/endless", seen) as (listener, _):
            await asyncio.sleep(0.2)
            await asyncio.wait_for(listener.stop(0), WAIT_SECONDS)

    runner.run(scenario())


def test_but_not_longer_than_it_may_take(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        async with client("/many", seen) as (listener, own):
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await asyncio.wait_for(listener.stop(1), WAIT_SECONDS)
            assert time.monotonic() - began > 0.9
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(read_all(own), WAIT_SECONDS)

    runner.run(scenario())


def test_one_that_is_reset_is_reset_at_once(runner: asyncio.Runner) -> None:
    """Nothing of the end holds back what says that an answer is not whole."""

    async def scenario() -> None:
        async with client("/reset", []) as (listener, own):
            await asyncio.sleep(0.1)
            ending = asyncio.create_task(listener.stop(600))
            await asyncio.sleep(0.6)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(read_all(own), WAIT_SECONDS)
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


def test_idle_connections_hold_nothing_up(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with client("/many", []) as (listener, own):
            loop, count = asyncio.get_running_loop(), 0
            while count < MANY:
                count += len(await loop.sock_recv(own, 65_536))
            ending = asyncio.create_task(listener.stop(600))
            assert await asyncio.wait_for(read_all(own), WAIT_SECONDS) < 1_000
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


def test_a_client_that_is_gone_holds_nothing_up(runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        async with client("/many", []) as (listener, own):
            await asyncio.sleep(0.3)
            ending = asyncio.create_task(listener.stop(600))
            await asyncio.sleep(0.3)
            own.close()
            await asyncio.wait_for(ending, WAIT_SECONDS)

    runner.run(scenario())


def test_what_the_system_does_not_say_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> bytes:
        raise OSError

    with socket.socket() as own:
        assert unsent_bytes(own) == 0
        monkeypatch.setattr("sidecar.web.send_buffers.fcntl.ioctl", fails)
        assert unsent_bytes(own) == 0

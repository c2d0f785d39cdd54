"""What is sent is what was given, in that order, however it is written (SIA-40)."""

import asyncio
import os
from collections.abc import Callable

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.web.pieces import write_pieces
from tests.waiting import wait_until_async

PIECES: list[list[bytes | memoryview]] = [
    [os.urandom(70_000), memoryview(os.urandom(200_000))[5:], b"x"],
    [b"y" * 10],
    [os.urandom(65_536)],
    [memoryview(b"abc")[1:], os.urandom(300_000)],
]
WHOLE = b"".join(b"".join(pieces) for pieces in PIECES)


async def fetch(*, length: int | None, version: aiohttp.HttpVersion) -> tuple[bytes, int]:
    """What a client gets, and what the server counted."""
    counted = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal counted
        response = web.StreamResponse()
        response.content_length = length
        if length is None and request.version < aiohttp.HttpVersion11:
            response.force_close()
        writer = await response.prepare(request)
        assert writer is not None
        for pieces in PIECES:
            counted += await write_pieces(writer, pieces, uncopied=counted > 0)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        session = aiohttp.ClientSession(version=version)
        async with session, session.get(server.make_url("/")) as response:
            return await response.read(), counted


@pytest.mark.parametrize(
    "loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)
@pytest.mark.parametrize("length", [None, len(WHOLE)], ids=["chunked", "content-length"])
@pytest.mark.parametrize(
    "version", [aiohttp.HttpVersion11, aiohttp.HttpVersion10], ids=["1.1", "1.0"]
)
def test_bytes_arrive_as_they_were_given(
    loop: Callable[[], asyncio.AbstractEventLoop], length: int | None, version: aiohttp.HttpVersion
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(fetch(length=length, version=version)) == (WHOLE, len(WHOLE))


@pytest.mark.parametrize(
    "loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)
@pytest.mark.parametrize("more", [1, 250_000, 300_002])
def test_no_more_leaves_than_was_said(
    loop: Callable[[], asyncio.AbstractEventLoop], more: int
) -> None:
    """What is more would be the beginning of the next answer on the connection."""
    length = len(WHOLE) - more
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(fetch(length=length, version=aiohttp.HttpVersion11))[0] == WHOLE[:length]


@pytest.mark.parametrize(
    "loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)
def test_a_slow_client_is_waited_for_and_one_that_left_is_noticed(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Memory is bounded by what the sockets hold, not by what the archive has."""
    sent, failures = [0], list[BaseException]()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        writer = await response.prepare(request)
        assert writer is not None
        try:
            for _ in range(2_000):
                sent[0] += await write_pieces(writer, [bytes(2**20)], uncopied=sent[0] > 0)
        except (ConnectionError, asyncio.CancelledError) as failure:
            failures.append(failure)
            raise
        return response

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", handle)
        async with TestServer(app) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**16)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.read(1000)
            await asyncio.sleep(0.5)
            assert sent[0] < 64 * 2**20
            writer.transport.abort()
            await wait_until_async("a failure", lambda: failures)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    assert len(failures) == 1

"""A long body read from the connection's socket: the same bytes and failures, nothing left behind
(SIA-40, 43).
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import aiohttp
import pytest

from sidecar.bootstrap.context import open_session
from sidecar.common.memory import HeapTrimmer
from sidecar.pacs import response as upstream_module
from sidecar.pacs.response import (
    LONG_BYTES,
    Upstream,
    take_over,
)
from tests.certificates import certificate, server_context
from tests.event_loops import Run
from tests.waiting import WAIT_SECONDS, wait_until_async

LONG = os.urandom(LONG_BYTES * 2 + 12_345)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: %d\r\n\r\n"
Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each body was taken over."""
    seen: list[bool] = []

    def spy(response: aiohttp.ClientResponse) -> Any:
        rest = take_over(response)
        seen.append(rest is not None)
        return rest

    monkeypatch.setattr(upstream_module, "take_over", spy)
    return seen


@asynccontextmanager
async def opened(
    write: Write,
    *,
    tls: tuple[Path, Path] | None = None,
    session: aiohttp.ClientSession | None = None,
) -> AsyncIterator[Upstream]:
    """The answer that ``write`` writes on a real connection, closed afterwards."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await write(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    context = None if tls is None else server_context(tls)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}/"
        async with open_session(tls[0] if tls else None, connections=2) as ours:
            upstream = Upstream(
                await (session or ours).get(url), idle_seconds=60, heap=HeapTrimmer()
            )
            try:
                yield upstream
            finally:
                upstream.close()


async def whole(upstream: Upstream) -> bytes:
    """Read to the end, which is told again and again."""
    found = []
    while pieces := await upstream.read():
        assert all(pieces)
        found += pieces
    assert await upstream.read() == []
    return b"".join(found)


def writing(*steps: bytes | float) -> Write:
    """Write bytes, wait seconds."""

    async def write(writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await asyncio.sleep(step)

    return write


HEAD_OF_LONG = HEAD % len(LONG)


@pytest.mark.parametrize(
    "steps",
    [
        (HEAD_OF_LONG + LONG,),
        (HEAD_OF_LONG, LONG),
        (HEAD_OF_LONG, 0.05, LONG),
        (HEAD_OF_LONG + LONG[:1], 0.05, LONG[1:]),
        (
            HEAD_OF_LONG[:-1],
            0.05,
            HEAD_OF_LONG[-1:] + LONG[:70_000],
            0.05,
            LONG[70_000:-1],
            0.05,
            LONG[-1:],
        ),
        (HEAD_OF_LONG, *(LONG[at : at + 200_000] for at in range(0, len(LONG), 200_000))),
    ],
    ids=["at once", "head first", "head, a pause", "one byte", "pauses", "in pieces"],
)
@pytest.mark.parametrize("begun", [True, False])
def test_it_is_the_same_however_it_comes(
    run: Run, taken: list[bool], steps: tuple[bytes | float, ...], *, begun: bool
) -> None:
    async def read() -> bytes:
        async with opened(writing(*steps)) as upstream:
            if begun:
                await upstream.begin()
                await asyncio.sleep(0.1)  # As a warmed retrieval waits for its client.
            return await whole(upstream)

    assert run(read()) == LONG
    assert taken.count(True) == 1


def test_what_aiohttp_still_held_back_is_not_left_behind(run: Run) -> None:
    """Reading its buffer may have it parse on, and fill the buffer again."""

    async def read() -> bytes:
        async with opened(writing(HEAD_OF_LONG, LONG[:5_000], 0.1, LONG[5_000:])) as upstream:
            response = upstream._response
            await wait_until_async(
                "5,000 bytes", lambda: response.content.total_bytes, lambda size: size >= 5_000
            )
            handed = [LONG[:1_000], LONG[1_000:5_000], b""]
            content = SimpleNamespace(
                total_bytes=5_000, is_eof=lambda: False, read_nowait=lambda: handed.pop(0)
            )
            fake: Any = SimpleNamespace(
                connection=response.connection,
                content=content,
                content_length=len(LONG),
                headers=response.headers,
            )
            came = take_over(fake)
            assert came is not None
            found, rest = came
            while piece := await rest.read():
                found += b"".join(piece)
            rest.close()
            return found

    assert run(read()) == LONG


def test_what_comes_behind_it_is_not_the_body(run: Run, taken: list[bool]) -> None:
    async def read() -> bytes:
        async with opened(
            writing(HEAD_OF_LONG + LONG + b"HTTP/1.1 200 OK\r\n\r\nsomebody else's")
        ) as upstream:
            return await whole(upstream)

    assert run(read()) == LONG
    assert True in taken


@pytest.mark.parametrize("missing", [1, LONG_BYTES // 2, LONG_BYTES])
@pytest.mark.parametrize("reset", [True, False])
def test_a_body_that_breaks_off_is_no_end(
    run: Run, taken: list[bool], missing: int, *, reset: bool
) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        await writing(HEAD_OF_LONG, LONG[:-missing], 0.1)(writer)
        if reset:
            writer.transport.abort()

    async def read() -> bytes:
        async with opened(write) as upstream:
            return await whole(upstream)

    with pytest.raises((aiohttp.ClientError, OSError)):
        run(read())
    assert True in taken


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (HEAD % (LONG_BYTES - 1), LONG[: LONG_BYTES - 1]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(LONG), LONG),
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", LONG),
    ],
    ids=["short", "chunked", "until it closes"],
)
def test_others_keep_to_the_usual_way(
    run: Run, taken: list[bool], head: bytes, body: bytes
) -> None:
    async def read() -> bytes:
        async with opened(writing(head + body)) as upstream:
            return await whole(upstream)

    assert run(read()) in (LONG, LONG[: LONG_BYTES - 1])
    assert True not in taken


def test_what_comes_by_tls_is_read_by_tls(run: Run, taken: list[bool], tmp_path: Path) -> None:
    files = certificate(tmp_path, "server")

    async def read() -> bytes:
        async with opened(writing(HEAD_OF_LONG + LONG), tls=files) as upstream:
            return await whole(upstream)

    assert run(read()) == LONG
    assert True not in taken


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_length_of_no_body_is_not_waited_for(run: Run, status: bytes) -> None:
    async def read() -> bytes:
        async with opened(writing((HEAD % 10**9).replace(b"200 OK", status), 2.0)) as upstream:
            return await asyncio.wait_for(whole(upstream), WAIT_SECONDS)

    assert run(read()) == b""


def test_without_a_descriptor_the_usual_way_goes_on(
    run: Run, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "fromfd", none_left)

    async def read() -> bytes:
        async with opened(writing(HEAD_OF_LONG + LONG)) as upstream:
            return await whole(upstream)

    assert run(read()) == LONG
    assert True not in taken


def test_whoever_leaves_while_it_is_silent_leaves_nothing_behind(
    run: Run, taken: list[bool]
) -> None:
    """The PACS sees the end at once, the descriptors are given back."""

    async def read() -> None:
        gone = asyncio.Event()

        async def write(writer: asyncio.StreamWriter) -> None:
            await writing(HEAD_OF_LONG + LONG[:1000])(writer)
            await asyncio.sleep(0.01)
            while not writer.transport.is_closing():
                writer.write(b"x")  # Which is how a peer that sends learns of it.
                await asyncio.sleep(0.01)
            gone.set()

        async def leave_one() -> None:
            gone.clear()
            async with opened(write) as upstream:
                before = taken.count(True)
                reading = asyncio.create_task(whole(upstream))
                await wait_until_async(
                    "the take-over", lambda: taken.count(True), lambda count: count > before
                )
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            await asyncio.wait_for(gone.wait(), WAIT_SECONDS)

        await leave_one()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await leave_one()
        await wait_until_async(
            "descriptors given back",
            lambda: len(os.listdir("/proc/self/fd")),
            lambda count: count <= before,
        )

    run(read())
    assert taken.count(True) == 6


def test_others_have_their_turn_while_a_fast_body_comes(run: Run) -> None:
    async def read() -> tuple[int, int]:
        turns = reads = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with opened(writing(HEAD % (20 * len(LONG)), *[LONG] * 20)) as upstream:
            await upstream.begin()
            other = asyncio.create_task(count())
            while await upstream.read():
                reads += 1
            other.cancel()
        return turns, reads

    turns, reads = run(read())
    assert turns + 2 > reads > 20


def test_a_reader_that_is_slow_slows_the_archive(run: Run) -> None:
    """What waits is in the sockets: nothing is read ahead."""

    async def read() -> int:
        sent = 0

        async def write(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await writing(HEAD % (200 * len(LONG)))(writer)
            for _ in range(200):
                await writing(LONG)(writer)
                sent += len(LONG)

        async with opened(write) as upstream:
            await upstream.begin()
            await asyncio.sleep(0.5)
            return sent

    assert run(read()) < 100 * len(LONG)


def test_its_connection_serves_no_other_request(run: Run) -> None:
    """Nobody knows where in it the next answer would begin."""

    async def read() -> tuple[int, int]:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(3):  # With one connection at most: it is given back each time.
                async with opened(writing(HEAD_OF_LONG + LONG, 1.0), session=session) as upstream:
                    assert await whole(upstream) == LONG
                    held = len(connector._acquired)
                assert not connector._conns
        return held, len(connector._acquired)

    assert run(read()) == (1, 0)

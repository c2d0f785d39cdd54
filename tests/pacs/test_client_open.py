"""Retrievals opened, and connections that fail, against a PACS on a real socket (SIA-42, 43)."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import Part
from sidecar.bootstrap.context import open_session
from sidecar.common.errors import GatewayTimeout, Problem, Unavailable
from sidecar.common.memory import HeapTrimmer
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.pacs.response import Upstream
from tests.common.peer import Peer, Reply
from tests.fakes.stream_server import stream_server
from tests.pacs.paging import PART, PERMIT, RETRIEVAL, STUDIES, pacs, retrievals
from tests.permits import ASKED, header_permit, study_permit
from tests.waiting import WAIT_SECONDS, forever


async def _never(request: web.Request) -> web.StreamResponse:
    await forever()


async def test_a_silent_pacs_is_a_timeout(peer: Peer, session: aiohttp.ClientSession) -> None:
    peer.say(Reply(write=_never))
    seen: list[str] = []
    more: Any = {
        "timeout_seconds": 0.1,
        "observe": lambda kind, status, seconds: seen.append(status),
    }
    client, opening = pacs(session, peer, **more), retrievals(session, peer, **more)
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(GatewayTimeout):
            await client.search(STUDIES, [], permit=ASKED)
        with pytest.raises(GatewayTimeout):
            await client.ping()
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(GatewayTimeout):
                await stack.enter_async_context(await opening.open(PERMIT, RETRIEVAL, accept="*/*"))
    assert seen == ["timeout"] * 3


async def test_a_pacs_that_is_not_there_is_unavailable(session: aiohttp.ClientSession) -> None:
    client = pacs(session, Peer(url="http://127.0.0.1:9"))
    for call in (client.search(STUDIES, [], permit=ASKED), client.ping()):
        with pytest.raises(Unavailable) as refused:
            await call
        assert "127.0.0.1" not in refused.value.diagnostics
    with pytest.raises(Unavailable):
        async with await retrievals(session, Peer(url="http://127.0.0.1:9")).open(
            PERMIT, RETRIEVAL, accept="*/*"
        ):
            pass


@contextlib.asynccontextmanager
async def dying(good_answers: list[int], *, abort: bool) -> AsyncIterator[tuple[str, list[str]]]:
    """A server whose n-th connection answers ``good_answers[n]`` requests and drops the next one;
    the last stays.
    """
    requests: list[str] = []
    connections = iter([*good_answers, *[1_000] * 20])

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(next(connections)):
                requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n"
                    b"Content-Length: 2\r\n\r\n[]"
                )
                await writer.drain()
            requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
            if abort:
                writer.transport.abort()
        writer.close()

    async with stream_server(connection) as port:
        yield f"http://127.0.0.1:{port}", requests


@pytest.mark.parametrize("abort", [False, True])
async def test_a_connection_that_died_in_the_pool_is_tried_once_more(
    session: aiohttp.ClientSession, abort: bool
) -> None:
    """Orthanc closes its connections after a second without a request; a GET may be repeated."""
    async with dying([1], abort=abort) as (url, _):
        client = pacs(session, Peer(url=url))
        assert await client.search(STUDIES, [], permit=ASKED) == []
        assert await client.search(STUDIES, [], permit=ASKED) == []
    async with dying([1], abort=abort) as (url, _):
        opening = retrievals(session, Peer(url=url))
        for _ in range(2):
            async with await opening.open(PERMIT, RETRIEVAL, accept="*/*") as response:
                assert await response.read() == [b"[]"]


@pytest.mark.parametrize("abort", [False, True])
async def test_it_is_not_tried_for_ever(session: aiohttp.ClientSession, abort: bool) -> None:
    """A PACS that drops each request: an answer soon, after at most a handful of attempts."""
    async with dying([0] * 20, abort=abort) as (url, requests):
        client = pacs(session, Peer(url=url))
        with pytest.raises(Unavailable):
            await client.search(STUDIES, [], permit=ASKED)
        assert len(requests) <= 4
        with pytest.raises(Unavailable):
            async with await retrievals(session, Peer(url=url)).open(
                PERMIT, RETRIEVAL, accept="*/*"
            ):
                pass
        assert len(requests) <= 8


async def test_a_retrieval_is_opened_as_it_was_permitted(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    peer.say(Reply("body", 200, {"Content-Type": "application/dicom"}))
    seen: list[tuple[str, str]] = []
    client = retrievals(
        session,
        peer,
        authorization="Bearer x",
        observe=lambda kind, status, _: seen.append((kind, status)),
    )
    drawn = Retrieval(Kind.RENDERED, PART, (2,))
    async with await client.open(
        PERMIT, drawn, accept="image/png", parameters=[("viewport", "1,2&x=y")]
    ) as response:
        assert await response.read() == [b"body"]
    (asked,) = peer.asked
    assert (
        asked.target
        == "/rs/studies/1.2/series/1.3/instances/1.4/frames/2/rendered?viewport=1,2%26x%3Dy"
    )
    assert asked.headers["Accept"] == "image/png"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert asked.headers["Authorization"] == "Bearer x"
    assert seen == [("rendered", "200")]


@pytest.mark.parametrize(
    "part",
    [
        Part("1.2"),
        Part("1.2", "1.3"),
        Part("1.2", "1.3", "1.5"),
        Part("1.2", "1.4", "1.4"),
        Part("1.3", "1.3", "1.4"),
    ],
)
async def test_a_permit_for_something_else_opens_nothing(
    peer: Peer, session: aiohttp.ClientSession, part: Part
) -> None:
    """Not even a permit for the whole study: what was decided on is what is fetched."""
    client, permit = retrievals(session, peer), study_permit("p1", part)
    with pytest.raises(ValueError, match="permit"):
        async with await client.open(permit, RETRIEVAL, accept="*/*"):
            pass
    with pytest.raises(ValueError, match="permit"):
        await client.head(permit, RETRIEVAL, accept="*/*", parameters=(), conditions={})
    assert peer.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    """dcm4chee may send to another archive: our credentials do not go there."""
    peer.say(Reply("", status, {"Location": f"{peer.url}/elsewhere"}))
    async with await retrievals(session, peer, authorization="Bearer x").open(
        PERMIT, RETRIEVAL, accept="*/*"
    ) as response:
        assert response.status == status
    assert len(peer.asked) == 1


@pytest.mark.parametrize("status", [204, 206, 404, 500, 503])
async def test_any_status_is_for_the_caller_to_judge(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    peer.say(Reply("", status))
    async with await retrievals(session, peer).open(PERMIT, RETRIEVAL, accept="*/*") as response:
        assert response.status == status


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_no_body_has_an_end_each_time(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    peer.say(Reply("", status))
    for _ in range(3):
        async with await retrievals(session, peer).open(
            PERMIT, RETRIEVAL, accept="*/*"
        ) as response:
            assert await asyncio.wait_for(response.read(), WAIT_SECONDS) == []
            assert await asyncio.wait_for(response.read(), WAIT_SECONDS) == []


async def test_whoever_leaves_early_frees_the_retrievals(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """The connection is closed, so that the PACS stops reading from its disks."""
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    peer.say(Reply(write=endless))
    async with await retrievals(session, peer).open(PERMIT, RETRIEVAL, accept="*/*") as response:
        await response.read()
    async with asyncio.timeout(WAIT_SECONDS):
        await gone.wait()


async def test_a_body_that_was_read_leaves_its_connection_for_the_next(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    ports = set()

    async def write(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(body=b"body")

    peer.say(Reply(write=write))
    for _ in range(5):
        async with await retrievals(session, peer).open(
            PERMIT, RETRIEVAL, accept="*/*"
        ) as response:
            await response.read()
    assert len(ports) == 1


async def test_a_long_body_has_no_total_time(peer: Peer, session: aiohttp.ClientSession) -> None:
    """Each silence is bounded where the body is passed on (tests/web/test_stream.py), by
    ``idle_seconds``.
    """

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(6):
            await response.write(b"x")
            await asyncio.sleep(0.4)
        return response

    peer.say(Reply(write=slow))
    client = retrievals(session, peer, timeout_seconds=2)
    async with await client.open(PERMIT, RETRIEVAL, accept="*/*") as response:
        assert response.idle_seconds == 2
        received = b""
        while chunk := await response.read():
            received += b"".join(chunk)
        assert received == b"xxxxxx"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_comes_in_pieces_and_whole(
    session: aiohttp.ClientSession, peer: Peer, chunked: bool
) -> None:
    """Whatever waits in the buffer when it is asked for."""
    body = os.urandom(3_000_000)

    async def write(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = None if chunked else len(body)
        await response.prepare(request)
        for start in range(0, len(body), 100_000):
            await response.write(body[start : start + 100_000])
        return response

    peer.say(Reply(write=write))
    client = retrievals(session, peer)
    async with await client.open(PERMIT, RETRIEVAL, accept="*/*") as response:
        await asyncio.sleep(0.2)
        received: list[bytes] = []
        while pieces := await response.read():
            assert all(pieces)
            received += pieces
        assert await response.read() == []
    assert b"".join(received) == body


@pytest.mark.parametrize("coding", ["identity\r\nTransfer-Encoding: chunked", "chunked"])
async def test_the_end_of_a_chunk_is_no_end(session: aiohttp.ClientSession, coding: str) -> None:
    """However the PACS writes that there are chunks."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: %b\r\n\r\n"
            % coding.encode()
        )
        for piece in (b"5\r\nhello", b"\r\n", b"5\r\nworld", b"\r\n", b"0\r\n\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    over = asyncio.Event()
    async with stream_server(serve) as port:
        async with session.get(f"http://127.0.0.1:{port}") as response:
            upstream, received = (
                Upstream(response, idle_seconds=60, heap=HeapTrimmer()),
                list[bytes](),
            )
            while pieces := await upstream.read():
                received += pieces
            connection = response.connection
            if connection is not None:
                connection.close()
        await session.close()
        await asyncio.wait_for(over.wait(), WAIT_SECONDS)
    assert b"".join(received) == b"helloworld"


async def test_a_pool_that_is_used_up_is_no_endless_wait(peer: Peer) -> None:
    """limits.pacs_connections slow clients must not make everybody else hang: 503 or 504 after the
    time-out.
    """

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await forever()

    peer.say(Reply(write=endless))
    async with open_session(None, connections=1) as narrow:
        impatient = retrievals(narrow, peer, timeout_seconds=0.3)
        async with (
            await retrievals(narrow, peer).open(PERMIT, RETRIEVAL, accept="*/*"),
            asyncio.timeout(WAIT_SECONDS),
        ):
            with contextlib.suppress(Problem):
                async with await impatient.open(PERMIT, RETRIEVAL, accept="*/*"):
                    raise AssertionError("there is one connection only")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("permitted", [Part(PART.study), Part(PART.study, PART.series), PART])
async def test_a_permit_to_read_headers_opens_nothing_else(
    peer: Peer, session: aiohttp.ClientSession, kind: Kind, permitted: Part
) -> None:
    """An instance that is in the permitted part, or its metadata: what says whose it is."""
    peer.say(Reply(b"x"))
    client = retrievals(session, peer)
    permit = header_permit("p1", permitted)
    if kind in (Kind.INSTANCE, Kind.METADATA):
        async with await client.open(permit, Retrieval(kind, PART), accept="*/*"):
            pass
        other = Part("1.9", PART.series, PART.instance)
        with pytest.raises(ValueError, match="something else"):
            async with await client.open(permit, Retrieval(kind, other), accept="*/*"):
                pass
        return
    with pytest.raises(ValueError, match="something else"):
        async with await client.open(permit, Retrieval(kind, PART), accept="*/*"):
            pass
    assert not peer.asked

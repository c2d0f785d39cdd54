"""Nobody gets what was left over from the answer to somebody else (SIA-42; CWE-444)."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.client_proto
import pytest
from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy

from sidecar.bootstrap.context import open_session
from tests.certificates import certificate, server_context
from tests.event_loops import Run
from tests.waiting import wait_until_async

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%b"


async def asked(
    extra: bytes,
    times: int,
    *,
    waits: bool = False,
    delay: float = 0.0,
    closes: bool = False,
    tls: tuple[Path, Path] | None = None,
) -> Any:
    """The bodies of so many requests in a row, and the connections that they took.

    The server sends ``extra`` behind each of its answers, ``delay`` seconds later, and may close
    then. ``waits``: for that before the next request.
    """
    connections = served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, served
        connections += 1
        try:
            while True:
                line = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                writer.write(ANSWER % line[1:5])
                if delay:
                    await writer.drain()
                    await asyncio.sleep(delay)
                writer.write(extra)
                await writer.drain()
                if closes:
                    writer.close()
                served += 1
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    context = None if tls is None else server_context(tls)
    bodies = []
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server,
        open_session(tls and tls[0], connections=1) as session,
    ):
        for number in range(times):
            port = server.sockets[0].getsockname()[1]
            try:
                async with session.get(
                    f"http{'s' if tls else ''}://localhost:{port}/{number:04d}"
                ) as response:
                    bodies.append((await response.read()).decode())
            except (
                aiohttp.ClientError
            ):  # aiohttp takes an answer with junk right behind it for none.
                bodies.append("none")
            if waits:
                await wait_until_async(
                    "the server's last word", lambda: served, (number + 1).__eq__
                )
                await asyncio.sleep(0.05)  # It was sent; now it arrives.
    return bodies, connections


@pytest.mark.parametrize("extra", [ANSWER % b"evil", ANSWER % b"evil" * 3, ANSWER[:20], b"x"])
@pytest.mark.parametrize(("waits", "delay"), [(False, 0.0), (True, 0.0), (True, 0.02)])
def test_what_nobody_asked_for_is_nobodys_answer(
    run: Run, extra: bytes, waits: bool, delay: float
) -> None:
    bodies, connections = run(asked(extra, 5, waits=waits, delay=delay))
    right = [f"{number:04d}" for number in range(5)]
    if b"evil" in extra:
        assert (bodies, connections) == (right, 5)
    assert all(body in ("none", one) for body, one in zip(bodies, right, strict=True))


def test_a_quiet_connection_is_kept(run: Run) -> None:
    bodies, connections = run(asked(b"", 5))
    assert (len(set(bodies)), connections) == (5, 1)


def test_one_that_the_server_has_closed_is_not_tried(run: Run) -> None:
    bodies, connections = run(asked(b"", 5, waits=True, closes=True))
    assert (len(set(bodies)), connections) == (5, 5)


def test_by_tls_too(run: Run, tmp_path: Path) -> None:
    """Tickets of TLS 1.3 that come behind the handshake are no reason; bytes of HTTP are."""
    files = certificate(tmp_path, "server")
    right = [f"{number:04d}" for number in range(4)]
    assert run(asked(b"", 4, waits=True, tls=files)) == (right, 1)
    assert run(asked(ANSWER % b"evil", 4, waits=True, delay=0.01, tls=files)) == (right, 4)


async def test_it_is_what_our_sessions_use() -> None:
    async with open_session(None, connections=3) as session:
        assert type(session.connector).__name__ == "CleanConnector"
        assert isinstance(session.connector, aiohttp.TCPConnector)


def ok(body: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"Content-Length: %d" % len(body), b"", body])


FIRST = b"0000"
HALF = b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\nX-"
SOUND = {
    "a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\n%b\r\n0\r\nX-Evil: 1\r\n\r\n" % FIRST,
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n%b\r\n0\r\n"
    b"Content-Encoding: gzip\r\nX-Evil: 1\r\nX-Evil: 2\r\n\r\n" % FIRST,
    "100 before": b"HTTP/1.1 100 Continue\r\nX-Evil: 1\r\n\r\n" + ok(FIRST),
    "103 with a length": b"HTTP/1.1 103 Early Hints\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\n"
    + ok(FIRST),
}
LEFT_OVER = {
    "100 behind": ok(FIRST) + b"HTTP/1.1 100 Continue\r\nX-Evil: 1\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    + ok(b"evil"),
    "a whole answer": ok(FIRST) + ok(b"evil", b"X-Evil: 1"),
    "half a head": ok(FIRST) + HALF,
    "half a head behind chunks": SOUND["a trailer"] + HALF,
    "a status line": ok(FIRST) + b"HTTP/1.1 200 OK\r\n",
    "a letter": ok(FIRST) + b"H",
    "a longer body": ok(FIRST) + b"evil",
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    "204 with an answer": b"HTTP/1.1 204 No Content\r\n\r\n" + ok(b"evil"),
    "304 with a body": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
    "no body and an answer": ok(b"") + ok(b"evil"),
    "two framings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    + ok(b"evil").partition(b"\r\n")[2],
}


@pytest.fixture(params=[HttpResponseParser, HttpResponseParserPy], ids=["compiled", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.client_proto, "HttpResponseParser", request.param)


async def behind(first: bytes, method: str = "GET") -> tuple[list[tuple[str, list[str]]], int]:
    """Return bodies and X-Evil fields of two requests after ``first``, and the connections."""
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while line := await reader.readuntil(b"\r\n\r\n"):
                number = line.split(b" ")[1][1:5]
                writer.write(first if number == FIRST else ok(number))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    found = []
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        open_session(None, connections=1) as session,
    ):
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}"
        for number in range(3):
            try:
                async with session.request(
                    "GET" if number else method, f"{url}/{number:04d}"
                ) as response:
                    evil, body = (
                        response.headers.getall("X-Evil", []),
                        (await response.read()).decode(),
                    )
                    found.append((body, evil))
            except aiohttp.ClientError:
                found.append(("none", []))
    return found, connections


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("first", SOUND)
async def test_nothing_of_a_sound_answer_is_in_the_next_one(first: str) -> None:
    """Neither its trailer fields nor those of an answer before it (1xx); the connection is kept."""
    found, connections = await behind(SOUND[first])
    assert found == [("0000", []), ("0001", []), ("0002", [])]
    assert connections == 1


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("first", LEFT_OVER)
async def test_a_connection_with_something_left_over_is_closed(first: str) -> None:
    """Also where it came with the answer, in one packet, and is not yet an answer itself."""
    found, connections = await behind(LEFT_OVER[first])
    assert found[0][0] != "evil"
    assert found[1:] == [("0001", []), ("0002", [])]
    assert connections == 2


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "body", [b"evil", HALF, ok(b"evil")], ids=["a body", "half a head", "an answer"]
)
async def test_an_answer_to_head_has_no_body(body: bytes) -> None:
    found, connections = await behind(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, "HEAD"
    )
    assert found[0][0] in ("", "none")
    assert found[1:] == [("0001", []), ("0002", [])]
    assert connections == 2


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ],
    ids=["HEAD", "204", "304"],
)
async def test_what_is_late_behind_an_answer_without_a_body_is_nobodys(
    method: str, head: bytes
) -> None:
    """A server may send the body as soon as it has it, which is when the next request is there."""
    evil = ok(b"evil")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readuntil(b"\r\n\r\n"):
                path = line.split(b" ")[1][1:5]
                writer.write(head if path == b"four" else ok(path))
                if path == b"four":
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(evil)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        open_session(None, connections=1) as session,
    ):
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}"
        async with session.request(method, f"{url}/four") as response:
            assert response.status in (200, 204, 304)
        for path in ("0001", "0002"):
            async with session.get(f"{url}/{path}") as response:
                assert await response.read() == path.encode()

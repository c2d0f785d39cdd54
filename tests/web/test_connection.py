"""Nothing of one message reaches the next on a client's connection (RFC 9112 11.2; CWE-444), by
either parser.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp.web_protocol
import pytest
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from sidecar.server.listener import listen
from tests.attacks.raw import CONNECTION_SECONDS, RawAnswer, answers

SECOND = b"GET /second HTTP/1.1\r\nHost: second\r\nConnection: close\r\n\r\n"
SECOND_HEADERS = [("Host", "second"), ("Connection", "close")]
NO_BODY = ("GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND")
TRAILERS = {
    "no trailer": b"",
    "a token": b"Authorization: Bearer first\r\n",
    "two": b"X-One: 1\r\nAuthorization: Bearer first\r\n",
    "framing": b"Content-Length: 40\r\n",
    "a coding": b"Content-Encoding: gzip\r\nX-Two: 2\r\n",
    "a host": b"Host: first\r\n",
}
REFUSED_BY_PARSER = ("framing", "a host")
"""Where the compiled parser refuses these, its answer is one of HTTP/1.0: it closes without saying
so.
"""
BODIES = {"no chunk": b"", "a chunk": b"3\r\na=b\r\n", "an extension": b"3;x=y\r\na=b\r\n"}


@dataclass
class Echo:
    """A server on a listener of ours; ``handled`` has each request that reached its application."""

    port: int = 0
    handled: list[tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    malformed: list[int] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = b"" if request.path == "/unread" else await request.read()
        self.handled.append((request.path, list(request.headers.items()), body))
        return web.Response(text="handled")


@pytest.fixture(params=[HttpRequestParser, HttpRequestParserPy], ids=["compiled", "python"])
async def echo(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Echo]:
    monkeypatch.setattr(aiohttp.web_protocol, "HttpRequestParser", request.param)
    served = Echo()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    async with listen(
        app, "127.0.0.1", 0, observe_malformed=served.malformed.append
    ) as served.port:
        yield served


def test_the_two_parsers_differ() -> None:
    assert HttpRequestParser is not HttpRequestParserPy


async def converse(port: int, first: bytes, *, together: bool) -> list[RawAnswer]:
    """The answers to ``first`` and ``SECOND`` on one connection; ``together``: in one write, as far
    as it goes.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(CONNECTION_SECONDS):
            writer.write(first + SECOND if together else first)
            if not together:
                received = await reader.readuntil(b"\r\n\r\n")
                writer.write(SECOND)
            while data := await reader.read(65_536):
                received += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    head = first.startswith(b"HEAD ")
    return answers(received.replace(b"Content-Length: 7\r\n", b"", 1) if head else received)


def chunked(method: str, body: bytes, trailer: bytes, *lines: str) -> bytes:
    head = [f"{method} /first HTTP/1.1", "Host: first", "Transfer-Encoding: chunked", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body + b"0\r\n" + trailer + b"\r\n"


def with_length(method: str, body: bytes, *lines: str) -> bytes:
    head = [f"{method} /first HTTP/1.1", "Host: first", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def check_second(echo: Echo) -> None:
    """Whatever came first, the second request has its own headers and nothing else."""
    for path, headers, body in echo.handled:
        if path == "/second":
            assert headers == SECOND_HEADERS
            assert body == b""


@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("trailer", TRAILERS)
async def test_a_chunked_request_is_the_last_one(
    echo: Echo, trailer: str, body: str, together: bool
) -> None:
    found = await converse(
        echo.port, chunked("POST", BODIES[body], TRAILERS[trailer]), together=together
    )
    ended = [(answer.status, answer.header("connection")) for answer in found]
    if trailer in REFUSED_BY_PARSER and ended == [(400, None)]:
        assert len(echo.handled) <= 1
    else:
        assert ended == [(200, "close")]
        assert len(echo.handled) == 1
    assert "/second" not in [path for path, _, _ in echo.handled]


@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
@pytest.mark.parametrize("method", NO_BODY)
async def test_no_chunked_body_where_none_belongs(echo: Echo, method: str, together: bool) -> None:
    for trailer, body in itertools.product(TRAILERS, BODIES.values()):
        found = await converse(
            echo.port, chunked(method, body, TRAILERS[trailer]), together=together
        )
        assert [answer.status for answer in found] == [400], trailer
        assert found[0].header("connection") == "close" or trailer in REFUSED_BY_PARSER, trailer
    assert echo.handled == []
    assert echo.malformed == [400] * len(TRAILERS) * len(BODIES)


@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
@pytest.mark.parametrize("method", NO_BODY)
async def test_no_body_with_a_length_where_none_belongs(
    echo: Echo, method: str, together: bool
) -> None:
    found = await converse(echo.port, with_length(method, b"a=b"), together=together)
    assert [(answer.status, answer.header("connection")) for answer in found] == [(400, "close")]
    assert echo.handled == []


@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
@pytest.mark.parametrize(
    "first",
    [
        with_length("POST", b"a=b"),
        with_length("POST", b""),
        with_length("GET", b""),
        b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["a form", "an empty form", "no length", "no body"],
)
async def test_a_sound_request_is_followed_by_the_next(
    echo: Echo, first: bytes, together: bool
) -> None:
    """The tests above can fail: the same two requests, where nothing speaks against the second."""
    found = await converse(echo.port, first, together=together)
    assert [answer.status for answer in found] == [200, 200]
    check_second(echo)
    assert [path for path, _, _ in echo.handled] == ["/first", "/second"]


@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
async def test_a_body_that_nobody_read_is_not_the_next_request(echo: Echo, together: bool) -> None:
    hidden = SECOND.replace(b"/second", b"/hidden")
    found = await converse(
        echo.port, with_length("POST", hidden).replace(b"/first", b"/unread"), together=together
    )
    assert [answer.status for answer in found] == [200, 200]
    check_second(echo)
    assert [path for path, _, _ in echo.handled] == ["/unread", "/second"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Transfer-Encoding: chunked", "this method must come without a body"),
        ("Content-Length: 3", "this method must come without a body"),
        ("Transfer-Encoding: gzip, chunked", "Transfer-Encoding may be chunked alone"),
    ],
)
async def test_each_refused_body_has_its_text(echo: Echo, line: str, text: str) -> None:
    head = f"GET /first HTTP/1.1\r\nHost: first\r\n{line}\r\n\r\n"
    (answer,) = await converse(echo.port, head.encode() + b"0\r\n\r\n", together=True)
    assert (answer.status, text in answer.body.decode()) == (400, True)


async def test_a_body_that_is_refused_is_not_asked_for(echo: Echo) -> None:
    """No 100 (Continue) comes before the 400."""
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(
        b"GET /first HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    async with asyncio.timeout(CONNECTION_SECONDS):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert echo.handled == []


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
async def test_nothing_follows_an_upgrade_that_is_not_made(
    echo: Echo, protocol: str, together: bool
) -> None:
    """The compiled parser drops the rest of the packet, and reads what follows from its middle."""
    upgrade = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
    first = f"GET /first HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode()
    found = await converse(echo.port, first, together=together)
    assert [(answer.status, answer.header("connection")) for answer in found] == [(200, "close")]
    assert [path for path, _, _ in echo.handled] == ["/first"]


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 3"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding:"],
        ["Content-Length:"],
        ["Content-Length: 0x3"],
        ["Content-Length: +3"],
    ],
    ids=" | ".join,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_one_request_at_most_comes_of_doubtful_framing(
    echo: Echo, lines: list[str], method: str, version: str
) -> None:
    """What two readers may frame otherwise is refused, or is the last request of its connection."""
    head = "\r\n".join(
        [f"{method} /first HTTP/{version}", "Host: first", "Connection: keep-alive", *lines, "", ""]
    )
    for body in (
        b"",
        b"a=b",
        b"3\r\na=b\r\n0\r\n\r\n",
        b"0\r\nAuthorization: Bearer first\r\n\r\n",
    ):
        await converse(echo.port, head.encode() + body, together=True)
    assert "/second" not in [path for path, _, _ in echo.handled]
    if method == "GET":
        assert echo.handled == []


async def test_any_trailer_in_any_split(echo: Echo) -> None:
    """The reader may end at every byte of the first request."""
    first = chunked("POST", BODIES["a chunk"], TRAILERS["two"])
    for start, end in itertools.pairwise(range(0, len(first) + 1, 7)):
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        for piece in (first[:start], first[start:end], first[end:] + SECOND):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(CONNECTION_SECONDS):
            assert len(answers(await reader.read())) == 1
        writer.close()
    assert {path for path, _, _ in echo.handled} == {"/first"}

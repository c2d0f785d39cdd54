"""Small responses: bounded in bytes and seconds, no redirects, one reading of JSON (SIA-16)."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from tests.common.peer import NO_HEADERS, Peer, Reply
from tests.fakes.stream_server import stream_server
from tests.waiting import WAIT_SECONDS

LIMIT = 65_536


async def get(
    session: aiohttp.ClientSession, url: str, *, seconds: float = 5, limit: int = LIMIT
) -> FetchedResponse:
    """Fetch as the rooms do."""
    return await fetch(session, "GET", url, limit_bytes=limit, timeout_seconds=seconds)


async def failure_of(call: Awaitable[object]) -> str:
    """The reason why ``call`` failed."""
    with pytest.raises(FetchFailed) as failed:
        await call
    assert str(failed.value) == failed.value.reason
    return failed.value.reason


@pytest.mark.parametrize("status", [200, 204, 400, 401, 404, 500, 503])
async def test_any_status_is_an_answer(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    """What it means is for the caller to say."""
    peer.say(Reply("" if status == 204 else "text", status))
    answer = await get(session, peer.url)
    assert (answer.status, answer.body) == (status, b"" if status == 204 else b"text")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    peer: Peer, session: aiohttp.ClientSession, status: int
) -> None:
    """A token that we send goes nowhere else."""
    peer.say(Reply("", status, {"Location": f"{peer.url}/elsewhere"}))
    answer = await fetch(
        session,
        "POST",
        f"{peer.url}/here",
        limit_bytes=LIMIT,
        timeout_seconds=60,
        form={"token": "secret"},
    )
    assert answer.status == status
    assert [asked.target for asked in peer.asked] == ["/here"]


async def test_no_cookie_is_kept(peer: Peer, session: aiohttp.ClientSession) -> None:
    """The session is shared by all callers: nothing of one answer is in another's request."""
    peer.say(Reply({}, headers={"Set-Cookie": "session=1; Path=/"}))
    await get(session, peer.url.replace("127.0.0.1", "localhost"))
    await get(session, peer.url.replace("127.0.0.1", "localhost"))
    assert ["Cookie" in asked.headers for asked in peer.asked] == [False, False]


async def test_the_limit_is_to_the_byte(peer: Peer, session: aiohttp.ClientSession) -> None:
    """As much as allowed is read, one more is refused."""
    peer.say(Reply("x" * 1_000))
    assert len((await get(session, peer.url, limit=1_000)).body) == 1_000
    assert await failure_of(get(session, peer.url, limit=999)) == "too_large"


async def test_an_endless_body_is_left_at_the_limit(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Memory and time are bounded by us, not by the peer."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * LIMIT)
            sent += LIMIT

    peer.say(Reply(write=endless))
    assert await failure_of(get(session, peer.url)) == "too_large"
    assert sent < 64 * 2**20


async def test_the_peers_own_compression_does_not_spoil_its_answer(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """A reverse proxy compresses when it is asked to: we ask for no compression."""

    async def as_asked(request: web.Request) -> web.StreamResponse:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(
                body=gzip.compress(b'{"active": true}'), headers={"Content-Encoding": "gzip"}
            )
        return web.Response(body=b'{"active": true}')

    peer.say(Reply(write=as_asked))
    assert (await get(session, peer.url)).strict_json_object() == {"active": True}


ENCODED: dict[str, tuple[str, bytes, str | None]] = {
    "gzip": ("gzip", gzip.compress(b'{"active": true}'), None),
    "deflate": ("deflate", zlib.compress(b'{"active": true}'), None),
    "cut": ("gzip", gzip.compress(b'{"active": true}')[:-1], "encoded (truncated)"),
    "garbage behind it": (
        "gzip",
        gzip.compress(b'{"active": true}') + b"garbage",
        "encoded (malformed)",
    ),
    "a bomb": ("gzip", gzip.compress(bytes(LIMIT + 1)), "too_large"),
    "too long itself": ("gzip", gzip.compress(b"") * (LIMIT // 20 + 1), "too_large"),
    "br": ("br", b'{"active": true}', "encoded (br)"),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "encoded (several)"),
}


@pytest.mark.parametrize("case", ENCODED)
async def test_what_comes_compressed_unasked(
    peer: Peer, session: aiohttp.ClientSession, case: str
) -> None:
    """It is decompressed within the same limit; another coding is a failure that names it."""
    coding, body, failure = ENCODED[case]
    peer.say(Reply(body, headers={"Content-Encoding": coding}))
    if failure is None:
        assert (await get(session, peer.url)).strict_json_object() == {"active": True}
        return
    with pytest.raises(FetchFailed) as failed:
        await get(session, peer.url)
    reason, detail = failed.value.reason, failed.value.detail
    assert (reason if detail is None else f"{reason} ({detail})") == failure


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while not reader.at_eof() and not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.02)


def _raw(answer: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return send


RAW: dict[
    str, tuple[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], str]
] = {
    "says nothing": (_silent, "timeout"),
    "drips": (_dripping, "timeout"),
    "hangs up": (_raw(b""), "unreachable"),
    "is not HTTP": (_raw(b"220 mail.example.org ESMTP\r\n"), "unreachable"),
    "breaks off": (
        _raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"active": true}'),
        "unreachable",
    ),
    "breaks off a chunk": (
        _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{}\r\n"),
        "unreachable",
    ),
    "both lengths": (
        _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"),
        "unreachable",
    ),
    "bad chunk": (
        _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        "unreachable",
    ),
    "endless head": (_raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "unreachable"),
}


@pytest.mark.parametrize("fault", RAW)
async def test_a_peer_that_does_not_speak_well(session: aiohttp.ClientSession, fault: str) -> None:
    """Each is one failure with a constant, in bounded time; half an answer is none."""
    talk, reason = RAW[fault]

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    async with (
        stream_server(connection) as port,
        asyncio.timeout(WAIT_SECONDS),  # However it drips: then the whole of it has a bound.
    ):
        seconds = 0.2 if reason == "timeout" else 60
        failure = await failure_of(get(session, f"http://127.0.0.1:{port}/", seconds=seconds))
        assert failure == reason


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "http://h:99999/",
        "http://h:x/",
        "http://",
        "",
        "ftp://h/",
        "file:///etc/passwd",
        "http:///x",
        "http://[",
        "http://a b/",
        "http://\ud800/",
        "http://a..b/",
    ],
    ids=ascii,
)
async def test_a_url_that_leads_nowhere(session: aiohttp.ClientSession, url: str) -> None:
    """Discovery may name anything: it is a failure, not a crash."""
    assert await failure_of(get(session, url)) == "unreachable"


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\x00b"], ids=ascii)
async def test_a_header_cannot_be_split(
    peer: Peer, session: aiohttp.ClientSession, value: str
) -> None:
    """A token from elsewhere never becomes a header line of its own."""
    call = fetch(
        session,
        "GET",
        peer.url,
        limit_bytes=LIMIT,
        timeout_seconds=60,
        headers={"Authorization": f"Bearer {value}"},
    )
    assert await failure_of(call) == "unreachable"
    assert peer.asked == []


ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")
"""What RFC 8259 8.1 does not allow between systems, and Python's ``json`` guesses from bytes."""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b"{'a': 1}", "not_json"),
        (b'{"active": false, "active": true}', "not_json"),
        (b'{"a": {"b": 1, "b": 1}}', "not_json"),
        (b'{"a": 1, "\\u0061": 2}', "not_json"),
        (b'{"exp": NaN}', "not_json"),
        (b'{"exp": Infinity}', "not_json"),
        (b'{"exp": -Infinity}', "not_json"),
        (b"\xff\xfe\xfd", "not_json"),
        (b'{"a": "\xff"}', "not_json"),
        (b'{"a":' * 10_000, "not_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not_json"),
        *(('{"active": true}'.encode(encoding), "not_json") for encoding in ENCODINGS),
        (b'{"a": "\xed\xa0\x80"}', "not_json"),
        (b"[" * 60_000, "not_json"),
        (b'{"exp": ' + b"9" * 60_000 + b"}", "not_json"),
        (b'{"a": "\n"}', "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"true", "not_an_object"),
        (b'"x"', "not_an_object"),
        (b"1", "not_an_object"),
        (b'[{"active": true}]', "not_an_object"),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_what_a_permission_rests_on_has_one_reading(body: bytes, reason: str) -> None:
    """SIA-16: no name twice, no NaN, UTF-8 without a byte order mark, an object."""
    with pytest.raises(FetchFailed) as failed:
        FetchedResponse(200, NO_HEADERS, body).strict_json_object()
    assert failed.value.reason == reason


def test_json() -> None:
    """Both readers read what is right; the fast one refuses what is no JSON, too."""
    answer = FetchedResponse(200, NO_HEADERS, b'{"a": [{"b": 1}, {"b": 1}], "c": "\\u00e4"}')
    assert (
        answer.strict_json_object() == answer.json() == {"a": [{"b": 1}, {"b": 1}], "c": "\u00e4"}
    )
    others = ['{"a": 1}'.encode(encoding) for encoding in ENCODINGS]
    for body in (b"", b"<html>", b'{"a": NaN}', b"[" * 60_000, *others):
        with pytest.raises(FetchFailed, match="not_json"):
            FetchedResponse(200, NO_HEADERS, body).json()


async def test_no_limit_of_the_session_ends_it_sooner(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp's own limit is five minutes; ``limits.deferred_seconds`` may be longer."""
    peer.say(Reply({"a": 1}))
    limits: list[aiohttp.ClientTimeout] = []
    async with aiohttp.ClientSession() as session:
        send = session._request

        async def noted(*arguments: Any, **named: Any) -> aiohttp.ClientResponse:
            limits.append(named.get("timeout", session.timeout))
            return await send(*arguments, **named)

        monkeypatch.setattr(session, "_request", noted)
        await fetch(session, "GET", peer.url + "/x", limit_bytes=100, timeout_seconds=60)
    assert [one.total for one in limits] == [None]

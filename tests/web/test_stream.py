"""Streaming: unchanged, bounded, back-pressure both ways, and never a complete-looking half
(SIA-40, 43).
"""

import asyncio
import contextlib
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp.abc import AbstractStreamWriter

from sidecar.web.pieces import Pieces, write_pieces
from tests.fakes.archive import Answer, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import BROKEN, GOOD, MULTIPART, PART, PATH, WHOLE
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import WAIT_SECONDS, wait_until_async
from tests.web.old_client import expect_reset
from tests.web.streams import counted, streams


@pytest.mark.parametrize("framing", GOOD)
async def test_bytes_are_unchanged(framing: str) -> None:
    """SIA-40: whatever the framing at the PACS."""
    pacs = ScriptedPacs(GOOD[framing])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(url + PATH, headers=HEADERS) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("multipart/related")
            assert await response.read() == WHOLE
        assert await counted(sidecar, "complete") == 1
    retrieval = pacs.heads[-1].lower()
    assert "accept-encoding: identity" in retrieval
    assert "authorization" not in retrieval
    assert TOKEN not in retrieval


async def test_what_has_left_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the first pieces: with a slow client, they would be held for hours."""
    written: list[Pieces] = []

    async def noting(writer: AbstractStreamWriter, pieces: Pieces, *, uncopied: bool) -> int:
        written.append(pieces)
        return await write_pieces(writer, pieces, uncopied=uncopied)

    monkeypatch.setattr("sidecar.web.stream.write_pieces", noting)
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(GOOD["chunked"])) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=HEADERS) as response,
    ):
        assert await response.read() == WHOLE
    assert written
    assert not any(written)


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_answer_never_looks_whole(fault: str) -> None:
    """SIA-43: the client's own library must raise, or see an error status."""
    pacs = ScriptedPacs(BROKEN[fault])
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        with contextlib.suppress(aiohttp.ClientError):
            async with client.get(url + PATH, headers=HEADERS) as response:
                await response.read()
                assert response.status == 502, "a complete-looking success"
        assert await counted(sidecar, "pacs_broken") == 1
        assert streams(sidecar, "complete") == 0


async def test_http_1_0_clients_see_the_break_too() -> None:
    """Without chunks the end of the connection is the end of the body: it must be a reset, not an
    end.
    """
    pacs = ScriptedPacs(BROKEN["until-close-no-last-part"])
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _):
        await expect_reset(url)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_an_old_client_sees_where_the_body_ends(connection: str) -> None:
    """HTTP/1.0 knows no chunks: the connection's end is the body's, whatever the client would like
    to keep.
    """
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(GOOD["chunked"])) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = (
            f"GET {PATH} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Connection: {connection}\r\n\r\n"
        )
        writer.write(head.encode())
        received = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        assert received.endswith(b"\r\n\r\n" + WHOLE)
        writer.close()


BEFORE_THE_BODY: dict[str, tuple[bytes, int]] = {
    "html error page": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nOops!",
        502,
    ),
    "partial": (
        b"HTTP/1.1 206 Partial Content\r\n" + MULTIPART + b"Content-Length: 8\r\n\r\n--abc--\r\n",
        502,
    ),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        502,
    ),
    "gzip": (
        b"HTTP/1.1 200 OK\r\n"
        + MULTIPART
        + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        502,
    ),
    "no boundary": (
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/related\r\nContent-Length: 1\r\n\r\nx",
        502,
    ),
    "empty": (b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Content-Length: 0\r\n\r\n", 502),
    "absent": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
    "gone": (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 404),
    "not acceptable": (b"HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n", 406),
    "our credentials": (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        502,
    ),
    "fault": (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 502),
    "busy": (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503),
    "being fetched": (b"HTTP/1.1 202 Accepted\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503),
    "slow": (b"", 504),
}


@pytest.mark.parametrize("case", BEFORE_THE_BODY)
async def test_a_useless_head_is_an_error_with_an_outcome(case: str) -> None:
    """SIA-43, 44: nothing of the PACS's own words, headers or addresses passes."""
    written, status = BEFORE_THE_BODY[case]
    timeout = 0.3 if case == "slow" else 60

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(written)
        if not written:
            await reader.read()

    pacs = ScriptedPacs(write)
    async with (
        sidecar_between(
            ScriptedEhr(),
            pacs,
            limits={"pacs_timeout_seconds": timeout, "defer_after_seconds": None},
        ) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=HEADERS) as response,
    ):
        body = await response.text()
        assert response.status == status
        assert response.content_type == "application/fhir+json"
        assert (await response.json(content_type=None))["resourceType"] == "OperationOutcome"
        assert "Location" not in response.headers
        assert "WWW-Authenticate" not in response.headers
        assert "Oops" not in body
        assert "127.0.0.1" not in body
        if case in ("busy", "being fetched"):
            assert response.headers["Retry-After"] == "7"


def endless(sent: Callable[[int], None]) -> Answer:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n")
        for _ in range(2_000):  # 200 MB
            writer.write(PART)
            await writer.drain()
            sent(len(PART))

    return write


async def test_a_slow_client_slows_the_pacs() -> None:
    """Back-pressure: while the client reads nothing, only buffers fill."""
    total = 0

    def count(size: int) -> None:
        nonlocal total
        total += size

    pacs = ScriptedPacs(endless(count))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(url.rpartition(":")[2]), limit=2**14
        )
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")

        async def is_held_back() -> bool:
            before = total
            await asyncio.sleep(0.5)
            return total == before

        await wait_until_async("the PACS sends no more", is_held_back)
        assert total < 40 * 2**20, "far more than socket buffers was read ahead"
        writer.transport.abort()
        await asyncio.wait_for(pacs.gone.wait(), WAIT_SECONDS)


async def test_a_client_that_leaves_frees_the_pacs_at_once() -> None:
    """Also while the PACS is silent and nothing could be written."""
    left = asyncio.Event()

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n" + PART)
        await writer.drain()
        assert await reader.read() == b""
        left.set()

    async with sidecar_between(ScriptedEhr(), ScriptedPacs(write)) as (url, sidecar):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(left.wait(), WAIT_SECONDS)
        assert await counted(sidecar, "client_gone") == 1
        assert sidecar.metrics.registry.get_sample_value("smart_imaging_streams_active") == 0


async def test_a_client_that_stalls_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that accepts nothing for ``CLIENT_SECONDS`` ends."""
    pacs = ScriptedPacs(endless(lambda size: None))
    monkeypatch.setattr("sidecar.bootstrap.build.CLIENT_SECONDS", 0.3)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(url.rpartition(":")[2]), limit=2**14
        )
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait_for(pacs.gone.wait(), WAIT_SECONDS)
        assert await counted(sidecar, "client_gone") == 1
        writer.close()


async def test_a_stalled_pacs_is_a_broken_answer() -> None:
    """Silence in the middle for ``limits.pacs_timeout_seconds``."""

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n" + PART)
        await reader.read()

    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(write), limits={"pacs_timeout_seconds": 2}) as (
            url,
            sidecar,
        ),
        aiohttp.ClientSession() as client,
    ):
        with pytest.raises(aiohttp.ClientError):
            async with client.get(url + PATH, headers=HEADERS) as response:
                await response.read()
        assert await counted(sidecar, "pacs_broken") == 1


async def test_nothing_is_fetched_for_another_patients_study() -> None:
    """SIA-42, 45: the owner is asked for, the study is not opened."""
    pacs = ScriptedPacs(GOOD["chunked"], patient_id="somebody-else")
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession() as client,
        client.get(url + PATH, headers=HEADERS) as response,
    ):
        assert response.status == 404
        assert (await response.json(content_type=None))["resourceType"] == "OperationOutcome"
    assert all("?" in target for target in pacs.requests)
    assert pacs.patient_id != PATIENT

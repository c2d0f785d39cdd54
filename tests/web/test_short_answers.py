"""A short answer leaves when it is whole, with its length (SIA-40, 43)."""

import asyncio

import aiohttp
import pytest

from sidecar.web import stream_body
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import answer, chunked
from tests.fakes.site import HEADERS, sidecar_between
from tests.web.streams import counted

FRAME = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/frames/1"
OCTETS = b'Content-Type: multipart/related; type="application/octet-stream"; boundary=abc\r\n'
BODY = (
    b"--abc\r\nContent-Type: application/octet-stream\r\n\r\n" + bytes(5_000) + b"\r\n--abc--\r\n"
)
LENGTH = OCTETS + b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = OCTETS + b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(("head", "body"), [(LENGTH, BODY), (CHUNKS, chunked(BODY))])
async def test_it_has_a_length_however_the_archive_sent_it(head: bytes, body: bytes) -> None:
    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(answer(head, body))) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + FRAME) as response,
    ):
        assert (response.status, await response.read()) == (200, BODY)
        assert response.headers["Content-Length"] == str(len(BODY))
        assert await counted(sidecar, "complete", "frames") == 1
        sent = sidecar.metrics.registry.get_sample_value(
            "smart_imaging_streamed_bytes_total", {"kind": "frames"}
        )
    assert sent == len(BODY)


@pytest.mark.parametrize("cut", [1, 12, 4_000])
async def test_a_fault_of_its_end_is_an_error_with_a_status(cut: int) -> None:
    """No byte of it has left: a viewer learns that the archive failed, and its proxy does, too."""
    pacs = ScriptedPacs(answer(LENGTH, BODY[:-cut], abort=True))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + FRAME) as response,
    ):
        assert response.status == 502
        assert (await response.json(content_type=None))["resourceType"] == "OperationOutcome"


async def test_it_does_not_wait_for_an_archive_that_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_body, "SHORT_SECONDS", 0)
    begun = asyncio.Event()

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY[:3_000])
        await begun.wait()
        writer.write(BODY[3_000:])

    async with (
        sidecar_between(ScriptedEhr(), ScriptedPacs(write)) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + FRAME) as response,
    ):
        begun.set()
        assert (response.status, await response.read()) == (200, BODY)
        assert response.headers["Content-Length"] == str(len(BODY))

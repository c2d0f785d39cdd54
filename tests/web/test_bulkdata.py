"""Bulk data on its way: documents, what a browser would run, lengths, ranges, and what metadata
point to.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from sidecar.bootstrap.build import Sidecar
from tests.fakes.archive import INSTANCE, SERIES, STUDY, Answer, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PART, PATH, WHOLE, answer
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import WAIT_SECONDS, wait_until_async
from tests.web.streams import counted

OWN = f"{PATH}/series/{SERIES}/instances/{INSTANCE}"
VALUE = f"{OWN}/bulkdata/00420011"
PDF = b"%PDF-1.4 <script>alert(1)</script>"


def single(
    content_type: bytes, body: bytes = PDF, status: bytes = b"200 OK", more: bytes = b""
) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
    return head % (status, content_type, len(body), more) + body


def parts(root: bytes, *types: bytes) -> bytes:
    """A multipart answer, each part with its own Content-Type."""
    body = (
        b"".join(b"--abc\r\nContent-Type: %b\r\n\r\n%b\r\n" % (one, PDF) for one in types)
        + b"--abc--\r\n"
    )
    return single(b'multipart/related; type="%b"; boundary=abc' % root, body)


Got = tuple[int, dict[str, str], bytes, ScriptedPacs]


def writing(written: bytes) -> Answer:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(written)

    return write


def pacs_of(written: bytes) -> ScriptedPacs:
    return ScriptedPacs(writing(written))


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Callable[..., Awaitable[Got]]]:
    """Yield what asks a sidecar for bulk data, whose archive answers with what is ``written``."""
    pacs = pacs_of(b"")

    async def get(written: bytes, accept: str, path: str = VALUE, **more: str) -> Got:
        pacs.retrieve = writing(written)
        headers = {**HEADERS, "Accept": accept, **more}
        async with client.get(url + path, headers=headers) as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            return response.status, received, await response.read(), pacs

    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        yield get


async def get(written: bytes, accept: str, path: str = VALUE, **more: str) -> Got:
    """Ask a sidecar of its own."""
    async with site() as ask:
        return await ask(written, accept, path, **more)


RELATED = 'multipart/related; type="application/pdf"'
# Accept, the archive's answer -> Content-Type of ours, whether it leaves without a multipart.
SERVED: dict[str, tuple[str, bytes, str, bool]] = {
    "a PDF alone": ("application/pdf", single(b"application/pdf"), "application/pdf", True),
    "a PDF with a file name": (
        "application/pdf",
        single(b"application/pdf; name=Doe.pdf"),
        "application/pdf",
        True,
    ),
    "a PDF alone, of a multipart": (
        "application/pdf",
        parts(b"application/pdf", b"application/pdf"),
        "application/pdf",
        True,
    ),
    "a PDF as octets": (
        "application/pdf",
        parts(b"application/octet-stream", b"application/octet-stream"),
        "application/octet-stream",
        True,
    ),
    "a PDF in a multipart": (
        RELATED,
        parts(b"application/pdf", b"application/pdf"),
        "multipart/related",
        False,
    ),
    "whatever there is": ("*/*", single(b"application/pdf"), "application/pdf", True),
    "a model": ("model/stl", single(b"model/stl"), "model/stl", True),
    "a model of a multipart": ("model/obj", parts(b"model/obj", b"model/obj"), "model/obj", True),
    "a material": ("model/mtl", single(b"Model/MTL"), "model/mtl", True),
}


@pytest.mark.parametrize("what", SERVED)
async def test_an_encapsulated_document(what: str) -> None:
    accept, written, content_type, alone = SERVED[what]
    status, headers, body, pacs = await get(written, accept)
    assert (status, headers["content-type"].partition(";")[0]) == (200, content_type), body
    assert body == PDF if alone else PDF in body
    assert int(headers["content-length"]) == len(body)
    assert "Doe" not in str(headers)
    assert pacs.requests[-1].endswith(f"/instances/{INSTANCE}/bulkdata/00420011")


@pytest.mark.parametrize(
    "content_type", [b"application/pdf", b"Application/PDF", b"model/stl", b"model/obj"]
)
@pytest.mark.parametrize("path", [VALUE, f"{OWN}/rendered"])
async def test_a_page_can_do_nothing_with_a_document_on_our_origin(
    content_type: bytes, path: str
) -> None:
    """It is saved, not shown; if it were shown, it would be in no frame and in a sandbox; no type
    is guessed.
    """
    written = single(content_type, more=b"Content-Disposition: inline; filename=Doe.html\r\n")
    status, headers, _, _ = await get(written, "*/*", path)
    if path != VALUE and b"model" in content_type:
        assert status == 502
        return
    assert status == 200
    assert headers["content-disposition"] == "attachment"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "no-store" in headers["cache-control"]


RUNS = [
    b"text/html",
    b"Text/HTML; charset=utf-8",
    b"application/xhtml+xml",
    b"image/svg+xml",
    b"IMAGE/SVG+XML",
    b"text/xml",
    b"application/xml; x=y",
    b"model/x3d+xml",
    b"text/html; type=application/pdf",
    b"application/pdf; type=text/xml",
    b"application/pdf, text/html",
    b"text/html;application/pdf",
]


@pytest.mark.parametrize("content_type", RUNS)
@pytest.mark.parametrize("accept", ["*/*", "application/pdf", RELATED])
async def test_what_a_browser_would_run_never_passes(content_type: bytes, accept: str) -> None:
    """Alone, as a multipart's type, as the type of a part of a good one, first or second."""
    good = b"application/pdf"
    answers = {
        "alone": single(content_type),
        "root": parts(content_type, good),
        "first part": parts(good, content_type),
        "of octets": parts(b"application/octet-stream", content_type),
    }
    async with site() as ask:
        for count, (where, written) in enumerate(answers.items(), 1):
            status, _, body, pacs = await ask(written, accept)
            assert status == 502, where
            assert PDF not in body
            # It was for this answer.
            assert sum("/bulkdata/" in target for target in pacs.requests) == count
        with contextlib.suppress(aiohttp.ClientError):
            status, _, body, _ = await ask(parts(good, good, content_type), accept)
            # 406: of one alone there were several.
            assert status in (406, 502), "a complete-looking success"


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/svg+xml",
        "text/xml",
        "application/xhtml+xml",
        'multipart/related; type="text/xml"',
        "Text/HTML;q=0.9",
    ],
)
async def test_what_a_browser_would_run_is_not_asked_for(accept: str) -> None:
    status, _, _, pacs = await get(single(b"application/pdf"), accept)
    assert status == 406
    assert not any("bulkdata" in target for target in pacs.requests)


def lengths(body: bytes, more: bytes = b"") -> bytes:
    return MULTIPART + b"Content-Length: %d\r\n" % len(body) + more


async def test_a_study_has_the_archives_content_length() -> None:
    """For progress bars: the bytes pass unchanged."""
    pacs = ScriptedPacs(answer(lengths(WHOLE), WHOLE))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _), aiohttp.ClientSession() as client:
        for method in ("GET", "HEAD"):
            async with client.request(method, url + PATH, headers=HEADERS) as response:
                assert response.status == 200
                assert response.headers["Content-Length"] == str(len(WHOLE))
                assert "Transfer-Encoding" not in response.headers
                assert await response.read() == (WHOLE if method == "GET" else b"")


async def test_a_rewritten_head_makes_it_chunked() -> None:
    located = WHOLE.replace(b"application/dicom\r\n", b"application/dicom\r\nX-Archive: 7\r\n")
    pacs = ScriptedPacs(answer(lengths(located), located))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + PATH) as response,
    ):
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        assert await response.read() == WHOLE


# Parts that come of how many the archive counts; what is done to the body.
CUT: dict[str, tuple[int, int, bytes]] = {
    "one is missing": (41, 40, b""),
    "one too many": (39, 40, b""),
    "cut off": (40, 40, b"cut"),
    "foreign at the end": (40, 40, b"foreign"),
}


@pytest.mark.parametrize("what", CUT)
async def test_what_is_cut_ends_in_a_broken_connection(what: str) -> None:
    """No short body, and no other answer behind it: the next request was written at once."""
    instances, sent, how = CUT[what]
    whole = PART * sent + b"--abc--\r\n"
    body = whole
    if how == b"cut":
        body = whole[:-30_000]
    elif how == b"foreign":
        body = PART * (sent - 1) + PART.replace(PATIENT.encode(), b"p2", 1) + b"--abc--\r\n"
        assert len(body) == len(whole)
    pacs = ScriptedPacs(answer(lengths(whole), body), instances=instances)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        authorization = HEADERS["Authorization"]
        request = f"GET {{}} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n"
        writer.write((request.format(PATH) + request.format("/fhir/metadata")).encode())
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(2**16), WAIT_SECONDS):
                received += data
        writer.close()
        head, _, got = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Content-Length: %d" % len(whole) in head
        assert len(got) < len(whole)
        assert whole.startswith(got)
        assert b"HTTP/1.1" not in got
        outcome = {"cut off": "pacs_broken", "foreign at the end": "verification_failed"}.get(
            what, "incomplete"
        )
        assert await counted(sidecar, outcome) == 1


BYTES = b"Accept-Ranges: bytes\r\n"
RANGES: dict[str, tuple[bytes, str, int, str | None, str | None]] = {
    # The archive's answer, Accept -> status, Content-Range, Accept-Ranges.
    "a piece of a PDF": (
        single(
            b"application/pdf", PDF[:5], b"206 Partial Content", b"Content-Range: bytes 0-4/34\r\n"
        ),
        "application/pdf",
        206,
        "bytes 0-4/34",
        None,
    ),
    "a whole PDF": (single(b"application/pdf", more=BYTES), "application/pdf", 200, None, "bytes"),
    "a multipart whose length is known": (
        parts(b"application/pdf", b"application/pdf").replace(
            b"Content-Length", BYTES + b"Content-Length"
        ),
        RELATED,
        200,
        None,
        None,
    ),
    "a piece of a multipart": (
        parts(b"application/pdf", b"application/pdf").replace(
            b"200 OK\r\n", b"206 Partial Content\r\nContent-Range: bytes 0-99/200\r\n"
        ),
        RELATED,
        502,
        None,
        None,
    ),
}


@pytest.mark.parametrize("what", RANGES)
async def test_ranges(what: str) -> None:
    """Of what comes alone; a piece of a multipart could not be looked at."""
    written, accept, status, content_range, accept_ranges = RANGES[what]
    found, headers, body, _ = await get(written, accept, Range="bytes=0-4")
    assert found == status
    assert headers.get("content-range") == content_range
    assert headers.get("accept-ranges") == accept_ranges
    if status < 300:
        assert int(headers["content-length"]) == len(body)
        assert ("content-disposition" in headers) == (accept == "application/pdf")


ROW = {
    "00100020": {"vr": "LO", "Value": [PATIENT]},
    "0020000D": {"vr": "UI", "Value": [STUDY]},
    "0020000E": {"vr": "UI", "Value": [SERIES]},
    "00080018": {"vr": "UI", "Value": [INSTANCE]},
    "00420011": {
        "vr": "OB",
        "BulkDataURI": f"series/{SERIES}/instances/{INSTANCE}/bulkdata/00420011"
        "?accept=application/pdf",
    },
    "00281201": {"vr": "OW", "BulkDataURI": "../../bulkdata/6ab12ef3.mp"},
    "00091001": {"vr": "OB", "BulkDataURI": "http://elsewhere.internal/x"},
    "00091002": {
        "vr": "OB",
        "BulkDataURI": f"/rs/studies/1.9/series/{SERIES}/instances/{INSTANCE}/bulkdata/00091002",
    },
}


def dropped(sidecar: Sidecar, reason: str) -> float:
    name = "smart_imaging_bulkdata_uris_dropped_total"
    return sidecar.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


async def test_what_metadata_point_to_can_be_fetched(caplog: pytest.LogCaptureFixture) -> None:
    """And what is left out is counted and logged, with the reason, and without what it named."""
    written = {
        "metadata": single(b"application/dicom+json", json.dumps([ROW]).encode()),
        "00420011": single(b"application/pdf"),
    }

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(written[pacs.requests[-1].rpartition("/")[2]])

    pacs = ScriptedPacs(write)
    caplog.set_level(logging.WARNING)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        async with client.get(f"{url}{OWN}/metadata") as response:
            assert response.status == 200, await response.text()
            (row,) = json.loads(await response.read())
        named = row["00420011"]["BulkDataURI"]
        assert named == f"http://sidecar.example.org{VALUE}?accept=application/pdf"
        for tag in ("00281201", "00091001", "00091002"):
            assert set(row[tag]) == {"vr"}
        await wait_until_async("the reasons are counted", lambda: dropped(sidecar, "study"))
        assert [
            dropped(sidecar, reason) for reason in ("unattributed", "host", "study", "path")
        ] == [1, 1, 1, 0]
        async with client.get(named.replace("http://sidecar.example.org", url)) as response:
            assert (response.status, await response.read()) == (200, PDF)
        assert (
            pacs.requests[-1]
            == f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/bulkdata/00420011"
        )
    (record,) = [one for one in caplog.records if "BulkDataURI" in one.getMessage()]
    assert record.__dict__["dropped"] == {"unattributed": 1, "host": 1, "study": 1}
    logged = str(record.__dict__)
    assert not any(secret in logged for secret in (STUDY, "6ab12ef3", "elsewhere", PATIENT + "'"))

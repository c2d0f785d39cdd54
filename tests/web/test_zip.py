"""``Accept: application/zip``: a study or series as a ZIP, whole and checked, or none that opens
(SIA-40..43).
"""

import asyncio
import contextlib
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import aiohttp
import pytest

from tests.authorization.capability_urls import bound, endpoint_of, keys_file
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import SERIES, STUDY, Answer, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PATH, PIXELS, answer
from tests.fakes.site import HEADERS, fetch_whole, sidecar_between
from tests.stalls import measured
from tests.waiting import WAIT_SECONDS
from tests.web.counts import COUNTS, Corrected, framed
from tests.web.foreign import FOREIGN, failures
from tests.web.old_client import expect_reset
from tests.web.records import to, told
from tests.web.streams import counted, streams

__all__ = ["keys_file"]
ZIP = HEADERS | {"Accept": "application/zip"}
FRAMINGS = ["content-length", "chunked", "until-close"]


@functools.cache
def instance(number: int) -> bytes:
    made = dataset(
        PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SeriesNumber=4
    )
    made.InstanceNumber, made.BitsAllocated, made.PixelData = number, 8, PIXELS
    return encoded(made)


def part(number: int) -> bytes:
    return b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + instance(number) + b"\r\n"


def study(parts: int) -> bytes:
    return b"".join(map(part, range(1, parts + 1))) + b"--abc--\r\n"


def study_files() -> dict[str, bytes]:
    return {f"DICOM/0004-CT/{number:04d}.dcm": instance(number) for number in range(1, 6)}


def files(whole: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        assert {one.compress_type for one in opened.infolist()} == {ZIP_STORED}
        return {name: opened.read(name) for name in opened.namelist()}


def opens(got: bytes) -> bool:
    try:
        ZipFile(io.BytesIO(got))
    except BadZipFile:
        return False
    return True


async def fetch(
    url: str, path: str = PATH, headers: dict[str, str] = ZIP
) -> tuple[int, bytes, bool]:
    """The status, the body and whether it came whole."""
    return await fetch_whole(url + path, headers)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_study(framing: str) -> None:
    """A file an instance, as stored; the archive is asked for the multipart that can be checked."""
    pacs = ScriptedPacs(framed(MULTIPART + b'ETag: "one"\r\n', study(5), framing))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(url + PATH, headers=ZIP) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/zip"
            assert response.headers["Content-Disposition"] == 'attachment; filename="study.zip"'
            assert response.headers["ETag"] == '"one"'
            assert "Content-Length" not in response.headers
            whole = await response.read()
        assert files(whole) == study_files()
        assert await counted(sidecar, "complete") == 1
        assert sidecar.metrics.registry.get_sample_value(
            "smart_imaging_streamed_bytes_total", {"kind": "study"}
        ) == len(whole)
    accept = next(
        line for line in pacs.heads[-1].splitlines() if line.lower().startswith("accept:")
    )
    assert accept.endswith('multipart/related; type="application/dicom"; transfer-syntax=*')


@pytest.mark.parametrize(
    "root", ["/wado-rs", f"/fhir/Patient/{PATIENT}/$wado-rs", f"/fhir/Patient/{PATIENT}/%24wado-rs"]
)
@pytest.mark.parametrize("path", ["", f"/series/{SERIES}"])
@pytest.mark.parametrize("query", [True, False])
async def test_each_root_and_each_way_to_ask(root: str, path: str, query: bool) -> None:
    """PS3.18 8.3.3.1: ``accept=`` comes before the header."""
    pacs = ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    target = f"{root}/studies/{STUDY}{path}" + ("?accept=application/zip" if query else "")
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, _ = await fetch(url, target, HEADERS | {"Accept": "*/*"} if query else ZIP)
        assert status == 200
        assert files(got) == study_files()
        assert await counted(sidecar, "complete", "series" if path else "study") == 1
    assert "zip" not in pacs.requests[-1] + pacs.heads[-1]


async def test_behind_a_capability_url(keys_file: Path) -> None:
    pacs = ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    async with (
        sidecar_between(ScriptedEhr(), pacs, capabilities=bound(keys_file)) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        root = (await endpoint_of(client, url))["address"]
        assert files((await fetch(root, f"/studies/{STUDY}"))[1]) == study_files()
        assert (await fetch(root, f"/studies/{STUDY}", {"Accept": "application/zip"}))[0] == 401


async def test_a_series_is_called_one() -> None:
    pacs = ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=ZIP) as client,
        client.get(f"{url}{PATH}/series/{SERIES}") as response,
    ):
        assert response.headers["Content-Disposition"] == 'attachment; filename="series.zip"'


async def test_head_has_no_body() -> None:
    pacs = ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=ZIP) as client,
        client.head(url + PATH) as response,
    ):
        assert (response.status, response.headers["Content-Type"]) == (200, "application/zip")
        assert await response.read() == b""


async def test_what_the_client_has_is_not_sent_again() -> None:
    async def unchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "one"\r\n\r\n')

    async with sidecar_between(ScriptedEhr(), ScriptedPacs(unchanged)) as (url, _):
        assert await fetch(url, headers=ZIP | {"If-None-Match": '"one"'}) == (304, b"", True)


async def test_others_are_told_what_there_is() -> None:
    async with sidecar_between(
        ScriptedEhr(), ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    ) as (url, _):
        status, got, _ = await fetch(url, headers=HEADERS | {"Accept": "text/html"})
        assert status == 406
        assert "multipart/related or application/zip" in json.loads(got)["issue"][0]["diagnostics"]
        status, _, _ = await fetch(url, f"{PATH}/series/{SERIES}/instances/1.2.840.1.1.1")
        assert status == 406


@pytest.mark.parametrize(
    ("case", "framing"),
    [
        # In each framing as a multipart (test_completeness.py), of which a ZIP is made.
        pytest.param(case, framing, marks=pytest.mark.exhaustive if framing != FRAMINGS[0] else ())
        for case in COUNTS
        for framing in FRAMINGS
    ],
)
async def test_the_directory_waits_for_the_count(case: str, framing: str) -> None:
    """As a multipart's closing delimiter does."""
    first, sent, then, is_whole = COUNTS[case]
    async with sidecar_between(
        ScriptedEhr(), Corrected(framed(MULTIPART, study(sent), framing), first, then)
    ) as (
        url,
        sidecar,
    ):
        status, got, came_whole = await fetch(url)
        assert (status, came_whole, opens(got)) == (200, is_whole, is_whole)
        assert len(files(got)) == sent if is_whole else b"PK\5\6" not in got
        assert await counted(sidecar, "complete" if is_whole else "incomplete") == 1
        assert failures(sidecar, "instance") == 0


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_short_one_that_is_not_complete_is_an_error(framing: str) -> None:
    body = (
        b"--abc\r\n\r\n"
        + encoded(dataset(PatientID=PATIENT, StudyInstanceUID=STUDY))
        + b"\r\n--abc--"
    )
    async with sidecar_between(ScriptedEhr(), ScriptedPacs(framed(MULTIPART, body, framing))) as (
        url,
        _,
    ):
        status, got, _ = await fetch(url)
        assert status == 503
        assert (
            json.loads(got)["issue"][0]["diagnostics"] == "The study has just changed; try again."
        )


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("before", [0, 3, 200])
async def test_a_foreign_instance(what: str, before: int) -> None:
    """An error while nothing was sent, else a connection that breaks."""
    whole = b"".join(map(part, range(before))) + FOREIGN[what] + study(1)
    pacs = ScriptedPacs(framed(MULTIPART, whole, "content-length"), instances=before + 2)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, came_whole = (502, b"", False)
        with contextlib.suppress(aiohttp.ClientError):
            status, got, came_whole = await fetch(url)
        assert (status == 502) if came_whole else before > 0
        assert not opens(got)
        assert b"somebody-else" not in got
        assert (
            failures(
                sidecar,
                "unreadable_instance" if what in ("unreadable", "no patient") else "instance",
            )
            == 1
        )
        assert await counted(sidecar, "verification_failed") == 1
        assert streams(sidecar, "complete") == 0


async def test_an_excluded_series() -> None:
    """SIA-43: it came while the study was sent."""
    rules = {
        "rules": [
            {"name": "r", "effect": "exclude", "series": {"Modality": ["SR"]}, "unknown": "ignored"}
        ]
    }
    other = dataset(PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES + ".9")
    whole = b"--abc\r\n\r\n" + encoded(other) + b"\r\n" + study(4)
    pacs = ScriptedPacs(framed(MULTIPART, whole, "chunked"))
    async with sidecar_between(ScriptedEhr(), pacs, access=rules) as (url, sidecar):
        assert (await fetch(url))[0] == 503
        assert await counted(sidecar, "excluded") == 1


# Each makes its answer of a study of 40 instances.
BROKEN: dict[str, Callable[[bytes], Answer]] = {
    "no closing delimiter": lambda whole: framed(
        MULTIPART, whole[: -len("--abc--\r\n")], "until-close"
    ),
    "half a delimiter": lambda whole: framed(MULTIPART, whole[:-5], "until-close"),
    "half an instance": lambda whole: framed(MULTIPART, whole[:-20_000], "chunked"),
    "short": lambda whole: answer(
        MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole[:-20_000]
    ),
    "reset": lambda whole: answer(
        MULTIPART + b"Content-Length: %d\r\n" % len(whole), whole[:2_000_000], abort=True
    ),
    "something behind it": lambda whole: framed(MULTIPART, whole + b"x", "chunked"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_answer_never_opens(fault: str) -> None:
    async with sidecar_between(
        ScriptedEhr(), ScriptedPacs(BROKEN[fault](study(40)), instances=40)
    ) as (
        url,
        sidecar,
    ):
        got, came_whole = b"", False
        with contextlib.suppress(aiohttp.ClientError):
            _, got, came_whole = await fetch(url)
        assert not came_whole
        assert not opens(got)
        assert await counted(sidecar, "pacs_broken") == 1


async def test_an_http_1_0_client_sees_that_it_is_not_whole() -> None:
    """Without chunks the end of the connection is the end of the body: it must be a reset."""
    async with sidecar_between(
        ScriptedEhr(), ScriptedPacs(BROKEN["no closing delimiter"](study(40)), instances=40)
    ) as (url, _):
        await expect_reset(url, "Accept: application/zip\r\n")


async def test_a_client_that_leaves_stops_the_archive() -> None:
    """And what it has is no ZIP."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Connection: close\r\n\r\n")
        while True:
            writer.write(part(1))
            await writer.drain()

    pacs = ScriptedPacs(endless)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession(headers=ZIP) as client,
    ):
        async with client.get(url + PATH) as response:
            got = await response.content.readexactly(1_000_000)
        assert not opens(got)
        await asyncio.wait_for(pacs.gone.wait(), WAIT_SECONDS)
        assert await counted(sidecar, "client_gone") == 1


@pytest.mark.parametrize(
    ("parts", "cut", "end"),
    [(5, None, ("0", "status 200")), (40, -9, ("8", "pacs_truncated"))],
)
async def test_the_trail_has_its_beginning_and_its_end(
    parts: int, cut: int | None, end: tuple[str, str], tmp_path: Path
) -> None:
    """SIA-60: as for the multipart."""
    file = tmp_path / "audit.jsonl"
    pacs = ScriptedPacs(framed(MULTIPART, study(parts)[:cut], "until-close"))
    async with sidecar_between(ScriptedEhr(), pacs, audit=to(file)) as (url, _):
        with contextlib.suppress(aiohttp.ClientError):
            await fetch(url)
    assert told(file) == [("0", "permitted"), end]


@pytest.mark.parametrize("number", [10_000, pytest.param(30_000, marks=pytest.mark.exhaustive)])
async def test_many_instances_do_not_hold_the_event_loop(
    number: int, request: pytest.FixtureRequest
) -> None:
    """Each has an entry in the directory; that is written aside, and leaves in blocks."""
    small = dataset(
        PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, InstanceNumber=1
    )
    whole = (b"--abc\r\n\r\n" + encoded(small) + b"\r\n") * number + b"--abc--\r\n"
    pacs = ScriptedPacs(framed(MULTIPART, whole, "content-length"), instances=number)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=ZIP) as client,
    ):
        pieces = []
        with measured(request):
            async with client.get(url + PATH) as response:
                async for chunk in response.content.iter_any():
                    pieces.append(chunk)  # noqa: PERF401
    assert len(ZipFile(io.BytesIO(b"".join(pieces))).namelist()) == number

"""A study that changes while it is sent: what is left of it never looks whole (SIA-43)."""

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from sidecar.bootstrap.build import Sidecar
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import SERIES, STUDY, Answer, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PART, PATH
from tests.fakes.site import HEADERS, fetch_whole, sidecar_between
from tests.web.counts import COUNTS, Corrected, framed
from tests.web.foreign import failures, metadata_row
from tests.web.old_client import expect_reset
from tests.web.streams import streams

SHORT_PART = b"--abc\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % encoded(
    dataset(PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)
)
JSON = b"Content-Type: application/dicom+json\r\n"


def study(parts: int) -> bytes:
    return PART * parts + b"--abc--\r\n"


def rows(number: int) -> bytes:
    series = {"0020000E": {"vr": "UI", "Value": [SERIES]}}
    return json.dumps([metadata_row(PATIENT, at) | series for at in range(number)]).encode()


async def fetch(url: str, path: str) -> tuple[int, bytes, bool]:
    """The status, the body and whether it came whole."""
    return await fetch_whole(url + path, HEADERS)


@pytest.mark.parametrize("framing", ["content-length", "chunked", "until-close"])
@pytest.mark.parametrize("case", COUNTS)
async def test_a_study(case: str, framing: str) -> None:
    """Whole and unchanged, or broken off."""
    first, sent, then, is_whole = COUNTS[case]
    async with sidecar_between(
        ScriptedEhr(), Corrected(framed(MULTIPART, study(sent), framing), first, then)
    ) as (
        url,
        sidecar,
    ):
        status, got, came_whole = await fetch(url, PATH)
        assert (status, came_whole) == (200, is_whole)
        assert (got == study(sent)) is is_whole
        assert got.endswith(b"--abc--\r\n") is is_whole
        check(sidecar, "study", is_whole=is_whole)


SHORT_COUNTS: list[tuple[int, int, int | None, bool]] = [
    (3, 3, 3, True),
    (3, 2, 2, True),
    (3, 2, 1, False),
    (3, 2, 3, False),
    (3, 2, None, False),
    (3, 3, 5, True),
    (3, 4, 5, True),
    (3, 6, 5, False),
]


@pytest.mark.parametrize("framing", ["content-length", "chunked", "until-close"])
@pytest.mark.parametrize(("first", "sent", "then", "is_whole"), SHORT_COUNTS)
async def test_a_short_study(
    framing: str, first: int, sent: int, then: int | None, is_whole: bool
) -> None:
    """As nothing has been sent before the end is known, it is an error with a status."""
    body = SHORT_PART * sent + b"--abc--\r\n"
    async with sidecar_between(
        ScriptedEhr(), Corrected(framed(MULTIPART, body, framing), first, then)
    ) as (
        url,
        sidecar,
    ):
        status, got, came_whole = await fetch(url, PATH)
        assert (status, came_whole) == (200 if is_whole else 503, True)
        if is_whole:
            assert got == body
        else:
            assert (
                json.loads(got)["issue"][0]["diagnostics"]
                == "The study has just changed; try again."
            )
        check(sidecar, "study", is_whole=is_whole)


def check(sidecar: Sidecar, kind: str, *, is_whole: bool) -> None:
    """It is counted as what it is, and is no alarm."""
    assert streams(sidecar, "complete" if is_whole else "incomplete", kind) == 1
    assert streams(sidecar, "incomplete" if is_whole else "complete", kind) == 0
    assert failures(sidecar, "instance") == failures(sidecar, "metadata") == 0


@pytest.mark.parametrize(
    ("sent", "then", "is_whole"), [(1_500, 1_500, True), (700, 600, False), (1_500, 1_600, True)]
)
@pytest.mark.parametrize("path", ["/metadata", f"/series/{SERIES}/metadata"])
async def test_metadata(path: str, sent: int, then: int, is_whole: bool) -> None:
    pacs = Corrected(framed(JSON, rows(sent), "content-length"), 1_500, then)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, came_whole = await fetch(url, PATH + path)
        assert streams(sidecar, "complete" if is_whole else "incomplete", "metadata") == 1
        assert (status, came_whole) == (200, is_whole)
        assert got.endswith(b"]") is is_whole


async def test_short_metadata_that_is_not_complete_is_an_error() -> None:
    async with sidecar_between(
        ScriptedEhr(), Corrected(framed(JSON, rows(2), "chunked"), 3, 3)
    ) as (url, _):
        status, got, came_whole = await fetch(url, f"{PATH}/metadata")
        assert (status, came_whole) == (503, True)
        assert json.loads(got)["resourceType"] == "OperationOutcome"


async def test_an_error_says_when_to_try_again() -> None:
    async with (
        sidecar_between(ScriptedEhr(), Corrected(framed(MULTIPART, study(1), "chunked"), 3, 3)) as (
            url,
            _,
        ),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(url + PATH) as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize(("sent", "is_whole"), [(40, True), (24, False)])
async def test_a_series(sent: int, is_whole: bool) -> None:
    pacs = Corrected(framed(MULTIPART, study(sent), "until-close"), 40, 40)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, came_whole = await fetch(url, f"{PATH}/series/{SERIES}")
        assert (status, came_whole) == (200, is_whole)
        assert streams(sidecar, "complete" if is_whole else "incomplete", "series") == 1
        assert got.endswith(b"--abc--\r\n") is is_whole
    assert any(f"/series?SeriesInstanceUID={SERIES}&" in target for target in pacs.requests)


@pytest.mark.parametrize(("sent", "is_whole"), [(40, True), (24, False)])
async def test_an_archive_that_does_not_count_lists(sent: int, is_whole: bool) -> None:
    pacs = Corrected(framed(MULTIPART, study(sent), "chunked"), None, None, listed=40)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _):
        assert (await fetch(url, PATH))[2] is is_whole
    assert any("/instances?" in target for target in pacs.requests)


async def test_more_than_can_be_listed_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of a study is passed on whose end nobody could know, and the archive is not asked for
    it.
    """
    pacs = ScriptedPacs(framed(MULTIPART, study(1), "chunked"), instances=None, listed=30)
    async with sidecar_between(ScriptedEhr(), pacs, limits={"query_results": 20}) as (url, _):
        status, got, _ = await fetch(url, PATH)
        assert status == 502
        assert "how many instances" in json.loads(got)["issue"][0]["diagnostics"]
    assert all("?" in target for target in pacs.requests)
    assert "pacs_uncounted" in {getattr(one, "reason", None) for one in caplog.records}


async def test_an_archive_that_cannot_be_asked_again_ends_nothing() -> None:
    """Whether it was all cannot be known then."""

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pacs.listed = 0
        pacs.instances = None
        pacs.patient_id = ""
        await framed(MULTIPART, study(24), "chunked")(reader, writer)

    pacs = ScriptedPacs(write, instances=40)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        assert not (await fetch(url, PATH))[2]
        assert streams(sidecar, "incomplete") == 1


async def test_an_http_1_0_client_sees_that_it_is_not_whole() -> None:
    """Without chunks the end of the connection is the end of the body: it must be a reset."""
    pacs = Corrected(framed(MULTIPART, study(24), "until-close"), 40, 40)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, _):
        await expect_reset(url)


@pytest.mark.parametrize(
    "path", ["/rendered", "/pixeldata", f"/series/{SERIES}/instances/1.2.840.1.1.1/frames/1"]
)
async def test_what_is_not_counted_is_not_asked_for(path: str) -> None:
    """Of drawn images and pixel data an archive does not say how many there are."""
    kind, head = (
        ("image/jpeg", b"image/jpeg")
        if "rendered" in path
        else ("*/*", b"application/octet-stream")
    )
    whole = b"--abc\r\nContent-Type: " + head + b"\r\n\r\nx\r\n--abc--\r\n"
    typed = b'Content-Type: multipart/related; type="' + head + b'"; boundary=abc\r\n'
    pacs = ScriptedPacs(framed(typed, whole, "chunked"), instances=7)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as client,
        client.get(
            url + PATH + path, headers={"Accept": f'multipart/related; type="{kind}"'}
        ) as response,
    ):
        assert response.status == 200
        assert await response.read() == whole
    assert not any("RelatedInstances" in target for target in pacs.requests)


async def test_a_study_that_is_no_longer_the_patients_is_refused_whatever_is_remembered() -> None:
    """The count is asked for before the archive is, and names the patient."""
    pacs = ScriptedPacs(framed(MULTIPART, study(5), "chunked"))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        assert (await fetch(url, PATH))[0] == 200
        pacs.patient_id = "somebody-else"
        retrievals = sum("?" not in target for target in pacs.requests)
        for path in ("", "/metadata", f"/series/{SERIES}", f"/series/{SERIES}/metadata"):
            assert (await fetch(url, PATH + path))[0] == 404
        assert sum("?" not in target for target in pacs.requests) == retrievals
        assert failures(sidecar, "instance") == failures(sidecar, "metadata") == 0


async def test_a_warmed_answer_is_compared_with_the_count_before_it_was_begun() -> None:
    """What came since then is not in it, and is no fault of it."""
    ready = asyncio.Event()

    async def tape(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ready.wait()
        await framed(MULTIPART, study(5), "chunked")(reader, writer)

    pacs = ScriptedPacs(tape)
    async with sidecar_between(ScriptedEhr(), pacs, limits={"defer_after_seconds": 0.2}) as (
        url,
        sidecar,
    ):
        assert (await fetch(url, PATH))[0] == 503
        pacs.instances = 9
        ready.set()
        assert await fetch(url, PATH) == (200, study(5), True)
        assert streams(sidecar, "complete") == 1


FOREIGN_ROW = json.dumps([metadata_row("somebody-else", 1)]).encode()
FOREIGN_PART = PART.replace(b"p1", b"p2")
HOLDING: dict[str, tuple[str, Callable[[], Answer], str]] = {
    "an instance": (
        "",
        lambda: framed(MULTIPART, PART * 30 + FOREIGN_PART + b"--abc--\r\n", "chunked"),
        "instance",
    ),
    "metadata": ("/metadata", lambda: framed(JSON, FOREIGN_ROW, "chunked"), "metadata"),
}


@pytest.mark.parametrize("holding", HOLDING)
@pytest.mark.parametrize("is_corrected", [True, False])
async def test_a_correction_is_no_alarm_and_all_else_is(
    holding: str, is_corrected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What the archive still says is this patient's while the bytes say otherwise is the alarm."""
    path, foreign, what = HOLDING[holding]

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_corrected:
            pacs.patient_id = "p2"
        await foreign()(reader, writer)

    pacs = ScriptedPacs(write)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, came_whole = await fetch(url, PATH + path)
        assert not (status == 200 and came_whole)
        assert b"p2" not in got
        assert b"somebody-else" not in got
        kind = "metadata" if path else "study"
        assert failures(sidecar, what) == (0 if is_corrected else 1)
        assert streams(sidecar, "corrected", kind) == (1 if is_corrected else 0)
        assert streams(sidecar, "verification_failed", kind) == (0 if is_corrected else 1)
        if path:  # Nothing had been sent.
            assert status == (404 if is_corrected else 502)
        told = [one for one in caplog.records if one.name == "sidecar.web.stream"]
        assert [one.levelname for one in told] == ["WARNING" if is_corrected else "ERROR"]
        # Everything that was remembered of the study has been dropped.
        assert ((await fetch(url, PATH))[0] == 404) is is_corrected


async def test_an_archive_that_cannot_be_asked_explains_nothing() -> None:
    """Then it is an alarm."""

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await framed(JSON, FOREIGN_ROW, "chunked")(reader, writer)
        pacs.retrieve = hang

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    class Away(ScriptedPacs):
        def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
            if self.retrieve is hang:
                writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
            else:
                super()._rows(target, writer)

    pacs = Away(write)
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        assert (await fetch(url, f"{PATH}/metadata"))[0] == 502
        assert failures(sidecar, "metadata") == 1


@pytest.mark.parametrize("is_corrected", [True, False])
async def test_rows_of_a_study_that_was_corrected(is_corrected: bool) -> None:
    """An archive that ignores PatientID below a study: its rows are left out, and are an alarm
    unless explained.
    """

    class Loose(ScriptedPacs):
        def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
            known = self.patient_id
            if "/series?" in target:
                self.patient_id = "somebody-else"
            super()._rows(target, writer)
            if not is_corrected:
                self.patient_id = known

    pacs = Loose(framed(MULTIPART, study(5), "chunked"))
    async with sidecar_between(ScriptedEhr(), pacs) as (url, sidecar):
        status, got, _ = await fetch(url, f"{PATH}/series")
        assert status == (404 if is_corrected else 200)
        assert failures(sidecar, "series_row") == (0 if is_corrected else 1)
        assert STUDY.encode() not in got

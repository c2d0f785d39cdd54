"""HEAD of a retrieval: by the archive's own HEAD where it has that, else by a GET that is cut off
(RFC 9110 9.3.2).
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, answering
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.pacs.fake import row

AT_INSTANCE = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"
FOREIGN = "1.2.840.2"
MADE = encoded(
    dataset(
        PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE
    )
)
PART = b"--abc\r\nContent-Type: application/dicom\r\n\r\n" + MADE + b"\r\n"
MULTIPART = PART + b"--abc--\r\n"
FRAME = b"--abc\r\nContent-Type: application/octet-stream\r\n\r\n0123456789\r\n--abc--\r\n"


class Archive:
    """Has one study of the patient and one of somebody else. ``heads``: what it answers to a HEAD.

    ``json_type``: the media type of its metadata.

    Notes the method of each retrieval. Of whole instances it is asked by GET alone, too: whose they
    are.
    """

    def __init__(self, heads: str = "as GET", json_type: str = "application/dicom+json") -> None:
        self.heads = heads
        self.json_type = json_type
        self.asked: list[tuple[str, str]] = []

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "limit" in request.query:
            return self._rows(request)
        what = request.path.removeprefix("/rs/")
        self.asked.append((request.method, what))
        found = self._retrieval(what)
        if request.method == "HEAD" and self.heads != "as GET":
            if self.heads.isdigit():
                return web.Response(status=int(self.heads))
            if self.heads == "length 0":
                return web.Response(
                    headers={"Content-Type": found.headers["Content-Type"], "Content-Length": "0"}
                )
            return web.Response(
                headers={"Content-Type": "" if self.heads == "no type" else "text/html"}
            )
        return found

    def _rows(self, request: web.Request) -> web.Response:
        wanted = request.query.get("StudyInstanceUID", STUDY)
        rows = [
            row(patient, study, f"{study}.1", f"{study}.1.1", NumberOfStudyRelatedInstances=1)
            for patient, study in ((PATIENT, STUDY), ("somebody else", FOREIGN))
            if study
            in (wanted, request.path.split("/")[3] if request.path.count("/") > 3 else wanted)
        ]
        return web.json_response(
            rows[int(request.query.get("offset", 0)) :], content_type="application/dicom+json"
        )

    def _retrieval(self, what: str) -> web.Response:
        kind = what.rpartition("/")[2]
        headers = {"ETag": '"1"'}
        if kind == "metadata":
            rows = [row(PATIENT, STUDY, SERIES, INSTANCE)]
            return web.json_response(rows, content_type=self.json_type, headers=headers)
        if kind == "rendered":
            return web.Response(body=b"\xff\xd8\xff", content_type="image/jpeg", headers=headers)
        named, body = (
            ("application/octet-stream", FRAME)
            if "/frames/" in what
            else ("application/dicom", MULTIPART)
        )
        content_type = f'multipart/related; type="{named}"; boundary=abc'
        return web.Response(body=body, headers={**headers, "Content-Type": content_type})


async def head(archive: Archive, path: str, accept: str = "*/*") -> tuple[int, Mapping[str, str]]:
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession() as client,
        client.head(url + path, headers={**HEADERS, "Accept": accept}) as answer,
    ):
        assert await answer.read() == b""
        return answer.status, answer.headers


RESOURCES: dict[str, tuple[str, str, str, int | None]] = {
    "study": (f"/wado-rs/studies/{STUDY}", "*/*", "multipart/related", None),
    "series": (f"/wado-rs/studies/{STUDY}/series/{SERIES}", "*/*", "multipart/related", None),
    "instance": (AT_INSTANCE, "*/*", "multipart/related", None),
    "instance alone": (AT_INSTANCE, "application/dicom", "application/dicom", None),
    "metadata": (
        f"/wado-rs/studies/{STUDY}/metadata",
        "application/dicom+json",
        "application/dicom+json",
        None,
    ),
    "frames": (f"{AT_INSTANCE}/frames/1", "*/*", "multipart/related", None),
    "frame alone": (
        f"{AT_INSTANCE}/frames/1",
        "application/octet-stream",
        "application/octet-stream",
        None,
    ),
    "rendered": (f"{AT_INSTANCE}/rendered", "image/jpeg", "image/jpeg", 3),
}
"""Path, Accept, media type of the answer, and its length where that is known without the body."""


@pytest.mark.parametrize("name", RESOURCES)
async def test_the_archive_makes_no_body_where_it_answers_heads(name: str) -> None:
    path, accept, media_type, length = RESOURCES[name]
    archive = Archive()
    status, headers = await head(archive, path, accept)
    assert status == 200
    assert headers["Content-Type"].partition(";")[0] == media_type
    assert headers.get("Content-Length") == (None if length is None else str(length))
    assert headers["ETag"] == '"1"'
    assert [method for method, what in archive.asked if what == path.removeprefix("/wado-rs/")] == [
        "HEAD"
    ]


async def test_metadata_have_the_type_that_a_get_has() -> None:
    """Whatever the archive writes."""
    for heads in ("as GET", "404"):
        archive = Archive(heads, "application/json")
        _, headers = await head(
            archive, f"/wado-rs/studies/{STUDY}/metadata", "application/dicom+json"
        )
        assert headers["Content-Type"].partition(";")[0] == "application/dicom+json"


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize("heads", ["404", "405", "501", "length 0", "no type", "text/html"])
async def test_what_no_head_says_a_get_does(name: str, heads: str) -> None:
    """A 404 to a HEAD says nothing: Orthanc answers each of them so, whatever there is."""
    path, accept, media_type, length = RESOURCES[name]
    archive = Archive(heads)
    status, headers = await head(archive, path, accept)
    assert status == 200
    assert headers["Content-Type"].partition(";")[0] == media_type
    assert length is None or headers["Content-Length"] == str(length)
    assert ("GET", path.removeprefix("/wado-rs/")) in archive.asked


@pytest.mark.parametrize(("heads", "asked"), [("as GET", 3), ("404", 1), ("405", 1)])
async def test_an_archive_without_heads_is_asked_once(heads: str, asked: int) -> None:
    """And one that has answered one before is asked again, whatever it answers to another."""
    archive = Archive(heads)
    path = f"{AT_INSTANCE}/rendered"
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        for other in ("as GET", "404", "404"):
            async with client.head(
                url + path, headers={**HEADERS, "Accept": "image/jpeg"}
            ) as answer:
                assert answer.status == 200
            archive.heads = other if heads == "as GET" else heads
    assert len([1 for method, _ in archive.asked if method == "HEAD"]) == asked


async def test_orthanc_is_not_asked_so_at_all() -> None:
    archive = Archive("404")
    changes: dict[str, Any] = {"pacs": {"dialect": "orthanc"}}
    async with (
        sidecar_between(ScriptedEhr(), archive, **changes) as (url, _),
        aiohttp.ClientSession() as client,
        client.head(url + AT_INSTANCE, headers=HEADERS) as answer,
    ):
        assert answer.status == 200
    assert {method for method, _ in archive.asked} == {"GET"}


@pytest.mark.parametrize("heads", ["as GET", "404"])
@pytest.mark.parametrize(
    "below",
    [
        "",
        "/metadata",
        "/series/1.2.840.2.1",
        "/series/1.2.840.2.1/instances/1.2.840.2.1.1/rendered",
    ],
)
async def test_foreign_and_absent_are_the_same(heads: str, below: str) -> None:
    """Status and header lines; and the archive is asked for neither."""
    answers = []
    for study in (FOREIGN, "1.2.840.9"):
        archive = Archive(heads)
        status, headers = await head(archive, f"/wado-rs/studies/{study}{below}")
        assert status == 404
        assert archive.asked == []
        answers.append(
            [pair for pair in headers.items() if pair[0].lower() not in ("x-request-id", "date")]
        )
    assert answers[0] == answers[1]


async def test_a_condition_that_holds_is_a_304() -> None:
    archive = Archive("304")
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        asked = {**HEADERS, "Accept": "image/jpeg", "If-None-Match": '"1"'}
        async with client.head(f"{url}{AT_INSTANCE}/rendered", headers=asked) as answer:
            assert answer.status == 304
    assert archive.asked[-1][0] == "HEAD"

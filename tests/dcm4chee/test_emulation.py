"""The emulation answers as dcm4chee's source says: without this, the other tests could pass for a wrong reason."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from sidecar.listener import listen
from tests.dcm4chee.archive import create_dcm4chee
from tests.dcm4chee.attributes import CREATOR, SECRET
from tests.dcm4chee.behaviour import ROOT, Behaviour
from tests.dcm4chee.studies import ALL, COMPRESSED, LARGE, MANY, MRN, OF_A, OF_B, UNDECODABLE
from tests.journey.multipart import parts_of

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
EXPLICIT = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'


class Archive:
    """A running emulation: ``root`` is its DICOMweb root."""

    def __init__(self, root: str, session: aiohttp.ClientSession) -> None:
        self.root = root
        self._session = session

    async def get(self, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
        """The answer and its whole body; header names with ``_`` for ``-``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(
            URL(f"{self.root}/{path}", encoded=True), headers=sent, allow_redirects=False
        ) as response:
            return response, await response.read()

    async def rows(self, path: str) -> Any:
        """The rows of a query."""
        response, _ = await self.get(path)
        assert response.status == 200
        return await response.json(content_type="application/dicom+json")


@contextlib.asynccontextmanager
async def archive(folder: Path, behaviour: Behaviour | None = None) -> AsyncIterator[Archive]:
    async with (
        listen(create_dcm4chee(folder, behaviour), "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Archive(f"http://127.0.0.1:{port}{ROOT}", session)


def values(row: dict[str, Any], name: str) -> Any:
    return row[name].get("Value")


@pytest.mark.parametrize("query", ["PatientID=nobody", "offset=25", "offset=99999", "StudyInstanceUID=1.2"])
async def test_nothing_found_is_a_204(many: Path, query: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get("studies?" + query)
        assert (response.status, body) == (204, b"")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=100000", "limit=x", "limit=", "offset=01", "offset=100000", "fuzzymatching=yes",
     "Colour=blue", "includefield=Colour", "orderby=Colour", "patientVerificationStatus=x", "StudyDate=x"],
)  # fmt: skip
async def test_what_it_does_not_know_is_a_400(many: Path, query: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get("studies?" + query)
        assert response.status == 400
        assert b"errorMessage" in body


@pytest.mark.parametrize(
    ("query", "rows", "remaining"),
    [("", 7, 18), ("limit=500", 7, 18), ("limit=7", 7, 0), ("limit=3", 3, 0), ("offset=18", 7, 0), ("offset=17", 7, 1),
     ("limit=500&offset=21", 4, 0)],
)  # fmt: skip
async def test_its_cap_and_its_warning(many: Path, query: str, rows: int, remaining: int) -> None:
    async with archive(many) as pacs:
        response, _ = await pacs.get("studies?" + query)
        assert len(await response.json(content_type=None)) == rows
        warning = f'299 {response.url.authority} "There are {remaining} additional results that can be requested"'
        assert response.headers.get("Warning") == (warning if remaining else None)


async def test_pages_come_from_one_order_only_when_one_is_asked_for(many: Path) -> None:
    async with archive(many) as pacs:
        for order, whole in (("", False), ("&orderby=StudyInstanceUID", True), ("&orderby=0020000D", True)):
            pages = [await pacs.rows(f"studies?limit=5&offset={offset}{order}") for offset in range(0, 25, 5)]
            found = [values(row, "0020000D")[0] for page in pages for row in page]
            assert (sorted(found) == sorted(ALL)) is whole


async def test_its_second_limit(many: Path) -> None:
    async with archive(many, Behaviour(query_maximum=24)) as pacs:
        assert (await pacs.get("studies"))[0].status == 413
        assert (await pacs.get("studies?limit=1"))[0].status == 413
        assert (await pacs.get(f"studies?StudyInstanceUID={LARGE}"))[0].status == 200


async def test_values_are_split_at_commas_before_they_are_decoded(many: Path) -> None:
    async with archive(many) as pacs:
        two = await pacs.rows(f"studies?StudyInstanceUID={MANY[0]},{MANY[1]}")
        assert {values(row, "0020000D")[0] for row in two} == set(MANY[:2])
        assert (await pacs.get(f"studies?StudyInstanceUID={MANY[0]}%2C{MANY[1]}"))[0].status == 204
        assert len(await pacs.rows("studies?AccessionNumber=1,9")) == 2
        assert (await pacs.get("studies?AccessionNumber=1%2C9"))[0].status == 204
        # A patient is looked up by the first one.
        assert (await pacs.get(f"studies?PatientID={MRN},x"))[0].status == 200
        assert (await pacs.get(f"studies?PatientID=x,{MRN}"))[0].status == 204


async def test_attributes_of_each_level(many: Path) -> None:
    """The path leaves its level out; what is asked for comes, too; nothing of its notes but with ``all``."""
    async with archive(many) as pacs:
        (study,) = await pacs.rows(f"studies?StudyInstanceUID={LARGE}")
        assert {"00080005", "00080054", "00080056", "00080201", "00080061", "00100020", "00100021", "00081190"} <= set(
            study
        )
        assert "00080060" not in study
        assert values(study, "00100021") == ["A"]
        assert values(study, "00201208") == [20]
        assert values(study, "00081190") == [f"{pacs.root}/studies/{LARGE}"]
        series = (await pacs.rows(f"studies/{LARGE}/series"))[0]
        assert "00100020" not in series
        assert values(series, "0020000D") == [LARGE]
        assert "00100020" in (await pacs.rows(f"studies/{LARGE}/series?includefield=PatientID"))[0]
        assert "00100020" in (await pacs.rows("series"))[0]
        instance = (await pacs.rows(f"studies/{LARGE}/instances"))[0]
        assert {"00080018", "00080060"} <= set(instance)
        assert not any(name.startswith("7777") for row in (study, series, instance) for name in row)
        (few,) = await pacs.rows(f"studies?StudyInstanceUID={LARGE}&includedefaults=false")
        assert set(few) == {"0020000D", "00081190"}


@pytest.mark.parametrize("path", ["studies", "series", "instances", f"studies/{LARGE}/series"])
async def test_everything_has_its_notes(many: Path, path: str) -> None:
    async with archive(many) as pacs:
        row = (await pacs.rows(path + "?includefield=all"))[0]
        assert values(row, "77770010") == [CREATOR]
        assert values(row, "77771027") == [SECRET]
        assert "00080070" in row or path == "studies"


async def test_a_number_of_two_issuers_is_two_patients(issuers: Path) -> None:
    async with archive(issuers) as pacs:
        for issuer, studies in (("A", OF_A), ("B", OF_B)):
            rows = await pacs.rows(f"studies?PatientID={MRN}&IssuerOfPatientID={issuer}")
            assert {values(row, "0020000D")[0] for row in rows} > set(studies)
            assert {values(row, "00100021")[0] for row in rows} == {issuer}
        assert await pacs.get(f"studies/count?PatientID={MRN}") is not None
        response, _ = await pacs.get(f"studies/count?PatientID={MRN}")
        assert await response.json() == {"count": 8}


async def test_availability(many: Path) -> None:
    behaviour = Behaviour(near_line={MANY[0]: 0.0}, offline={MANY[1]})
    async with archive(many, behaviour) as pacs:
        for uid, expected in zip(MANY[:3], ["NEARLINE", "OFFLINE", "ONLINE"], strict=True):
            for path in (f"studies?StudyInstanceUID={uid}", f"studies/{uid}/series", f"studies/{uid}/instances"):
                assert values((await pacs.rows(path))[0], "00080056") == [expected]


async def test_rejected_instances_are_hidden(many: Path) -> None:
    async with archive(many, Behaviour(rejected=frozenset({UNDECODABLE}))) as pacs:
        assert len(await pacs.rows(f"studies/{COMPRESSED}/instances")) == 1
        path = f"studies/{COMPRESSED}/series/{COMPRESSED}.9/instances/{UNDECODABLE}"
        assert (await pacs.get(path))[0].status == 404


@pytest.mark.parametrize("path", [f"studies/{LARGE}/series", f"studies/{LARGE}", f"studies/{LARGE}/metadata"])
async def test_entity_tags(many: Path, path: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get(path)
        assert body
        again, nothing = await pacs.get(path, If_None_Match=response.headers["ETag"])
        assert (again.status, nothing) == (304, b"")


async def test_parts_as_resteasy_writes_them(many: Path) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get(f"studies/{LARGE}", Accept=STORED)
        assert response.status == 200
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        parts = parts_of(response.headers["Content-Type"], body)
        assert len(parts) == 20
        for headers, content in parts:
            assert headers["content-type"] == "application/dicom;transfer-syntax=1.2.840.10008.1.2.1"
            assert headers["content-location"].startswith(f"{pacs.root}/studies/{LARGE}/series/")
            assert "content-length" not in headers
            assert content[128:132] == b"DICM"
        assert body.endswith(b"--")


async def test_what_it_cannot_deliver(many: Path) -> None:
    """206, 410, 404, 406, 303, 401: status and Warning."""
    behaviour = Behaviour(redirects={MANY[2]: "http://other.internal/rs"})
    async with archive(many, behaviour) as pacs:
        rows = await pacs.rows(f"studies/{LARGE}/instances?limit=3")
        gone = {values(row, "00080018")[0] for row in rows}
        behaviour.not_accessible |= gone
        partly, body = await pacs.get(f"studies/{LARGE}", Accept=STORED)
        assert partly.status == 206
        assert '"3 objects no longer accessible."' in partly.headers["Warning"]
        assert len(parts_of(partly.headers["Content-Type"], body)) == 17
        behaviour.not_accessible.update(
            values(row, "00080018")[0] for row in await pacs.rows(f"studies/{MANY[0]}/instances")
        )
        assert (await pacs.get(f"studies/{MANY[0]}", Accept=STORED))[0].status == 410
        assert (await pacs.get("studies/1.2.3", Accept=STORED))[0].status == 404
        mixed, _ = await pacs.get(f"studies/{COMPRESSED}", Accept=EXPLICIT)
        assert mixed.status == 206
        assert '"1 objects not acceptable."' in mixed.headers["Warning"]
        undecodable = f"studies/{COMPRESSED}/series/{COMPRESSED}.9/instances/{UNDECODABLE}"
        assert (await pacs.get(undecodable, Accept=EXPLICIT))[0].status == 406
        assert (await pacs.get(undecodable, Accept="application/dicom"))[0].status == 406
        elsewhere, _ = await pacs.get(f"studies/{MANY[2]}", Accept=STORED)
        assert (elsewhere.status, elsewhere.headers["Location"]) == (303, "http://other.internal/rs")
        behaviour.bearer_token = "x"
        assert (await pacs.get("studies"))[0].status == 401
        assert (await pacs.get("studies", Authorization="Bearer x"))[0].status == 200


async def test_the_image_alone_has_the_instances_url(many: Path) -> None:
    """What its BulkDataURI of pixels means: the same URL, asked for in another type."""
    async with archive(many) as pacs:
        row = (await pacs.rows(f"studies/{MANY[0]}/metadata"))[0]
        uri = row["7FE00010"]["BulkDataURI"]
        assert uri.endswith(f"/instances/{values(row, '00080018')[0]}")
        path = uri.removeprefix(pacs.root + "/")
        response, body = await pacs.get(path, Accept='multipart/related; type="application/octet-stream"')
        ((headers, pixels),) = parts_of(response.headers["Content-Type"], body)
        assert len(pixels) == 16 * 16 * 2
        assert headers["content-location"] == uri
        frames, _ = await pacs.get(path + "/frames/1,9", Accept='multipart/related; type="application/octet-stream"')
        assert frames.status == 206
        assert (await pacs.get(path + "/frames/9", Accept="*/*"))[0].status == 404
        assert (await pacs.get(path + "/frames/1", Accept="application/octet-stream"))[0].status == 406

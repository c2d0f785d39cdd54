"""The emulation answers as a dcm4chee does: without this, the other tests could pass for a wrong
reason.

``dcm4chee_dialogue.py`` has what was measured beside what is only documented, one row a
behaviour. Here is what both have.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from sidecar.server.listener import listen
from tests.dcm4chee.archive import create_dcm4chee
from tests.dcm4chee.attributes import CREATOR, SECRET
from tests.dcm4chee.behaviour import MODES, ROOT, Behaviour, Mode
from tests.dcm4chee.coercion import supplemented
from tests.dcm4chee.observed import observed
from tests.dcm4chee.studies import (
    ALL,
    COMPRESSED,
    LARGE,
    MANY,
    MRN,
    OF_A,
    OF_B,
    SEVERAL_FRAMES,
    UNDECODABLE,
    small_study,
)
from tests.journey.multipart import parts_of
from tests.tables.dcm4chee_dialogue import DIALOGUE, OCTETS, STORED


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


@pytest.mark.parametrize(
    "query", ["PatientID=nobody", "offset=25", "offset=99999", "StudyInstanceUID=1.2"]
)
async def test_nothing_found_is_a_204(many: Path, query: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get("studies?" + query)
        assert (response.status, body) == (204, b"")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=100000",
        "limit=x",
        "limit=",
        "offset=01",
        "offset=100000",
        "fuzzymatching=yes",
        "Colour=blue",
        "includefield=Colour",
        "orderby=Colour",
        "patientVerificationStatus=x",
    ],
)
async def test_what_it_does_not_know_is_a_400(many: Path, query: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get("studies?" + query)
        assert response.status == 400
        assert body


@pytest.mark.parametrize(
    ("query", "rows", "remaining"),
    [
        ("", 7, 18),
        ("limit=500", 7, 18),
        ("limit=7", 7, 0),
        ("limit=3", 3, 0),
        ("offset=18", 7, 0),
        ("offset=17", 7, 1),
        ("limit=500&offset=21", 4, 0),
    ],
)
async def test_its_cap_and_its_warning(many: Path, query: str, rows: int, remaining: int) -> None:
    async with archive(many) as pacs:
        response, _ = await pacs.get("studies?" + query)
        assert len(await response.json(content_type=None)) == rows
        more = f"There are {remaining} additional results that can be requested"
        warning = f'299 {response.url.authority} "{more}"'
        assert response.headers.get("Warning") == (warning if remaining else None)


async def test_pages_come_from_one_order_only_when_one_is_asked_for(many: Path) -> None:
    async with archive(many) as pacs:
        for order, whole in (
            ("", False),
            ("&orderby=StudyInstanceUID", True),
            ("&orderby=0020000D", True),
        ):
            pages = [
                await pacs.rows(f"studies?limit=5&offset={offset}{order}")
                for offset in range(0, 25, 5)
            ]
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
    """The path leaves its level out; what is asked for comes, too; nothing of its notes but with
    ``all``.
    """
    async with archive(many) as pacs:
        (study,) = await pacs.rows(f"studies?StudyInstanceUID={LARGE}")
        assert {
            "00080005",
            "00080054",
            "00080056",
            "00080201",
            "00080061",
            "00100020",
            "00081190",
        } <= set(study)
        assert "00080060" not in study
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


@pytest.mark.parametrize("path", ["studies", "series", "instances", f"studies/{LARGE}/series"])
async def test_everything_has_its_notes(many: Path, path: str) -> None:
    async with archive(many) as pacs:
        row = (await pacs.rows(path + "?includefield=all"))[0]
        assert values(row, "77770010") == [CREATOR]
        assert any(values(row, name) == [SECRET] for name in row if name.startswith("777710"))
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
            for path in (
                f"studies?StudyInstanceUID={uid}",
                f"studies/{uid}/series",
                f"studies/{uid}/instances",
            ):
                assert values((await pacs.rows(path))[0], "00080056") == [expected]


async def test_rejected_instances_are_hidden(many: Path) -> None:
    async with archive(many, Behaviour(rejected=frozenset({UNDECODABLE}))) as pacs:
        assert len(await pacs.rows(f"studies/{COMPRESSED}/instances")) == 1
        path = f"studies/{COMPRESSED}/series/{COMPRESSED}.9/instances/{UNDECODABLE}"
        assert (await pacs.get(path))[0].status == 404


@pytest.mark.parametrize("path", [f"studies/{LARGE}", f"studies/{LARGE}/metadata"])
async def test_entity_tags(many: Path, path: str) -> None:
    async with archive(many) as pacs:
        response, body = await pacs.get(path)
        assert body
        again, nothing = await pacs.get(path, If_None_Match=response.headers["ETag"])
        assert (again.status, nothing) == (304, b"")


async def test_what_it_cannot_deliver(many: Path) -> None:
    """Status and Warning: 303, 401, and what is left out, counted (documented)."""
    behaviour = Behaviour("documented", redirects={MANY[2]: "http://other.internal/rs"})
    async with archive(many, behaviour) as pacs:
        rows = await pacs.rows(f"studies/{LARGE}/instances?limit=3")
        behaviour.not_accessible |= {values(row, "00080018")[0] for row in rows}
        partly, body = await pacs.get(f"studies/{LARGE}", Accept=STORED)
        assert '"3 objects no longer accessible."' in partly.headers["Warning"]
        assert len(parts_of(partly.headers["Content-Type"], body)) == 17
        assert (await pacs.get("studies/1.2.3", Accept=STORED))[0].status == 404
        elsewhere, _ = await pacs.get(f"studies/{MANY[2]}", Accept=STORED)
        assert (elsewhere.status, elsewhere.headers["Location"]) == (
            303,
            "http://other.internal/rs",
        )
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
        response, body = await pacs.get(path, Accept=OCTETS)
        ((headers, pixels),) = parts_of(response.headers["Content-Type"], body)
        assert len(pixels) == 16 * 16 * 2
        assert headers["content-location"] == uri
        assert (await pacs.get(path + "/frames/1", Accept="application/octet-stream"))[
            0
        ].status == 406


async def test_an_issuer_is_made_of_name_and_birth_date(tmp_path: Path) -> None:
    """The default rule: another spelling is another person; who has an issuer keeps it."""
    for number, (name, issuer) in enumerate(
        [("Doe^Jane", ""), ("Doe^Jane^Mary", ""), ("Doe^Jane", "A")]
    ):
        small_study(
            tmp_path / "stored" / str(number), MANY[number], issuer=issuer, patient_name=name
        )
    coerced = supplemented(tmp_path / "stored", tmp_path / "coerced", issuer=None)
    async with archive(coerced) as pacs:
        rows = await pacs.rows("studies?includefield=IssuerOfPatientID&orderby=StudyInstanceUID")
        first, second, third = (values(row, "00100021")[0] for row in rows)
        assert first != second
        assert first.startswith("DCM4CHEE.")
        assert third == "A"
        _, body = await pacs.get(f"studies/{MANY[0]}", Accept=STORED)
        assert first.encode() in body


@pytest.mark.parametrize("mode", MODES)
async def test_the_dialogue(many: Path, mode: Mode) -> None:
    """Every row of the table."""
    behaviour = Behaviour(mode)
    async with archive(many, behaviour) as pacs:
        names = await uid_names(pacs)
        wrong = {}
        for row in DIALOGUE:
            expected = (
                row.measured if mode == "measured" or row.documented is None else row.documented
            )
            if not expected:  # Not known.
                continue
            behaviour.not_accessible = {names[one] for one in row.gone}
            behaviour.cut = {names[one] for one in row.cut}
            headers = {} if row.accept is None else {"Accept": row.accept}
            response, body = await pacs.get(row.path.format_map(names), **headers)
            seen = observed(response, body, pacs.root)
            if "location" in expected and expected["location"] is not None:
                expected = {**expected, "location": expected["location"].format_map(names)}
            found = {name: seen[name] for name in expected}
            if found != expected:
                wrong[row.what] = found, expected
        assert wrong == {}


async def uid_names(pacs: Archive) -> dict[str, str]:
    """What stands in the paths of the table."""

    async def instance(study: str, at: int) -> tuple[str, str]:
        row = (await pacs.rows(f"studies/{study}/metadata"))[at]
        uid = values(row, "00080018")[0]
        return uid, f"studies/{study}/series/{values(row, '0020000E')[0]}/instances/{uid}"

    found = {
        "large": LARGE,
        "single": MANY[0],
        "mixed": COMPRESSED,
        "several_frames": SEVERAL_FRAMES,
    }
    for name, study, at in (
        ("one", MANY[0], 0),
        ("sixth", LARGE, 5),
        ("frames", SEVERAL_FRAMES, 0),
    ):
        found[f"{name}_uid"], found[f"{name}_path"] = await instance(study, at)
        found[f"{name}_below"] = found[f"{name}_path"].removeprefix(f"studies/{study}/")
    series = f"{COMPRESSED}.9"
    return found | {
        "undecodable_path": f"studies/{COMPRESSED}/series/{series}/instances/{UNDECODABLE}"
    }

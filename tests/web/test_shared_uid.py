"""QIDO-RS lists without a study in their path: rows of a UID that two patients have are in none
(SIA-42).
"""

import logging
from typing import Any

import aiohttp
import pytest

from sidecar.dicom.json_model import text
from tests.fakes.archive import RowArchive
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.pacs.fake import row

RULE = {
    "name": "none",
    "effect": "exclude",
    "study": {"StudyDescription": ["no such"]},
    "unknown": "ignored",
}


def rows(study: str, patient: str | None, series: int = 1) -> dict[str, Any]:
    """An instance of a series of a study; the UIDs say of which."""
    number = patient or "0"
    return row(patient, study, f"{study}.{number[-1]}{series}", f"{study}.{number[-1]}{series}.1")


OWN = [rows(f"1.2.{number}", PATIENT, series) for number in (5, 6, 7) for series in (1, 2)]
SHARED = [
    rows(study, patient)
    for study, patient in (
        ("1.2.3", PATIENT),
        ("1.2.3", "other"),
        ("1.2.4", PATIENT),
        ("1.2.4", None),
    )
]


async def studies(client: aiohttp.ClientSession, url: str) -> list[str]:
    """Of each row of a QIDO-RS answer."""
    async with client.get(url, headers=HEADERS) as answer:
        assert answer.status == 200
        return [text(one, "StudyInstanceUID") or "" for one in await answer.json(content_type=None)]


@pytest.mark.parametrize("uid_lists", [True, False])
@pytest.mark.parametrize("access", [{}, {"rules": [RULE]}])
async def test_shared_uids_are_in_no_list_at_any_level(
    access: dict[str, Any], uid_lists: bool
) -> None:
    archive = RowArchive(*SHARED, *OWN, uid_lists=uid_lists)
    async with (
        sidecar_between(ScriptedEhr(), archive, access=access) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        root = url + "/wado-rs"
        assert await studies(client, f"{root}/studies") == ["1.2.5", "1.2.6", "1.2.7"]
        for level in ("series", "instances"):
            assert await studies(client, f"{root}/{level}") == [
                one for one in ("1.2.5", "1.2.6", "1.2.7") for _ in (1, 2)
            ]
        for study in ("1.2.3", "1.2.4"):
            for path in (
                f"studies?StudyInstanceUID={study}",
                f"series?StudyInstanceUID={study}",
                f"instances?0020000D={study}",
                f"instances?SeriesInstanceUID={study}.11",
                f"series/{study}.11/instances",
            ):
                assert await studies(client, f"{root}/{path}") == []
        assert await studies(client, f"{root}/series/1.2.5.12/instances") == ["1.2.5"]


@pytest.mark.parametrize("access", [{}, {"rules": [RULE]}])
async def test_pages_have_no_holes(access: dict[str, Any]) -> None:
    """A page that is short is the last one; and nothing comes twice."""
    archive = RowArchive(*SHARED[:2], *OWN[:2], *SHARED[2:], *OWN[2:])
    async with (
        sidecar_between(ScriptedEhr(), archive, access=access) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        pages = [
            await studies(client, f"{url}/wado-rs/studies?limit=1&offset={offset}")
            for offset in range(4)
        ]
        assert pages == [["1.2.5"], ["1.2.6"], ["1.2.7"], []]
        assert await studies(client, f"{url}/wado-rs/series?limit=4&offset=1") == [
            "1.2.5",
            "1.2.6",
            "1.2.6",
            "1.2.7",
        ]


async def test_a_row_that_does_not_say_its_study_is_left_out() -> None:
    """Of whom its study is cannot be known."""
    bare = row(PATIENT, None, "1.2.5.13", "1.2.5.13.1")
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*OWN, bare)) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        assert len(await studies(client, f"{url}/wado-rs/series")) == len(OWN)


async def test_below_a_study_its_owners_are_not_asked_for_twice() -> None:
    archive = RowArchive(*OWN)
    async with (
        sidecar_between(ScriptedEhr(), archive) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        await studies(client, f"{url}/wado-rs/studies")
        assert sum("StudyInstanceUID=1.2.5,1.2.6,1.2.7" in one for one in archive.asked) == 1
        asked = len(archive.asked)
        assert await studies(client, f"{url}/wado-rs/studies/1.2.5/series") == ["1.2.5", "1.2.5"]
        assert [one.partition("?")[0] for one in archive.asked[asked:]] == [
            "/rs/studies",
            "/rs/studies/1.2.5/series",
        ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/wado-rs/studies", 200),
        ("/wado-rs/studies/1.2.3", 404),
        (f"/fhir/ImagingStudy?patient={PATIENT}", 200),
    ],
)
async def test_the_warning_has_the_requests_id(
    path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By it operators find the study in the audit trail."""
    async with (
        sidecar_between(ScriptedEhr(), RowArchive(*SHARED[:2])) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        root = url.partition("/fhir")[0]
        address = root + path if path.startswith("/fhir") else url + path
        with caplog.at_level(logging.WARNING, "sidecar.authorization.decision_log"):
            async with client.get(address, headers=HEADERS) as answer:
                assert answer.status == status
    (warning,) = (one for one in caplog.records if one.name == "sidecar.authorization.decision_log")
    assert getattr(warning, "request_id", None) == answer.headers["X-Request-Id"]

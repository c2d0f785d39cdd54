"""Lists longer than the archive gives at once: everything once, or an error (docs/dcm4chee.md)."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.data import ct_study
from tests.dcm4chee.behaviour import MODES, Behaviour, Mode
from tests.dcm4chee.site import SYSTEM_A, SYSTEM_B, Site, site_with
from tests.dcm4chee.studies import ALL, LARGE, MANY, MRN, SHARED

PATIENTS = {"alice": [(SYSTEM_A, MRN)]}


def uids(rows: list[dict[str, Any]], name: str = "0020000D") -> list[str]:
    return [row[name]["Value"][0] for row in rows]


def pages_asked(site: Site, path: str) -> list[tuple[int, int]]:
    """The (limit, offset) of the queries of a resource that were about the patient."""
    asked = [urlsplit(one.target) for one in site.behaviour.asked]
    queries = [
        parse_qs(one.query)
        for one in asked
        if one.path.endswith(path) and "PatientID" in parse_qs(one.query)
    ]
    return [(int(query["limit"][0]), int(query.get("offset", ["0"])[0])) for query in queries]


@pytest.mark.parametrize(
    ("maximum", "mode"),
    [*((maximum, "measured") for maximum in (1, 7, 24, 25, 26, 1_000)), (7, "documented")],
)
async def test_a_search_has_every_study_once(many: Path, maximum: int, mode: Mode) -> None:
    """Whatever the archive's cap: below the number of studies, equal to it, above it."""
    async with site_with(many, Behaviour(mode, qido_maximum=maximum), PATIENTS) as site:
        assert sorted(await site.studies("alice")) == sorted(ALL)
        if maximum == 7:
            # Under which issuers the archive has the number, then the list.
            assert [offset for _, offset in pages_asked(site, "/studies")] == [0, 7, 14, 21] * 2


@pytest.mark.parametrize("mode", MODES)
async def test_a_query_has_every_row_once(many: Path, mode: Mode) -> None:
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        assert sorted(uids(await site.json("alice", "/wado-rs/studies"))) == sorted(ALL)
        instances = uids(await site.json("alice", "/wado-rs/instances"), "00080018")
        assert len(instances) == len(set(instances)) == 23 + 20 + 2
        below = await site.json("alice", f"/wado-rs/studies/{LARGE}/instances")
        assert len(set(uids(below, "00080018"))) == len(below) == 20


@pytest.mark.parametrize("limit", [1, 4, 7, 10, 40])
async def test_pages_that_the_client_asks_for_have_every_study_once(many: Path, limit: int) -> None:
    async with site_with(many, Behaviour(), PATIENTS) as site:
        found: list[str] = []
        while page := await site.json(
            "alice", f"/wado-rs/studies?limit={limit}&offset={len(found)}"
        ):
            assert len(page) <= limit
            found += uids(page)
        assert sorted(found) == sorted(ALL)


@pytest.mark.parametrize("maximum", range(1, 9))
async def test_a_uid_of_two_patients_on_two_pages_is_no_fault_of_paging(
    issuers: Path, maximum: int
) -> None:
    """The second page may hold nothing but the same StudyInstanceUID, of another patient."""
    patients = {"merged": [(SYSTEM_A, MRN), (SYSTEM_B, MRN)]}
    configured = {SYSTEM_A: "A", SYSTEM_B: "B"}
    async with site_with(
        issuers, Behaviour(qido_maximum=maximum), patients, issuers=configured
    ) as site:
        response, _ = await site.get("merged", f"/wado-rs/studies/{SHARED}/metadata")
        assert response.status == 200
        assert SHARED in await site.studies("merged")


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_of_a_patient_with_two_numbers_have_every_row_once(
    issuers: Path, limit: int
) -> None:
    """The archive cannot page what is asked for number by number: from the second page on it is not
    asked again.
    """
    patients = {"merged": [(SYSTEM_A, MRN), (SYSTEM_B, MRN)]}
    async with site_with(
        issuers, Behaviour(), patients, issuers={SYSTEM_A: "A", SYSTEM_B: "B"}
    ) as site:
        whole = await site.json("merged", "/wado-rs/instances")
        found: list[str] = []
        asked = []
        while page := await site.json(
            "merged", f"/wado-rs/instances?limit={limit}&offset={len(found)}"
        ):
            found += uids(page, "00080018")
            asked.append(len(pages_asked(site, "/instances")))
    assert len(whole) > 2 * limit
    assert found == uids(whole, "00080018")
    assert asked[1:] == [asked[1]] * (len(asked) - 1)


@pytest.mark.parametrize("mode", MODES)
async def test_a_malformed_date_is_an_error(many: Path, mode: Mode) -> None:
    """dcm4chee answers with everything, as if no date had been asked for; or, as documented, with a
    400.
    """
    async with site_with(many, Behaviour(mode), PATIENTS) as site:
        for query in ("StudyDate=x", "StudyDate=2024-01-01", "00080020=202401", "StudyTime=noon"):
            response, _ = await site.get("alice", f"/wado-rs/studies?{query}")
            assert response.status == 400, query


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_at_all_is_an_empty_list(many: Path, mode: Mode) -> None:
    """The archive's 204."""
    async with site_with(many, Behaviour(mode), {"carol": [(SYSTEM_A, "0815")]}) as site:
        assert await site.studies("carol") == []
        assert await site.json("carol", "/wado-rs/studies") == []
        response, _ = await site.get("carol", f"/wado-rs/studies/{LARGE}/series")
        assert response.status == 404


async def test_a_query_that_the_archive_finds_too_large_is_an_error_that_says_so(
    many: Path,
) -> None:
    """Its 413 is neither an empty list nor a fault that nobody can do anything about."""
    async with site_with(
        many, Behaviour(query_maximum=10), PATIENTS, issuers={SYSTEM_A: "A"}
    ) as site:
        for path in ("/fhir/ImagingStudy?patient=alice", "/wado-rs/studies", "/wado-rs/instances"):
            response, body = await site.get("alice", path)
            assert response.status == 502
            assert b"more results than" in body
            assert b"queryMaxNumberOfResults" not in body
        narrower = await site.json("alice", "/wado-rs/studies?StudyDate=20240101-20240105")
        assert len(narrower) == 5


async def test_a_list_longer_than_we_allow_is_an_error(many: Path) -> None:
    """``limits.query_results``: no shorter list."""
    async with site_with(many, Behaviour(), PATIENTS, limits={"query_results": 24}) as site:
        response, _ = await site.get("alice", "/fhir/ImagingStudy?patient=alice")
        assert response.status == 502


async def test_values_with_commas_and_lists_of_uids(many: Path) -> None:
    """dcm4chee splits at commas before it decodes: a text must not become a list, a list of UIDs
    must stay one.
    """
    two = f"{ALL[0]},{ALL[1]}"
    async with site_with(many, Behaviour(), PATIENTS) as site:
        assert sorted(
            uids(await site.json("alice", f"/wado-rs/studies?StudyInstanceUID={two}"))
        ) == sorted(ALL[:2])
        # One description that nobody has; split, each half matches everything.
        assert await site.json("alice", "/wado-rs/studies?StudyDescription=CT*,*") == []


async def test_a_patient_whose_number_has_a_comma(tmp_path: Path) -> None:
    """As two numbers it would be another patient's studies that come, and none of hers."""
    for number, uid in (("4711,7", MANY[0]), ("4711", MANY[1])):
        ct_study(
            tmp_path / uid,
            instances=1,
            patient_id=number,
            study_instance_uid=uid,
            rows=16,
            columns=16,
        )
    async with site_with(tmp_path, Behaviour(), {"carol": [(SYSTEM_A, "4711,7")]}) as site:
        assert await site.studies("carol") == [MANY[0]]
        assert uids(await site.json("carol", "/wado-rs/studies")) == [MANY[0]]

"""Backend Services clients, whose tokens have no patient, follow links (SIA-13)."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.archive import RowArchive
from tests.fakes.ehr import ScriptedEhr, active, patient
from tests.fakes.site import HEADERS, sidecar_between
from tests.fhir.rows import row
from tests.web.records import events, to

OWN, FOREIGN, SHARED, ABSENT = "1.2.840.1", "1.2.840.2", "1.2.840.3", "1.2.840.4"
LONG = "1.2.840." + "3" * 90
ACCESS = {"backend_services": True, "clients": {"app": {"patients": ["p1", "p2"]}}}
MRN = "urn:oid:1.2.3"
MAPPINGS: dict[str, dict[str, Any]] = {
    "direct": {},
    "ehr": {"patients": {"mapping": "ehr", "identifiers": [{"system": MRN}]}},
}
NOTHING = [f"ImagingStudy/{uid}" for uid in (FOREIGN, SHARED, ABSENT, "x", LONG)]


def study(uid: str, patient_id: str) -> dict[str, Any]:
    """A study with a series."""
    return row(StudyInstanceUID=uid, SeriesInstanceUID="1.2.3", Modality="CT", PatientID=patient_id)


def archive() -> RowArchive:
    """Two of the client's patients, of whom one is not, and a UID that two have."""
    rows = [study(OWN, "p1"), study(FOREIGN, "p3"), study(SHARED, "p1"), study(SHARED, "p3")]
    return RowArchive(*rows, study(LONG, "p1"))


def ehr(scope: str = "system/ImagingStudy.rs", **claims: Any) -> ScriptedEhr:
    """Its tokens are the client's."""
    answer = {name: value for name, value in active("", scope=scope).items() if name != "patient"}
    people = {one: patient(one, (MRN, one)) for one in ("p1", "p2", "p3")}
    return ScriptedEhr(answer | claims, patients=people)


@pytest.mark.parametrize("app_launch", [True, False])
@pytest.mark.parametrize("mapping", MAPPINGS)
async def test_links_lead_to_the_patients_of_a_client(mapping: str, app_launch: bool) -> None:
    """From a search on; with and without App Launch, which is another mode (SIA-2)."""
    access = ACCESS | {"app_launch": app_launch}
    async with (
        sidecar_between(ehr(), archive(), access=access, **MAPPINGS[mapping]) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        async with us.get("ImagingStudy?patient=p1") as found:
            bundle = await found.json(content_type=None)
        (listed,) = (one["resource"] for one in bundle["entry"] if one["resource"]["id"] == OWN)
        async with us.get(f"ImagingStudy/{OWN}") as found:
            assert await found.json(content_type=None) == listed
        async with us.get(listed["endpoint"][0]["reference"]) as found:
            endpoint = await found.json(content_type=None)
        assert endpoint["address"].endswith("/fhir/Patient/p1/$wado-rs")


@pytest.mark.parametrize("mapping", MAPPINGS)
async def test_all_else_is_as_if_it_were_not_there(mapping: str) -> None:
    """SIA-45: one answer; foreign and absent cost the same at the archive and at the EHR."""
    upstream, hospital = archive(), ehr()
    async with (
        sidecar_between(hospital, upstream, access=ACCESS, **MAPPINGS[mapping]) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        said, costs = set(), {}
        for path in (*NOTHING, "Endpoint/p3", "Endpoint/nobody", "Endpoint/!"):
            before = len(upstream.asked), len(hospital.searches)
            async with us.get(path) as found:
                said.add((found.status, await found.read()))
            costs[path] = len(upstream.asked) - before[0], len(hospital.searches) - before[1]
        assert {status for status, _ in said} == {404}
        assert len(said) == 1
        assert len({costs[path] for path in NOTHING[:3]}) == 1
        assert {costs[path] for path in costs if path not in NOTHING[:3]} == {(0, 0)}
        async with us.get("ImagingStudy/x") as found:
            assert found.status == 404


HIDDEN = ACCESS | {
    "rules": [{"name": "no CT", "effect": "exclude", "series": {"Modality": ["CT"]}}]
}
BOTH = "patient/ImagingStudy.rs system/ImagingStudy.rs"
NEVER_SHOWN: dict[str, tuple[dict[str, Any], dict[str, Any], str, int]] = {
    "a token for both modes": ({"scope": BOTH}, {}, "", 404),
    "without App Launch": ({"scope": BOTH, "patient": "p2"}, {"app_launch": False}, "", 404),
    "a constraint beside": (
        {"scope": "patient/ImagingStudy.rs?foo=1 system/ImagingStudy.rs"},
        {},
        "",
        404,
    ),
    "a format that is none": ({}, {}, "?_format=xml", 406),
    "a version that is none": ({}, {}, "?_format=json;fhirVersion=3.0", 406),
    "a summary that is none": ({}, {}, "?_summary=x", 400),
}
"""What the token has beside, what the site has, parameters, and the answer."""


@pytest.mark.parametrize("case", NEVER_SHOWN)
@pytest.mark.parametrize("mapping", MAPPINGS)
async def test_no_answer_tells_of_a_study_that_is_hidden(mapping: str, case: str) -> None:
    """SIA-45: one of the client's own patients, another's and none get the same answer."""
    claims, access, parameters, status = NEVER_SHOWN[case]
    async with (
        sidecar_between(ehr(**claims), archive(), access=HIDDEN | access, **MAPPINGS[mapping]) as (
            url,
            _,
        ),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        said = set()
        for uid in (OWN, FOREIGN, SHARED, ABSENT):
            async with us.get(f"ImagingStudy/{uid}{parameters}") as found:
                said.add((found.status, await found.read()))
    assert [one for one, _ in said] == [status]


async def test_a_patient_that_cannot_be_read_tells_of_no_study() -> None:
    """SIA-45: what the EHR has of others changes nothing."""
    hospital = ehr()
    hospital.patients["p3"]["active"] = "yes"
    async with (
        sidecar_between(hospital, archive(), access=ACCESS, **MAPPINGS["ehr"]) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        for uid in (FOREIGN, ABSENT):
            async with us.get(f"ImagingStudy/{uid}") as found:
                assert found.status == 404


@pytest.mark.parametrize(
    ("scope", "access", "status"),
    [
        ("system/ImagingStudy.s", ACCESS, 403),
        ("system/ImagingStudy.rs", {}, 403),
        ("system/ImagingStudy.rs", ACCESS | {"clients": {"another": {"patients": ["p1"]}}}, 403),
        ("patient/ImagingStudy.rs", ACCESS, 403),
    ],
)
async def test_nobody_is_asked_for_who_may_read_nothing(
    scope: str, access: dict[str, Any], status: int
) -> None:
    upstream = archive()
    async with (
        sidecar_between(ehr(scope), upstream, access=access) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        for path in (f"ImagingStudy/{OWN}", "Endpoint/p1"):
            async with us.get(path) as found:
                assert found.status == status
    assert upstream.asked == []


async def test_a_token_with_a_patient_reads_for_that_patient() -> None:
    """SIA-15: what the client has does not add to it."""
    both = ehr("patient/ImagingStudy.rs system/ImagingStudy.rs", patient="p2")
    async with (
        sidecar_between(both, archive(), access=ACCESS) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        statuses = {}
        for path in (f"ImagingStudy/{OWN}", "Endpoint/p1", "Endpoint/p2"):
            async with us.get(path) as found:
                statuses[path] = found.status
    assert list(statuses.values()) == [404, 404, 200]


async def test_the_trail_names_the_patient(tmp_path: Path) -> None:
    """SIA-60: the owner, and the study; of what is nobody's the study alone."""
    file = tmp_path / "audit.jsonl"
    async with (
        sidecar_between(ehr(), archive(), access=ACCESS, audit=to(file)) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        for path in (f"ImagingStudy/{OWN}", "Endpoint/p2", f"ImagingStudy/{ABSENT}"):
            async with us.get(path):
                pass
    own, endpoint, absent = map(json.dumps, events(file))
    assert "/Patient/p1" in own
    assert OWN in own
    assert "/Patient/p2" in endpoint
    assert "/Patient/" not in absent
    assert ABSENT in absent


async def test_an_ehr_that_cannot_be_searched_is_an_error() -> None:
    """SIA-16; for what is there and what is not."""
    hospital = ehr()
    hospital.search_status = 500
    async with (
        sidecar_between(hospital, archive(), access=ACCESS, **MAPPINGS["ehr"]) as (url, _),
        aiohttp.ClientSession(f"{url}/fhir/", headers=HEADERS) as us,
    ):
        for uid in (OWN, FOREIGN, ABSENT):
            async with us.get(f"ImagingStudy/{uid}") as found:
                assert found.status == 503

"""A real Orthanc that has one StudyInstanceUID under two patients: each form of request, for each
of the two (SIA-42).

Refused to both, in no list of either, and operators are told.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pydicom
import pytest
from pydicom.uid import UID

from tests.capability_keys import token_bound
from tests.data import ct_study
from tests.fakes.ehr import TOKEN
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Client, Served, ehr

SHARED, ABSENT = "1.2.826.0.1.3680043.8.498.6.1", "1.2.826.0.1.3680043.8.498.6.2"
NAMELESS = "1.2.826.0.1.3680043.8.498.6.3"
OWN = {"p1": "1.2.826.0.1.3680043.8.498.6.11", "p2": "1.2.826.0.1.3680043.8.498.6.12"}
RULE = {
    "name": "none",
    "effect": "exclude",
    "study": {"StudyDescription": ["no such"]},
    "unknown": "ignored",
}
PERMITS: dict[str, dict[str, Any]] = {"unlimited": {}, "limited": {"rules": [RULE]}}

pytestmark = pytest.mark.orthanc


def put(orthanc: Orthanc, directory: Path, patient: str, study: str) -> tuple[str, str]:
    """Store an image with UIDs of its own; return those of its series and itself."""
    (file,) = ct_study(
        directory, instances=1, patient_id=patient, study_instance_uid=study, rows=8, columns=8
    )
    image = pydicom.dcmread(file)
    number = {"p1": 1, "p2": 2}.get(patient, 3)
    image.SeriesInstanceUID, image.SOPInstanceUID = (
        UID(f"{study}.{number}"),
        UID(f"{study}.{number}.1"),
    )
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(file)
    orthanc.load(file)
    return str(image.SeriesInstanceUID), str(image.SOPInstanceUID)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Each patient has a study, both have one under the same UID,
    and one of p1's is also nobody's.
    """
    require_orthanc()
    with Orthanc() as running:
        for patient, study in OWN.items():
            put(running, tmp_path_factory.mktemp("own"), patient, study)
            put(running, tmp_path_factory.mktemp("shared"), patient, SHARED)
        put(running, tmp_path_factory.mktemp("nameless"), "p1", NAMELESS)
        put(running, tmp_path_factory.mktemp("nameless"), "", NAMELESS)
        yield running


def settings(permit: str, tmp_path: Path) -> dict[str, Any]:
    """With an audit trail."""
    return {
        "pacs": {"dialect": "orthanc"},
        "access": PERMITS[permit],
        "audit": {"sink": "file", "file": str(tmp_path / "audit.jsonl")},
    }


def refused(patient: str) -> list[str]:
    """The UIDs of this patient that somebody else has, too."""
    return [SHARED, NAMELESS] if patient == "p1" else [SHARED]


SEARCHES = (
    "/fhir/ImagingStudy",
    "/fhir/Patient/{patient}/ImagingStudy",
    "/fhir/ImagingStudy?_lastUpdated=gt2000-01-01",
    "/fhir/ImagingStudy?_count=1",
    "/fhir/ImagingStudy?_sort=started",
    "/fhir/ImagingStudy?modality=CT&_include=ImagingStudy:endpoint",
)
LISTS = (
    "/studies",
    "/series",
    "/instances",
    "/studies?limit=1",
    "/studies?limit=2",
    "/instances?limit=1",
    "/series?limit=1&Modality=CT",
)


@pytest.mark.parametrize("permit", PERMITS)
@pytest.mark.parametrize("patient", OWN)
async def test_it_is_in_no_list(
    orthanc: Orthanc, tmp_path: Path, patient: str, permit: str
) -> None:
    async with (
        sidecar_between(ehr(patient), Served(orthanc), **settings(permit, tmp_path)) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)
        for path in SEARCHES:
            bundle = await client.bundle(path.format(patient=patient))
            studies = [
                one["resource"] for one in bundle["entry"] if one["search"]["mode"] == "match"
            ]
            assert ([one["id"] for one in studies], bundle["total"]) == ([OWN[patient]], 1), path
            assert "next" not in {link["relation"] for link in bundle["link"]}
        assert (await client.bundle("/fhir/ImagingStudy?_summary=count"))["total"] == 1
        for uid in refused(patient):
            number = "1" if patient == "p1" else "2"
            for search in (
                f"_id={uid}",
                f"identifier=urn:oid:{uid}",
                f"series={uid}.{number}",
                f"instance={uid}.{number}.1",
            ):
                assert (await client.bundle(f"/fhir/ImagingStudy?{search}"))["total"] == 0, search
            for below in (
                f"/studies?StudyInstanceUID={uid}",
                f"/series?StudyInstanceUID={uid}",
                f"/instances?SeriesInstanceUID={uid}.{number}",
            ):
                assert await client.rows("/wado-rs" + below) == [], below
        for path in LISTS:
            for root in ("/wado-rs", f"/fhir/Patient/{patient}/$wado-rs"):
                assert await client.rows(root + path) == [OWN[patient]], path
        assert await client.rows("/wado-rs/studies?limit=1&offset=1") == []


@pytest.mark.parametrize("permit", PERMITS)
@pytest.mark.parametrize("patient", OWN)
async def test_it_is_refused_in_each_form_like_what_is_not_there(
    orthanc: Orthanc, tmp_path: Path, patient: str, permit: str
) -> None:
    """Status, body and headers; the audit trail knows better."""
    forms = (
        "/wado-rs/studies/{}",
        "/wado-rs/studies/{}/metadata",
        "/wado-rs/studies/{}/rendered",
        "/wado-rs/studies/{}/series",
        "/wado-rs/studies/{}/instances",
        "/wado-rs/studies/{}/series/{}.1",
        "/wado-rs/studies/{}/series/{}.1/instances/{}.1.1/frames/1",
        "/wado-rs/studies/{}/series/{}.2/instances/{}.2.1/rendered",
        "/fhir/ImagingStudy/{}",
    )
    async with (
        sidecar_between(ehr(patient), Served(orthanc), **settings(permit, tmp_path)) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)
        for form in forms:
            absent = await client.get(form.replace("{}", ABSENT))
            assert absent[0] == 404
            for uid in refused(patient):
                assert await client.get(form.replace("{}", uid)) == absent, form
    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    told = {
        one["outcomeDesc"]
        for one in events
        if any(uid in json.dumps(one) for uid in refused(patient))
    }
    assert told == {"shared_uid"}
    assert "shared_uid" not in {one["outcomeDesc"] for one in events if ABSENT in json.dumps(one)}


@pytest.mark.parametrize("permit", PERMITS)
async def test_operators_see_it(
    orthanc: Orthanc, tmp_path: Path, permit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A counter and a warning, which name nobody; the trail of each list names the study."""
    async with (
        sidecar_between(ehr("p1"), Served(orthanc), **settings(permit, tmp_path)) as (url, sidecar),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)

        def counted() -> float:
            return sidecar.metrics.registry.get_sample_value("smart_imaging_shared_uids_total") or 0

        assert counted() == 0
        for number, path in enumerate(
            ("/fhir/ImagingStudy", "/wado-rs/studies", "/wado-rs/instances"), start=1
        ):
            caplog.clear()
            await client.get(path)
            assert counted() == 2 * number
            (warning,) = [
                one for one in caplog.records if getattr(one, "reason", None) == "shared_uid"
            ]
            assert (warning.levelno, warning.__dict__["studies"]) == (logging.WARNING, 2)
            assert not any(
                who in str(vars(one)) for one in caplog.records for who in (SHARED, NAMELESS)
            )
        await client.get(f"/fhir/ImagingStudy/{SHARED}")
        assert counted() == 7
        await client.get(f"/fhir/ImagingStudy/{OWN['p1']}")
        assert counted() == 7
        reasons = {"decision": "deny", "reason": "shared_uid"}
        assert (
            sidecar.metrics.registry.get_sample_value(
                "smart_imaging_access_decisions_total", reasons
            )
            == 1
        )
    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    for one in events[:3]:
        (left_out,) = [entity for entity in one["entity"] if "detail" in entity]
        named = [(detail["type"], detail["valueString"]) for detail in left_out["detail"]]
        assert named == [("shared_uid", SHARED), ("shared_uid", NAMELESS)]


async def test_no_capability_is_issued_and_an_old_one_ends(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    """The address came before the clash."""
    later = "1.2.826.0.1.3680043.8.498.6.4"
    put(orthanc, tmp_path / "a", "p4", later)
    changes: dict[str, dict[str, Any]] = {
        "pacs": {"dialect": "orthanc"},
        "limits": {"search_cache_seconds": 0},
        "capabilities": token_bound(tmp_path),
    }
    async with (
        sidecar_between(ehr("p4"), Served(orthanc), **changes) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)
        _, endpoint = (await client.bundle("/fhir/ImagingStudy"))["entry"]
        root = endpoint["resource"]["address"].removeprefix("http://sidecar.example.org")
        assert await client.rows(f"{root}/studies") == [later]
        assert await client.rows(f"{root}/series") == [later]
        put(orthanc, tmp_path / "b", "p2", later)
        bundle = await client.bundle("/fhir/ImagingStudy")
        assert (bundle["total"], bundle.get("entry", [])) == (0, [])
        # The list saw it: no read rests on the owners that are remembered.
        for path in (
            f"{root}/studies",
            f"{root}/series",
            f"{root}/instances",
            f"{root}/studies/{later}",
        ):
            assert (await client.get(path))[0] == 404, path


async def test_a_read_that_sees_it_ends_the_list_that_does_not(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    """A list is remembered for ten minutes; what came under its UID is another patient's."""
    later = "1.2.826.0.1.3680043.8.498.6.5"
    put(orthanc, tmp_path / "a", "p5", later)
    changes: dict[str, dict[str, Any]] = {
        "pacs": {"dialect": "orthanc"},
        "limits": {"search_cache_seconds": 600},
    }
    async with (
        sidecar_between(ehr("p5"), Served(orthanc), **changes) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
    ):
        client = Client(url, us)
        assert (await client.bundle("/fhir/ImagingStudy"))["total"] == 1
        put(orthanc, tmp_path / "b", "p2", later)
        assert (await client.get(f"/wado-rs/studies/{later}/metadata"))[0] == 404
        assert (await client.bundle("/fhir/ImagingStudy"))["total"] == 0

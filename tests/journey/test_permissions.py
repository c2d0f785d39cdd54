"""Rules, constrained scopes and backend clients in front of each archive, on every way alike
(SIA-11, 13, 43, 45).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.web import DICOMwebClient

from sidecar.demo.samples import fill
from tests.capability_keys import token_bound
from tests.data import ct_study
from tests.journey.conftest import ARCHIVES, dcm4chee_mode
from tests.journey.world import Instance, World, make_world
from tests.real.orthanc import Orthanc, require_orthanc

ACCESS = {
    "backend_services": True,
    "clients": {"app": {"patients": ["peter"], "studies": {"ModalitiesInStudy": ["MR"]}}},
    "rules": [
        {
            "name": "no angiographies",
            "effect": "exclude",
            "study": {"StudyDescription": ["*mra*"]},
            "unknown": "ignored",
        },
        {"name": "no nuclear medicine", "effect": "exclude", "series": {"Modality": ["NM"]}},
    ],
}
ANGIOGRAPHY = "Brain-MRA"
NOWHERE = "1.2.3.4"
MIXED = "1.2.826.0.1.3680043.8.498.1.77"
JSON = {"Accept": "application/dicom+json"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pydicom's files, and a study of robin's with a series of nuclear medicine among others."""
    directory = tmp_path_factory.mktemp("images")
    fill(directory)
    written = ct_study(
        directory / "mixed",
        instances=6,
        patient_id="1CT1",
        study_instance_uid=MIXED,
        series=3,
        rows=16,
        columns=16,
    )
    for file in written[:2]:
        image = pydicom.dcmread(file)
        image.Modality = "NM"
        image.save_as(file)
    return directory


@pytest.fixture(scope="module", params=ARCHIVES)
def world(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The world with these permissions, in front of each archive."""
    directory = tmp_path_factory.mktemp("world")
    changes = {"access": ACCESS, "capabilities": token_bound(directory)}
    if request.param != "orthanc":
        with make_world(
            directory, images, None, changes, dcm4chee=dcm4chee_mode(request.param)
        ) as made:
            yield made
        return
    require_orthanc()
    with Orthanc() as running:
        running.load_folder(images)
        with make_world(directory, images, running, changes) as made:
            yield made


def get(session: requests.Session, url: str, **headers: str) -> requests.Response:
    """A short name."""
    return session.get(url, headers=headers, timeout=60)


def entries(world: World, session: requests.Session, query: str) -> dict[str, dict[str, Any]]:
    """The resources of a search by their ``fullUrl``."""
    answer = get(session, f"{world.sidecar.fhir}/ImagingStudy?{query}")
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    found = {one["fullUrl"]: one["resource"] for one in bundle.get("entry", [])}
    assert bundle["total"] == sum(one["resourceType"] == "ImagingStudy" for one in found.values())
    return found


def search(world: World, session: requests.Session, query: str) -> dict[str, dict[str, Any]]:
    """The studies found, by UID."""
    found = entries(world, session, query).values()
    return {one["id"]: one for one in found if one["resourceType"] == "ImagingStudy"}


def without_address(study: dict[str, Any]) -> dict[str, Any]:
    """But for the address, which is a new one in each search and the standing one in a read
    (SIA-33).
    """
    return {name: value for name, value in study.items() if name != "endpoint"}


def of_study(world: World, patient: str, study: str) -> list[Instance]:
    """The truth on a study."""
    return [one for one in world.of(patient) if one.study == study]


@pytest.fixture
def angiography(world: World) -> str:
    """The UID of the study that is excluded: peter's with the most series of MR."""
    mine = [one for one in world.of("peter") if one.modality == "MR"]
    studies = {one.study for one in mine}
    return max(studies, key=lambda study: len({one.uid for one in mine if one.study == study}))


@pytest.fixture
def mixed() -> str:
    """The UID of robin's study that has a series of nuclear medicine, and others."""
    return MIXED


def test_an_excluded_study_is_nowhere(world: World, angiography: str) -> None:
    session = world.session("peter")
    studies = search(world, session, "patient=peter")
    assert set(studies) == {one.study for one in world.of("peter")} - {angiography}
    assert not any(one.get("description") == ANGIOGRAPHY for one in studies.values())
    assert search(world, session, f"patient=peter&identifier=urn:oid:{angiography}") == {}
    rows = get(session, f"{world.sidecar.url}/wado-rs/studies").json()
    assert {row["0020000D"]["Value"][0] for row in rows} == set(studies)
    for level in ("series", "instances"):
        rows = get(session, f"{world.sidecar.url}/wado-rs/{level}").json()
        assert angiography not in {row["0020000D"]["Value"][0] for row in rows}
        assert {row["0020000D"]["Value"][0] for row in rows} == set(studies)


def test_an_excluded_study_is_as_one_that_is_not_there(world: World, angiography: str) -> None:
    """SIA-45: the same status and body on every route."""
    session = world.session("peter")
    one = of_study(world, "peter", angiography)[0]
    series, instance = one.series, one.uid
    for path in (
        "/fhir/ImagingStudy/{study}",
        "/wado-rs/studies/{study}",
        "/wado-rs/studies/{study}/metadata",
        "/wado-rs/studies/{study}/rendered",
        "/wado-rs/studies/{study}/series",
        "/wado-rs/studies/{study}/instances",
        f"/wado-rs/studies/{{study}}/series/{series}",
        f"/wado-rs/studies/{{study}}/series/{series}/instances",
        f"/wado-rs/studies/{{study}}/series/{series}/instances/{instance}",
        f"/wado-rs/studies/{{study}}/series/{series}/instances/{instance}/frames/1",
        f"/wado-uri?requestType=WADO&studyUID={{study}}&seriesUID={series}&objectUID={instance}",
    ):
        hidden, absent = [
            get(session, world.sidecar.url + path.format(study=study))
            for study in (angiography, NOWHERE)
        ]
        assert hidden.status_code == absent.status_code == 404, path
        assert hidden.content == absent.content


def test_a_study_without_its_excluded_series(world: World, mixed: str) -> None:
    session = world.session("robin")
    kept = [one for one in of_study(world, "robin", mixed) if one.modality != "NM"]
    study = search(world, session, "patient=robin")[mixed]
    assert {one["uid"] for one in study["series"]} == {one.series for one in kept}
    assert study["numberOfSeries"] == len({one.series for one in kept})
    assert study["numberOfInstances"] == len({one.uid for one in kept})
    assert {one["code"] for one in study["modality"]} == {one.modality for one in kept}
    read = get(session, f"{world.sidecar.fhir}/ImagingStudy/{mixed}").json()
    assert without_address(read) == without_address(study)
    rows = get(session, f"{world.sidecar.url}/wado-rs/studies/{mixed}/series").json()
    assert {row["0020000E"]["Value"][0] for row in rows} == {one.series for one in kept}
    rows = get(session, f"{world.sidecar.url}/wado-rs/studies/{mixed}/instances").json()
    assert {row["00080018"]["Value"][0] for row in rows} == {one.uid for one in kept}
    for row in get(session, f"{world.sidecar.url}/wado-rs/studies?includefield=all").json():
        if row["0020000D"]["Value"] == [mixed]:
            assert set(row["00080061"]["Value"]) == {one.modality for one in kept}
            assert int(row["00201206"]["Value"][0]) == len({one.series for one in kept})
            assert "00080062" not in row


def test_no_row_names_what_is_excluded(world: World, mixed: str) -> None:
    """Whatever is asked for beside: archives fill a study's row from any of its images."""
    session = world.session("robin")
    hidden = [one for one in of_study(world, "robin", mixed) if one.modality == "NM"]
    for path in (
        "studies",
        "studies?includefield=all",
        "studies?includefield=SeriesInstanceUID,SOPInstanceUID,Modality",
        "series?includefield=all",
        f"studies/{mixed}/series?includefield=ModalitiesInStudy,SOPClassesInStudy",
        "instances?includefield=all",
        f"studies/{mixed}/instances?includefield=ModalitiesInStudy",
    ):
        rows = get(session, f"{world.sidecar.url}/wado-rs/{path}").json()
        told = [row for row in rows if row["0020000D"]["Value"] == [mixed]]
        assert told, path
        written = str(told)
        assert not any(one.series in written or one.uid in written for one in hidden), path
        assert "'NM'" not in written, path


def test_nothing_can_be_searched_by_what_is_excluded(world: World, mixed: str) -> None:
    session = world.session("robin")
    hidden = next(one for one in of_study(world, "robin", mixed) if one.modality == "NM")
    shown = next(one for one in of_study(world, "robin", mixed) if one.modality != "NM")
    for query in ("modality=NM", f"series={hidden.series}", f"instance={hidden.uid}"):
        assert mixed not in search(world, session, f"patient=robin&{query}"), query
    for query in (
        f"modality={shown.modality}",
        f"series={shown.series}",
        f"instance={shown.uid}",
        "modality:not=NM",
    ):
        assert mixed in search(world, session, f"patient=robin&{query}"), query
    for path in (
        "studies?ModalitiesInStudy=NM",
        f"series?SeriesInstanceUID={hidden.series}",
        f"instances?SOPInstanceUID={hidden.uid}",
        f"studies/{mixed}/series?Modality=NM",
    ):
        rows = get(session, f"{world.sidecar.url}/wado-rs/{path}").json()
        assert mixed not in {row["0020000D"]["Value"][0] for row in rows}, path
    rows = get(
        session, f"{world.sidecar.url}/wado-rs/studies?ModalitiesInStudy={shown.modality}"
    ).json()
    assert mixed in {row["0020000D"]["Value"][0] for row in rows}


def test_a_study_with_an_excluded_series_is_fetched_in_parts(world: World, mixed: str) -> None:
    """SIA-43: whole it is refused, and whoever may know is told which parts there are."""
    session = world.session("robin")
    kept = {one.series for one in of_study(world, "robin", mixed) if one.modality != "NM"}
    hidden = next(one for one in of_study(world, "robin", mixed) if one.modality == "NM")
    root = f"{world.root('robin')}/studies/{mixed}"
    for whole in (root, root + "/metadata", root + "/rendered", root + "/thumbnail"):
        answer = get(session, whole)
        assert answer.status_code == 403
        said = answer.json()["issue"][0]["diagnostics"]
        assert all(uid in said for uid in kept)
        assert hidden.series not in said
    for uid in kept:
        answer = get(session, f"{root}/series/{uid}")
        assert answer.status_code == 200
        assert hidden.uid.encode() not in answer.content
    absent = get(session, f"{root}/series/{NOWHERE}")
    for path in (
        "",
        "/metadata",
        f"/instances/{hidden.uid}",
        "/instances",
        f"/instances/{hidden.uid}/frames/1",
    ):
        answer = get(session, f"{root}/series/{hidden.series}{path}")
        assert (answer.status_code, answer.content) == (404, absent.content)
    # Whose study it is not is told nothing.
    assert get(world.session("peter"), root).status_code == 403
    other = get(world.session("peter"), f"{world.root('peter')}/studies/{mixed}")
    assert (other.status_code, other.content) == (404, absent.content)


def test_a_constrained_scope(world: World, angiography: str) -> None:
    """SIA-11: what a search with that parameter finds; and together with another grant not more
    than each (SIA-15).
    """
    mr = {one.study for one in world.of("peter") if one.modality == "MR"} - {angiography}
    ct = {one.study for one in world.of("peter") if one.modality == "CT"}
    for scope, wanted in (
        ("patient/ImagingStudy.rs?modality=MR", mr),
        ("patient/ImagingStudy.rs?modality=http://dicom.nema.org/resources/ontology/DCM|MR", mr),
        ("patient/ImagingStudy.rs?modality=MR,CT", mr | ct),
        ("patient/ImagingStudy.rs?modality=MR&modality=CT", set()),
        ("patient/ImagingStudy.rs?started=lt2002", ct),
        ("patient/ImagingStudy.rs?started=lt2002&modality=MR", set()),
        ("patient/ImagingStudy.rs?status=available", mr | ct),
        ("patient/ImagingStudy.rs?modality=MR patient/ImagingStudy.rs?started=lt2002", mr | ct),
        ("patient/ImagingStudy.rs?modality=MR patient/ImagingStudy.rs?_lastUpdated=lt2002", mr),
        ("patient/ImagingStudy.rs?modality=MR patient/ImagingStudy.rs", mr | ct),
    ):
        session = world.session("peter", scope)
        assert set(search(world, session, "patient=peter")) == wanted, scope
        for study in (*mr, *ct):
            status = get(
                session, f"{world.root('peter')}/studies/{study}/metadata", **JSON
            ).status_code
            assert status == (200 if study in wanted else 404)
    refused = get(
        world.session("peter", "patient/ImagingStudy.rs?foo=bar"),
        f"{world.sidecar.fhir}/ImagingStudy",
    )
    assert refused.status_code == 403


def test_a_backend_client(world: World, angiography: str) -> None:
    """SIA-13: its patients and studies, each patient by name."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {world.token(None, 'system/ImagingStudy.rs')}"
    mr = {one.study for one in world.of("peter") if one.modality == "MR"} - {angiography}
    ct = next(one.study for one in world.of("peter") if one.modality == "CT")
    assert set(search(world, session, "patient=peter")) == mr
    assert set(search(world, session, "patient=Patient/peter&modality=MR")) == mr
    compartment = get(session, f"{world.sidecar.fhir}/Patient/peter/ImagingStudy").json()["entry"]
    assert {one["resource"]["id"] for one in compartment if one["search"]["mode"] == "match"} == mr
    for study in mr:
        assert get(session, f"{world.root('peter')}/studies/{study}").status_code == 200
    assert get(session, f"{world.root('peter')}/studies/{ct}").status_code == 404
    for url in (
        f"{world.sidecar.fhir}/ImagingStudy",
        f"{world.sidecar.fhir}/ImagingStudy?patient=robin",
        f"{world.sidecar.fhir}/ImagingStudy?patient=peter,robin",
        f"{world.root('robin')}/studies/{ct}",
        f"{world.sidecar.url}/wado-rs/studies",
        f"{world.sidecar.fhir}/Patient/robin/ImagingStudy?patient=peter",
    ):
        assert get(session, url).status_code == 403, url


def test_a_backend_client_follows_links(world: World, angiography: str) -> None:
    """SIA-13, 45: to what is its patients' and shown; all else is as if it were not there."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {world.token(None, 'system/ImagingStudy.rs')}"
    found = search(world, session, "patient=peter")
    for uid, study in found.items():
        read = get(session, f"{world.sidecar.fhir}/ImagingStudy/{uid}").json()
        assert without_address(read) == without_address(study)
        endpoint = get(session, f"{world.sidecar.fhir}/{read['endpoint'][0]['reference']}")
        assert endpoint.json()["address"] == world.root("peter")
    hidden = next(one.study for one in world.of("peter") if one.modality == "CT")
    answers = [
        get(session, f"{world.sidecar.fhir}/{path}")
        for path in (
            f"ImagingStudy/{NOWHERE}",
            f"ImagingStudy/{MIXED}",
            f"ImagingStudy/{angiography}",
            f"ImagingStudy/{hidden}",
            "ImagingStudy/no-such-id",
            "Endpoint/robin",
            "Endpoint/nobody",
        )
    ]
    assert {(one.status_code, one.content) for one in answers} == {(404, answers[0].content)}


def test_a_study_by_its_own_address(world: World) -> None:
    """SIA-50: with ``dicomweb-client`` and the token; the archive's URLs become the address's own
    (SIA-45).
    """
    session = world.session("robin")
    everything = entries(world, session, "patient=robin")
    found = {one["id"]: one for one in everything.values() if one["resourceType"] == "ImagingStudy"}
    roots = {
        uid: everything[one["endpoint"][0]["reference"]]["address"] for uid, one in found.items()
    }
    study = next(iter({one.study for one in world.of("robin") if one.modality == "CT"} - {MIXED}))
    truth = of_study(world, "robin", study)
    root = roots[study]
    web = DICOMwebClient(root, session=session)
    assert {str(one.SOPInstanceUID) for one in web.retrieve_study(study)} == {
        one.uid for one in truth
    }
    assert [one["0020000D"]["Value"][0] for one in web.search_for_studies()] == [study]
    assert {one["00080018"]["Value"][0] for one in web.search_for_instances()} == {
        one.uid for one in truth
    }
    assert {one["0020000E"]["Value"][0] for one in web.search_for_series(study)} == {
        one.series for one in truth
    }
    other = next(one for one in found if one != study)
    assert web.search_for_studies(search_filters={"StudyInstanceUID": other})[0]["0020000D"][
        "Value"
    ] == [study]
    metadata = get(session, f"{root}/studies/{study}/metadata", **JSON)
    for url in re.findall(r'"BulkDataURI":\s*"([^"]+)"', metadata.text):
        assert url.startswith(root + "/studies/")
        assert get(session, url, Accept="*/*").status_code == 200
    for path in (f"/studies/{other}", f"/studies/{other}/metadata", f"/studies/{MIXED}/series"):
        assert get(session, root + path).status_code == 404
    assert requests.get(f"{root}/studies/{study}", timeout=60).status_code == 401
    # The address of a study that may be had in parts alone gives those parts.
    parts = roots[MIXED]
    assert get(session, f"{parts}/studies/{MIXED}").status_code == 403
    for series in {one.series: one.modality for one in of_study(world, "robin", MIXED)}.items():
        answer = get(session, f"{parts}/studies/{MIXED}/series/{series[0]}")
        assert answer.status_code == (404 if series[1] == "NM" else 200)

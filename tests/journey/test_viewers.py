"""docs/viewers.md: the requests of viewers, in their order and with their headers; its Python."""

import hashlib
from io import BytesIO
from zipfile import ZipFile

import pydicom
import pytest
import requests
from dicomweb_client.web import DICOMwebClient

from sidecar.demo.people import WITH_TEST_FILES
from tests.journey.multipart import parts_of
from tests.journey.world import World
from tests.markdown import ROOT, snippet

VIEWERS = ROOT / "docs/viewers.md"
JAVA = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}
"""What Java's own HTTP client sends where the program says nothing."""
STUDY_FIELDS = (
    "00080020,00080030,00080050,00080061,00080090,00081030,00100010,00100020,00100021,00100030,"
    "00100040,0020000D,00200010"
)


def files(answer: requests.Response) -> list[bytes]:
    """The parts of a multipart answer."""
    assert answer.status_code == 200
    return [body for _, body in parts_of(answer.headers["Content-Type"], answer.content)]


def test_weasis(world: World) -> None:
    """By ``studyUID`` (RsQueryResult.java): study, series, instances, and each by its address."""
    session = world.session("peter")
    root = world.sidecar.url + "/wado-rs"
    accept = {"Accept": 'multipart/related;type="application/dicom";transfer-syntax=*'}
    study = world.of("peter")[0].study

    def rows(url: str) -> list[dict[str, dict[str, list[str]]]]:
        answer = session.get(url, headers=JAVA, timeout=60)
        assert (answer.status_code, answer.headers["Content-Type"]) == (
            200,
            "application/dicom+json",
        )
        found: list[dict[str, dict[str, list[str]]]] = answer.json()
        return found

    (found,) = rows(
        f"{root}/studies?0020000D={study}&includefield={STUDY_FIELDS}&includedefaults=false"
    )
    assert found["0020000D"]["Value"] == [study]
    # `patientID=` is ignored: the token's patient it is.
    by_number = rows(f"{root}/studies?00100020=unknown&includefield={STUDY_FIELDS}")
    assert {one["0020000D"]["Value"][0] for one in by_number} == {
        one.study for one in world.of("peter")
    }
    came = set()
    fields = "0008103E,00080060,0020000E,00200011,00081190"
    for series in rows(f"{root}/studies/{study}/series?includefield={fields}"):
        address = series["00081190"]["Value"][0]
        for instance in rows(f"{address}/instances?includefield=00080018,00200013,00081190"):
            answer = session.get(instance["00081190"]["Value"][0], headers=accept, timeout=60)
            (content,) = files(answer)
            came.add(hashlib.sha256(content).hexdigest())
    assert came == {one.sha256 for one in world.of("peter") if one.study == study}


def test_slicer(world: World) -> None:
    """``DICOMUtils.importFromDICOMWeb``: what it calls of dicomweb-client, in its order."""
    headers = {"Authorization": f"Bearer {world.token('peter')}"}
    client = DICOMwebClient(world.sidecar.url + "/wado-rs", headers=headers)
    for study in sorted({one.study for one in world.of("peter")}):
        own = [one for one in world.of("peter") if one.study == study]
        series_list = client.search_for_series(study_instance_uid=study)
        assert {one["0020000E"]["Value"][0] for one in series_list} == {one.series for one in own}
        for series in {one.series for one in own}:
            metadata = client.retrieve_series_metadata(
                study_instance_uid=study, series_instance_uid=series
            )
            uids = {one["00080018"]["Value"][0] for one in metadata}
            came = client.iter_series(study_instance_uid=study, series_instance_uid=series)
            assert {str(one.SOPInstanceUID) for one in came} == uids


def fetched(client: DICOMwebClient, study: str, series: str) -> set[str] | int:
    """The SOPInstanceUIDs of a series, as Slicer fetches it; or the status of the refusal."""
    try:
        came = client.iter_series(study_instance_uid=study, series_instance_uid=series)
        return {str(one.SOPInstanceUID) for one in came}
    except requests.HTTPError as error:
        return 0 if error.response is None else error.response.status_code


def test_slicer_misses_what_the_archive_cannot_decode(world: World) -> None:
    """A series is whole, or a 502 that Slicer shows; and then the study's ZIP has it."""
    root, missing = world.sidecar.url + "/wado-rs", set()
    for patient in WITH_TEST_FILES:
        headers = {"Authorization": f"Bearer {world.token(patient.id)}"}
        client = DICOMwebClient(root, headers=headers)
        own = world.of(patient.id)
        for study, series in sorted({(one.study, one.series) for one in own}):
            came = fetched(client, study, series)
            if came != {one.uid for one in own if one.series == series}:
                assert came == 502
                missing.add((patient.id, study))
    for patient_id, study in missing:
        url = f"{root}/studies/{study}?accept=application/zip"
        answer = world.session(patient_id).get(url, timeout=60)
        with ZipFile(BytesIO(answer.content)) as opened:
            saved = {hashlib.sha256(opened.read(one)).hexdigest() for one in opened.namelist()}
        assert {one.sha256 for one in world.of(patient_id) if one.study == study} <= saved
    assert world.orthanc is None or missing


def test_the_public_smart_imaging_viewer(world: World) -> None:
    """From the EHR's smart-configuration to the study (SIA-1, 20, 32)."""
    browser = {"Origin": "http://localhost:5173"}
    smart = requests.get(
        f"{world.ehr_url}/fhir/.well-known/smart-configuration", headers=browser, timeout=60
    )
    assert smart.headers["Access-Control-Allow-Origin"] == browser["Origin"]
    (imaging,) = (
        one["url"]
        for one in smart.json()["associated_endpoints"]
        if "smart-imaging-access" in one["capabilities"]
    )
    session = world.session("peter")
    found = session.get(
        f"{imaging}/ImagingStudy?_include=ImagingStudy%3Aendpoint&patient=Patient%2Fpeter",
        headers=browser | {"Accept": "application/fhir+json, application/json"},
        timeout=60,
    )
    assert found.headers["Access-Control-Allow-Origin"] == browser["Origin"]
    entries = {entry["fullUrl"]: entry["resource"] for entry in found.json()["entry"]}
    for study in (one for one in entries.values() if one["resourceType"] == "ImagingStudy"):
        reference = study["endpoint"][0]["reference"]
        resolvable = entries | {"#" + one["id"]: one for one in study.get("contained", [])}
        address = next(one["address"] for url, one in resolvable.items() if url.endswith(reference))
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        answer = session.get(
            f"{address}/studies/{uid}",
            headers=browser
            | {"Accept": "multipart/related; type=application/dicom; transfer-syntax=*"},
            timeout=60,
        )
        assert {hashlib.sha256(one).hexdigest() for one in files(answer)} == {
            one.sha256 for one in world.of("peter") if one.study == uid
        }


def test_dicomweb_client(world: World) -> None:
    """The Python of the page."""
    code = snippet(VIEWERS, "# dicomweb-client: all of a patient's studies")
    told = "http://127.0.0.1:8080"
    assert told in code
    names = {"token": world.token("peter")}
    exec(compile(code.replace(told, world.sidecar.url), VIEWERS, "exec"), names)
    studies: dict[str, list[pydicom.Dataset]] = names["studies"]  # type: ignore[assignment]
    came = {str(one.SOPInstanceUID) for datasets in studies.values() for one in datasets}
    assert came == {one.uid for one in world.of("peter")}


@pytest.mark.parametrize("form", ["studies", "series"])
def test_a_viewer_cannot_store(world: World, form: str) -> None:
    """A viewer that saves a measurement hears 405 (PS3.18 10.5)."""
    answer = world.session("peter").post(
        f"{world.sidecar.url}/wado-rs/{form}", data=BytesIO(b"x"), timeout=60
    )
    assert answer.status_code == 405

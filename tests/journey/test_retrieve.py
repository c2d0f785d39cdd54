"""An app fetches its patient's images with the real ``dicomweb-client`` (SIA-40..45)."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from dicomweb_client.web import DICOMwebClient

from sidecar.demo.people import WITH_TEST_FILES
from tests.journey.forms import forms
from tests.journey.multipart import parts_of
from tests.journey.world import Instance, World

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def client(world: World, patient: str, root: str | None = None) -> DICOMwebClient:
    return DICOMwebClient(root or world.root(patient), session=world.session(patient))


def drawable(world: World) -> Instance:
    """An uncompressed image with one frame, which every archive can draw."""
    return next(one for one in world.of("peter") if one.modality == "MR" and one.has_pixels)


@pytest.mark.parametrize("patient", [one.id for one in WITH_TEST_FILES])
def test_every_instance_is_byte_identical(world: World, patient: str) -> None:
    """SIA-40: SHA-256 of each retrieved part equals that of the stored file."""
    session = world.session(patient)
    retrieved: set[str] = set()
    for study in {instance.study for instance in world.of(patient)}:
        # As written by a real viewer: the type without quotes.
        accept = {"Accept": "multipart/related; type=application/dicom; transfer-syntax=*"}
        response = session.get(
            f"{world.root(patient)}/studies/{study}", headers=accept, timeout=120
        )
        assert response.status_code == 200
        parts = parts_of(response.headers["Content-Type"], response.content)
        retrieved |= {hashlib.sha256(content).hexdigest() for _, content in parts}
    assert retrieved == {instance.sha256 for instance in world.of(patient)}


def test_searches_of_the_dicomweb_client(world: World) -> None:
    """QIDO-RS below the patient: studies, series, instances, all levels; nobody else's."""
    for root in (None, world.sidecar.url + "/wado-rs"):
        web = client(world, "peter", root)
        studies = {one["0020000D"]["Value"][0] for one in web.search_for_studies()}
        assert studies == {one.study for one in world.of("peter")}
        some = world.of("peter")[0]
        series = web.search_for_series(some.study)
        assert {one["0020000E"]["Value"][0] for one in series} == {
            one.series for one in world.of("peter") if one.study == some.study
        }
        instances = web.search_for_instances(some.study, some.series)
        assert {one["00080018"]["Value"][0] for one in instances} == {
            one.uid for one in world.of("peter") if one.series == some.series
        }
        assert {one["00080018"]["Value"][0] for one in web.search_for_instances()} == {
            one.uid for one in world.of("peter")
        }


def test_the_patient_of_a_query_is_always_the_tokens(world: World) -> None:
    """Whatever the client writes about the patient."""
    web = client(world, "peter")
    own = {one.study for one in world.of("peter")}
    for filters in ({"PatientID": "77654033"}, {"00100020": "*"}, {"PatientID": ""}):
        found = web.search_for_studies(search_filters=filters)
        assert {one["0020000D"]["Value"][0] for one in found} <= own
    foreign = world.of("robin")[0]
    assert web.search_for_studies(search_filters={"StudyInstanceUID": foreign.study}) == []
    assert web.search_for_instances(search_filters={"SOPInstanceUID": foreign.uid}) == []


def test_a_query_for_somebody_else_says_that_it_was_not_heeded(world: World) -> None:
    """Its rows are the patient's own. The value is not repeated, and the own number is no news."""
    session, own = world.session("robin"), sorted({one.patient_id for one in world.of("robin")})
    assert len(own) > 1
    cases = [
        (f"PatientID={own[0]}", ""),
        (f"00100020={own[-1]}&PatientID=*&OtherPatientIDs=", ""),
        ("PatientID=77654033", "PatientID"),
        (f"00100020=77654033&PatientID={own[0]}", "00100020"),
        ("IssuerOfPatientID=77654033&PatientID=7765*", "IssuerOfPatientID, PatientID"),
        (f"OtherPatientIDs={own[0]}&_=1", "_, OtherPatientIDs"),
    ]
    for query, names in cases:
        url = f"{world.sidecar.url}/wado-rs/studies?{query}"
        answer = session.get(url, timeout=60)
        expected = f'299 smart-imaging-sidecar "Ignored query parameters: {names}"'
        assert answer.status_code == 200
        assert answer.headers.get("Warning") == (expected if names else None), query
        strict = session.get(url, headers={"Prefer": "handling=strict"}, timeout=60)
        assert strict.status_code == (400 if names else 200), query
        for text in (answer.text, str(answer.headers), strict.text, str(strict.headers)):
            assert "77654033" not in text


def test_a_merged_patient_pages_through_all_numbers(world: World) -> None:
    """Several PatientIDs: limit and offset count over all of them."""
    web = client(world, "robin")
    everything = [one["0020000D"]["Value"][0] for one in web.search_for_studies()]
    paged = [
        one["0020000D"]["Value"][0]
        for offset in range(len(everything) + 1)
        for one in web.search_for_studies(limit=1, offset=offset)
    ]
    assert paged == everything
    assert set(paged) == {one.study for one in world.of("robin")}


def test_retrieval_with_the_dicomweb_client(world: World) -> None:
    """Study, series, instance, metadata, frames, rendered."""
    some = drawable(world)
    web = client(world, "peter")
    study = web.retrieve_study(some.study)
    assert {str(one.SOPInstanceUID) for one in study} == {
        one.uid for one in world.of("peter") if one.study == some.study
    }
    series = web.retrieve_series(some.study, some.series)
    assert {str(one.SOPInstanceUID) for one in series} == {
        one.uid for one in world.of("peter") if one.series == some.series
    }
    instance = web.retrieve_instance(some.study, some.series, some.uid)
    assert str(instance.SOPInstanceUID) == some.uid
    frames = web.retrieve_instance_frames(some.study, some.series, some.uid, frame_numbers=[1])
    assert frames[0] == instance.PixelData[: len(frames[0])]
    assert (
        web.retrieve_instance_rendered(
            some.study, some.series, some.uid, media_types=("image/png",)
        )[:4]
        == b"\x89PNG"
    )
    for metadata in (
        web.retrieve_study_metadata(some.study),
        web.retrieve_series_metadata(some.study, some.series),
        [web.retrieve_instance_metadata(some.study, some.series, some.uid)],
    ):
        assert some.uid in {one["00080018"]["Value"][0] for one in metadata}


def test_the_commands_of_the_document(world: World, tmp_path: Path) -> None:
    """docs/api.md: pasted into a shell, with this server and a token, each brings what it says."""
    text = (Path(__file__).parents[2] / "docs/api.md").read_text()
    first, commands = text.partition("```sh\n")[2].partition("```")[0].split("\n", 1)
    assert first.startswith("B=http://127.0.0.1:8080; T=…")
    if (shell := shutil.which("bash")) is None or shutil.which("curl") is None:
        pytest.skip("needs bash and curl")
    environment = {"B": world.sidecar.url, "T": world.token("robin"), "PATH": os.environ["PATH"]}
    script = 'set -eu; curl() { command curl -sS --fail -g "$@"; }\n' + commands
    subprocess.run(
        [shell, "-c", script], cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    frame = (tmp_path / "frame").read_bytes()
    assert frame
    assert frame in (tmp_path / "study").read_bytes()


def test_urls_in_metadata_are_ours_and_work(world: World) -> None:
    """The PACS's address never leaks; a BulkDataURI can be fetched as it stands."""
    some = drawable(world)
    session = world.session("peter")
    root = f"{world.root('peter')}/studies/{some.study}/series/{some.series}"
    url = f"{root}/instances/{some.uid}/metadata"
    response = session.get(url, headers={"Accept": "application/dicom+json"}, timeout=60)
    row = response.json()[0]
    uris = [element["BulkDataURI"] for element in row.values() if "BulkDataURI" in element]
    for uri in uris:
        assert uri.startswith(world.root("peter") + "/studies/")
        assert session.get(uri, timeout=60).status_code == 200
    assert ":8042" not in response.text
    for found in session.get(f"{world.root('peter')}/studies", timeout=60).json():
        assert found["00081190"]["Value"][0].startswith(world.root("peter") + "/studies/")


def test_one_instance_without_multipart(world: World) -> None:
    """``Accept: application/dicom`` brings the file itself, whatever form the archive has."""
    for instance in world.of("peter"):
        root = f"{world.root('peter')}/studies/{instance.study}/series/{instance.series}"
        url = f"{root}/instances/{instance.uid}"
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        response = world.session("peter").get(url, headers=accept, timeout=60)
        assert (response.status_code, response.headers["Content-Type"]) == (
            200,
            "application/dicom",
        )
        assert hashlib.sha256(response.content).hexdigest() == instance.sha256


def test_an_older_viewer_by_wado_uri(world: World) -> None:
    """PS3.18 chapter 9: one instance as stored, and drawn; another patient's is not there."""
    own, session = drawable(world), world.session("peter")
    foreign = world.of("archibald")[0]

    def ask(one: Instance, **more: str) -> requests.Response:
        uids = {"studyUID": one.study, "seriesUID": one.series, "objectUID": one.uid}
        return session.get(
            world.sidecar.url + "/wado-uri",
            params={"requestType": "WADO", **uids, **more},
            timeout=60,
        )

    stored = ask(own, contentType="application/dicom")
    assert stored.status_code == 200
    assert hashlib.sha256(stored.content).hexdigest() == own.sha256
    for how in (
        {},
        {"rows": "64", "columns": "64"},
        {"windowCenter": "600", "windowWidth": "1200"},
        {"imageQuality": "50"},
    ):
        drawn = ask(own, **how)
        assert (drawn.status_code, drawn.content[:2]) == (200, b"\xff\xd8"), how
    for content_type in ("application/dicom", "image/jpeg"):
        assert ask(foreign, contentType=content_type).status_code == 404


def test_foreign_uids_are_refused_in_every_form(world: World) -> None:
    """SIA-42, 45: a foreign study, series or instance, anywhere in the path; one answer for all, no
    DICOM data.
    """
    own, foreign = (
        drawable(world),
        next(one for one in world.of("archibald") if one.modality == "CR"),
    )
    other = next(one for one in world.of("peter") if one.study != own.study)
    session = world.session("peter")
    mixed = {
        "foreign study": (foreign.study, foreign.series, foreign.uid),
        "foreign series": (own.study, foreign.series, foreign.uid),
        "foreign series, own instance": (own.study, foreign.series, own.uid),
        "foreign instance": (own.study, own.series, foreign.uid),
        "series of another own study": (own.study, other.series, other.uid),
        "made up": ("1.2.3", "1.2.3.4", "1.2.3.4.5"),
    }
    answers: set[bytes] = set()
    tried = 0
    for what, (study, series, instance) in mixed.items():
        for form, path in forms(study, series, instance).items():
            if (
                study == own.study
                and (
                    form.startswith("study")
                    or form == "query series"
                    or (series == own.series and "series" in form)
                )
            ) or (series == own.series and form == "query instances"):
                continue  # These name nothing foreign.
            for root in (world.root("peter"), world.sidecar.url + "/wado-rs"):
                response = session.get(f"{root}/{path}", headers={"Accept": "*/*"}, timeout=60)
                assert response.status_code == 404, (what, form)
                assert response.headers["Content-Type"].startswith("application/fhir+json")
                answers.add(response.content)
                tried += 1
    assert len(answers) == 1
    assert tried > 150


def test_another_patients_root_is_refused(world: World) -> None:
    """SIA-12: also with the right study below it, and whether or not that patient exists."""
    own = drawable(world)
    session = world.session("peter")
    for patient in ("archibald", "nobody", "98890234"):
        response = session.get(f"{world.root(patient)}/studies/{own.study}", timeout=60)
        assert response.status_code == 403
        assert response.json()["resourceType"] == "OperationOutcome"


def test_head_and_percent_encoded_operation(world: World) -> None:
    """HEAD tells type without a body; %24wado-rs is $wado-rs."""
    some = drawable(world)
    session = world.session("peter")
    url = f"{world.root('peter')}/studies/{some.study}"
    head = session.head(url, headers={"Accept": STORED}, timeout=60)
    assert head.status_code == 200
    assert head.headers["Content-Type"].startswith("multipart/related")
    encoded = session.get(url.replace("$", "%24"), headers={"Accept": STORED}, timeout=60)
    assert encoded.status_code == 200


def test_writes_are_refused(world: World) -> None:
    """405, and the archive is as before."""
    some = drawable(world)
    session = world.session("peter")
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        for url in (
            f"{world.root('peter')}/studies/{some.study}",
            f"{world.sidecar.fhir}/ImagingStudy/{some.study}",
        ):
            body = None if method == "DELETE" else b"x"  # With one it is a 400.
            assert session.request(method, url, data=body, timeout=60).status_code == 405
    assert session.get(f"{world.root('peter')}/studies/{some.study}", timeout=60).status_code == 200


def test_unacceptable_forms(world: World) -> None:
    """406 for what cannot be checked: archives and XML."""
    some = drawable(world)
    session = world.session("peter")
    url = f"{world.root('peter')}/studies/{some.study}"
    for path, accept in (
        ("/rendered", "application/zip"),
        ("/metadata", "application/dicom+xml"),
        ("", "text/html"),
    ):
        assert session.get(url + path, headers={"Accept": accept}, timeout=60).status_code == 406


def test_no_token_no_image(world: World) -> None:
    """SIA-10 on every DICOMweb route."""
    some = drawable(world)
    for path in forms(some.study, some.series, some.uid).values():
        for root in (world.root("peter"), world.sidecar.url + "/wado-rs"):
            assert requests.get(f"{root}/{path}", timeout=60).status_code == 401

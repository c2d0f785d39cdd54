"""An app finds its patient's studies (SIA-20..24, 30..32), in front of real archives."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
import requests
from fhir.resources.R4B.bundle import Bundle

from sidecar.demo.people import MRN_SYSTEM, WITH_TEST_FILES
from tests.fhir.profile import check_bundle
from tests.journey.searches import search, uids
from tests.journey.world import Instance, World
from tests.waiting import wait_until


def test_an_app_finds_us_through_the_ehr(world: World) -> None:
    """SIA-1, 3: associated_endpoints, then our own documents without a token."""
    found = requests.get(world.ehr_url + "/fhir/.well-known/smart-configuration", timeout=60).json()
    endpoint = next(
        e for e in found["associated_endpoints"] if "smart-imaging-access" in e["capabilities"]
    )
    assert endpoint["url"] == world.sidecar.fhir
    statement = requests.get(endpoint["url"] + "/metadata", timeout=60).json()
    assert statement["fhirVersion"] == "4.0.1"
    ours = requests.get(endpoint["url"] + "/.well-known/smart-configuration", timeout=60).json()
    assert ours["token_endpoint"] == found["token_endpoint"]


@pytest.mark.parametrize("patient", [one.id for one in WITH_TEST_FILES])
def test_all_studies_of_a_patient(world: World, patient: str) -> None:
    """SIA-20, 24, 30: every study under every PatientID, and nobody else's; valid FHIR R4."""
    response = search(
        world, world.session(patient), f"patient={patient}&_include=ImagingStudy:endpoint"
    )
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/fhir+json")
    bundle = response.json()
    truth = {instance.study for instance in world.of(patient)}
    assert uids(bundle) == {f"urn:oid:{study}" for study in truth}
    assert bundle["total"] == len(truth)
    check_bundle(bundle)
    Bundle.model_validate(bundle)
    included = [
        entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "include"
    ]
    assert [one["address"] for one in included] == [world.root(patient)]


@pytest.mark.parametrize("patient", [one.id for one in WITH_TEST_FILES])
def test_series_and_counts_are_the_archives(world: World, patient: str) -> None:
    """SIA-30: series with modality and count, as the files have them."""
    bundle = search(world, world.session(patient), f"patient={patient}").json()
    for entry in bundle["entry"]:
        study = entry["resource"]
        truth = [one for one in world.of(patient) if one.study == study["id"]]
        assert {one["uid"] for one in study["series"]} == {one.series for one in truth}
        assert study["numberOfInstances"] == len(truth)
        assert {one["code"] for one in study["modality"]} == {one.modality for one in truth}


@pytest.mark.parametrize(
    "form",
    [
        "patient=peter",
        "patient=Patient/peter",
        "subject=Patient/peter",
        "subject:Patient=peter",
        "",
    ],
)
def test_the_patient_may_be_written_in_any_way(world: World, form: str) -> None:
    """SIA-20."""
    session = world.session("peter")
    bundle = search(world, session, form).json()
    assert len(uids(bundle)) == 4
    absolute = search(world, session, f"patient={world.ehr_url}/fhir/Patient/peter").json()
    assert uids(absolute) == uids(bundle)
    posted = session.post(
        f"{world.sidecar.fhir}/ImagingStudy/_search", data={"patient": "Patient/peter"}, timeout=60
    )
    assert uids(posted.json()) == uids(bundle)
    compartment = session.get(f"{world.sidecar.fhir}/Patient/peter/ImagingStudy", timeout=60)
    assert uids(compartment.json()) == uids(bundle)
    posted = session.post(f"{world.sidecar.fhir}/Patient/peter/ImagingStudy/_search", timeout=60)
    assert uids(posted.json()) == uids(bundle)


def test_a_study_by_its_uid(world: World) -> None:
    """SIA-20: identifier=urn:oid:…; another patient's UID is just not found."""
    own, foreign = world.of("peter")[0].study, world.of("robin")[0].study
    session = world.session("peter")
    assert uids(search(world, session, f"patient=peter&identifier=urn:oid:{own}").json()) == {
        f"urn:oid:{own}"
    }
    nothing = search(world, session, f"patient=peter&identifier=urn:oid:{foreign}").json()
    assert nothing["total"] == 0
    assert "entry" not in nothing


def test_pages_have_every_study_once(world: World) -> None:
    """``_count`` and ``next`` links, followed as they stand."""
    session = world.session("peter")
    url: str | None = f"{world.sidecar.fhir}/ImagingStudy?patient=peter&_count=1"
    seen: list[str] = []
    while url:
        bundle = session.get(url, timeout=60).json()
        assert bundle["total"] == 4
        seen += uids(bundle)
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert len(seen) == len(set(seen)) == 4


def test_dates(world: World) -> None:
    """SIA-21: started, and _lastUpdated as a sync would use it."""
    session = world.session("peter")
    everything = search(world, session, "patient=peter").json()
    old = [one for one in everything["entry"] if one["resource"]["started"] < "2000"]
    assert len(uids(search(world, session, "patient=peter&started=lt2000").json())) == len(old)
    since = everything["meta"]["lastUpdated"]
    again = search(world, session, f"patient=peter&_lastUpdated=gt{since}").json()
    assert uids(again) <= uids(everything)
    assert search(world, session, "patient=peter&_lastUpdated=gt2199-01-01").json()["total"] == 0


def test_what_the_archive_knows_of_series_and_instances(world: World) -> None:
    """R4 ImagingStudy search: each value that a study has finds it, and finds no study without it
    (SIA-20).
    """
    patient = "robin"
    session, own = world.session(patient), world.of(patient)
    wanted: dict[str, Callable[[Instance], str]] = {
        "modality": lambda one: one.modality,
        "series": lambda one: one.series,
        "instance": lambda one: f"urn:oid:{one.uid}",
        "_id": lambda one: one.study,
    }
    for name, value_of in wanted.items():
        for value in sorted({value_of(one) for one in own if value_of(one)})[:6]:
            expected = {f"urn:oid:{one.study}" for one in own if value_of(one) == value}
            assert uids(search(world, session, f"{name}={value}").json()) == expected, (name, value)
    without_system = search(world, session, f"instance=|{own[0].uid}").json()
    assert uids(without_system) == {f"urn:oid:{own[0].study}"}
    for name, value in (
        ("modality", "XX"),
        ("series", "1.2.3"),
        ("instance", "1.2.3"),
        ("dicom-class", "1.2.3"),
    ):
        assert search(world, session, f"{name}={value}").json()["total"] == 0, name


@pytest.mark.parametrize("patient", ["robin", "archibald"])
def test_sop_classes(world: World, patient: str) -> None:
    """dicom-class: a study that holds one instance of the class."""
    ct = "urn:oid:1.2.840.10008.5.1.4.1.1.2"
    found = uids(search(world, world.session(patient), f"dicom-class={ct}").json())
    assert found == {f"urn:oid:{one.study}" for one in world.of(patient) if one.modality == "CT"}


def test_body_sites(world: World) -> None:
    """bodysite: what the series show is what finds them."""
    session = world.session("robin")
    studies = [one["resource"] for one in search(world, session, "patient=robin").json()["entry"]]
    shown = {
        (study["id"], series["bodySite"]["display"])
        for study in studies
        for series in study["series"]
        if "bodySite" in series
    }
    for _, body_site in shown:
        found = uids(search(world, session, "bodysite=" + quote(body_site)).json())
        assert found == {
            f"urn:oid:{study}" for study, one in shown if one.casefold() == body_site.casefold()
        }


def test_a_foreign_instance_finds_nothing(world: World) -> None:
    """SIA-22: what is another patient's is as what is not there."""
    foreign = next(one for one in world.of("peter"))
    for query in (f"instance={foreign.uid}", f"series={foreign.series}", f"_id={foreign.study}"):
        assert search(world, world.session("robin"), query).json()["total"] == 0


def test_a_patient_by_identifier(world: World) -> None:
    """patient.identifier: the token's patient's own, else 403 (SIA-22)."""
    mrn = next(one.mrns[0] for one in WITH_TEST_FILES if one.id == "robin")
    session = world.session("robin")
    for query in (
        f"patient.identifier={quote(MRN_SYSTEM)}|{mrn}",
        f"subject.identifier={mrn}",
        f"patient:identifier={quote(MRN_SYSTEM)}|{mrn}",
    ):
        assert search(world, session, query).json()["total"] > 0, query
    foreign = next(one.mrns[0] for one in WITH_TEST_FILES if one.id == "peter")
    for value in (f"{quote(MRN_SYSTEM)}|{foreign}", f"urn:x|{mrn}", f"{mrn},{foreign}", "nobody"):
        assert search(world, session, "patient.identifier=" + value).status_code == 403, value


def test_order_and_amount(world: World) -> None:
    session = world.session("robin")
    newest = search(world, session, "_sort=-started&_elements=started").json()["entry"]
    oldest = search(world, session, "_sort=started&_elements=started").json()["entry"]
    dates = [one["resource"].get("started", "") for one in newest]
    assert (
        dates
        == [one["resource"].get("started", "") for one in oldest][::-1]
        == sorted(dates, reverse=True)
    )
    assert "modality" not in newest[0]["resource"]
    count = search(world, session, "_summary=count").json()
    assert (count["total"], "entry" in count) == (len(newest), False)


def test_unknown_parameters(world: World) -> None:
    """R4: ignored and left out of link.self, unless handling=strict."""
    session = world.session("peter")
    lenient = search(world, session, "patient=peter&colour=blue").json()
    assert lenient["total"] == 4
    assert "colour" not in lenient["link"][0]["url"]
    strict = search(
        world, session, "patient=peter&colour=blue", headers={"Prefer": "handling=strict"}
    )
    assert strict.status_code == 400
    assert strict.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("patient", [one.id for one in WITH_TEST_FILES])
def test_what_is_forgiven_shows_nobody_elses(world: World, patient: str) -> None:
    """The patient's own studies, with what was ignored; 400 for a strict client (decision 0054)."""
    session = world.session(patient)
    own = {f"urn:oid:{one.study}" for one in world.of(patient)}
    for name in (
        "_has:DiagnosticReport:imaging-study:status=final",
        "modality:text=tomography",
        "_revinclude=Provenance:target",
        "_include=ImagingStudy:patient",
        "_include:iterate=Patient:organization",
        "_sort=patient",
    ):
        bundle = search(world, session, name).json()
        assert uids(bundle) == own, name
        assert [one["search"]["mode"] for one in bundle["entry"]].count("outcome") == 1
        strict = search(world, session, name, headers={"Prefer": "handling=strict"})
        assert strict.status_code == 400, name


def test_what_a_study_shows_finds_it(world: World) -> None:
    """By identifiers and referrer, with ``:not`` and ``:missing``: as it shows itself."""
    session = world.session("robin")
    studies = [one["resource"] for one in search(world, session, "_sort=_id").json()["entry"]]
    assert [one["id"] for one in studies] == sorted(one["id"] for one in studies)
    for study in studies:
        queries = [
            *(f"identifier=|{quote(one['value'])}" for one in study["identifier"][1:]),
            *(f"basedon:identifier={quote(one['value'])}" for one in study["identifier"][1:]),
            *(f"referrer.name={quote(one['display'])}" for one in [study.get("referrer")] if one),
            f"referrer:missing={str('referrer' not in study).lower()}",
        ]
        uid = study["identifier"][0]["value"]
        for query in queries:
            assert uid in uids(search(world, session, query).json()), query
        for query in (f"identifier:not={uid}", f"_id:not={study['id']}", "_id:missing=true"):
            assert uid not in uids(search(world, session, query).json()), query


def test_a_study_that_is_as_it_was(world: World) -> None:
    """Last-Modified and If-Modified-Since on reads; within the second of a change there is none."""
    session = world.session("peter")
    url = f"{world.sidecar.fhir}/ImagingStudy/{world.of('peter')[0].study}"
    session.get(url, timeout=60)
    last_modified = wait_until(
        "a Last-Modified", lambda: session.get(url, timeout=60).headers.get("Last-Modified", "")
    )
    again = session.get(url, headers={"If-Modified-Since": last_modified}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")
    other = {"If-Modified-Since": "Thu, 29 Feb 2024 09:15:00 GMT"}
    assert session.get(url, headers=other, timeout=60).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "patient=robin",
        "patient=peter,robin",
        "patient=peter&patient=robin",
        "patient=https://x.org/Patient/peter",
    ],
)
def test_another_patient_is_403(world: World, query: str) -> None:
    """SIA-22: not an empty Bundle."""
    response = search(world, world.session("peter"), query)
    assert response.status_code == 403
    assert response.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("patient", "scope", "status"),
    [
        ("peter", "patient/ImagingStudy.read", 200),
        ("peter", "patient/*.rs", 200),
        ("peter", "patient/*.cruds", 200),
        ("peter", "patient/ImagingStudy.r", 403),
        ("peter", "patient/Observation.rs", 403),
        ("peter", "patient/ImagingStudy.rs?modality=CT", 200),
        ("peter", "patient/ImagingStudy.rs?_lastUpdated=ge2020", 403),
        ("peter", "patient/ImagingStudy.rs?modality:not=CT", 403),
        ("peter", "user/ImagingStudy.rs", 403),
        ("peter", "system/ImagingStudy.rs", 403),
        (None, "patient/ImagingStudy.rs", 403),
    ],
)
def test_scopes(world: World, patient: str | None, scope: str, status: int) -> None:
    """SIA-11..14."""
    headers = {"Authorization": f"Bearer {world.token(patient, scope)}"}
    response = requests.get(
        f"{world.sidecar.fhir}/ImagingStudy?patient=peter", headers=headers, timeout=60
    )
    assert response.status_code == status


def test_tokens_that_are_none(world: World) -> None:
    """SIA-10; RFC 6750 3."""
    url = f"{world.sidecar.fhir}/ImagingStudy?patient=peter"
    missing = requests.get(url, timeout=60)
    assert missing.status_code == 401
    assert missing.headers["WWW-Authenticate"].startswith("Bearer realm=")
    for authorization in (
        "Bearer made-up",
        "Basic eDp5",
        "Bearer",
        f"Bearer {world.token('peter')}, Bearer x",
    ):
        refused = requests.get(url, headers={"Authorization": authorization}, timeout=60)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def test_read_of_study_and_endpoint(world: World) -> None:
    """SIA-31; another patient's id and a made-up one are the same 404 (SIA-45)."""
    session = world.session("peter")
    own, foreign = world.of("peter")[0].study, world.of("robin")[0].study
    study = session.get(f"{world.sidecar.fhir}/ImagingStudy/{own}", timeout=60)
    assert study.status_code == 200
    endpoint = session.get(
        f"{world.sidecar.fhir}/{study.json()['endpoint'][0]['reference']}", timeout=60
    )
    assert endpoint.json()["address"] == world.root("peter")
    answers = [
        session.get(f"{world.sidecar.fhir}/ImagingStudy/{uid}", timeout=60)
        for uid in (foreign, "1.2.3", "made-up")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert session.get(f"{world.sidecar.fhir}/Endpoint/robin", timeout=60).status_code == 404

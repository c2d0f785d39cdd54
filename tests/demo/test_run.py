"""The demo as a visitor has it: what is shown, what is not, and why."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom import dcmwrite

from sidecar.demo.phantoms.studies import phantom_studies
from tests.demo.demo_process import RunningDemo, running_demo
from tests.waiting import wait_until

STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    with running_demo() as running:
        yield running


@pytest.fixture(scope="module")
def studies(demo: RunningDemo) -> dict[str, dict[str, Any]]:
    """Ada's studies by their purpose, and the first of each other patient by the patient's id."""
    return {
        study["purpose"] if study["patient"] == "ada" else study["patient"]: study
        for study in reversed(demo.guide()["studies"])
    }


def root(demo: RunningDemo) -> str:
    return f"{demo.base}/fhir/Patient/ada/$wado-rs/studies/"


def listed(demo: RunningDemo) -> dict[str, dict[str, Any]]:
    """Studies that a search finds, by their UID."""
    bundle = demo.get(f"{demo.base}/fhir/ImagingStudy?patient=ada").json()
    found = [entry["resource"] for entry in bundle["entry"]]
    return {
        one["identifier"][0]["value"].removeprefix("urn:oid:"): one
        for one in found
        if one["resourceType"] == "ImagingStudy"
    }


def test_a_search_finds_all_but_what_is_held_back(
    demo: RunningDemo, studies: dict[str, dict[str, Any]]
) -> None:
    own = {study["study"] for study in studies.values() if study["patient"] == "ada"}
    found, held = listed(demo), demo.get(root(demo) + studies["embargo"]["study"], Accept=STORED)
    if demo.guide()["now"] >= studies["embargo"]["opens_at"]:
        pytest.skip("this machine needed longer than the hold lasts")
    assert found.keys() == own - {studies["embargo"]["study"]}
    assert held.status_code == 404
    assert demo.why(held)["reason"] == "not_shown"


def test_each_study_says_what_it_is(demo: RunningDemo, studies: dict[str, dict[str, Any]]) -> None:
    found = listed(demo)
    for study in studies.values():
        if study["study"] not in found:
            continue
        resource = found[study["study"]]
        assert resource["description"] == study["title"]
        assert resource["started"].startswith(study["date"])
        assert resource["referrer"]["display"] == "Dr. Paula Placeholder"
        assert any(one["value"].startswith("A20") for one in resource["identifier"])


def test_a_hidden_series_is_nowhere(demo: RunningDemo, studies: dict[str, dict[str, Any]]) -> None:
    study = studies["hidden-series"]
    shown, hidden = study["series"]
    assert [series["uid"] for series in listed(demo)[study["study"]]["series"]] == [shown["series"]]
    whole = demo.get(root(demo) + study["study"], Accept=STORED)
    assert (whole.status_code, demo.why(whole)["reason"]) == (403, "partly_excluded")
    for series, status in ((shown, 200), (hidden, 404)):
        url = f"{root(demo)}{study['study']}/series/{series['series']}"
        assert demo.get(url, Accept=STORED).status_code == status


def test_an_answer_says_why(demo: RunningDemo, studies: dict[str, dict[str, Any]]) -> None:
    answer = demo.get(root(demo) + studies["x-ray"]["study"], Accept=STORED)
    assert answer.status_code == 200
    why = demo.why(answer)
    assert (why["outcome"], why["route"], why["reason"]) == ("permitted", "patient-wado-rs", None)
    assert {"SIA-12", "SIA-42"} <= {one["id"] for one in why["requirements"]}
    assert demo.why(requests.get(demo.base + "/fhir/metadata", timeout=60))["requirements"] == [
        {"id": "SIA-3", "text": "our own smart-configuration and metadata, open"}
    ]


def test_what_is_unknown_says_so(demo: RunningDemo) -> None:
    for path in ("/demo/decisions/0123456789abcdef", "/demo/attacks", "/demo/attacks?patient=x"):
        answer = requests.get(demo.base + path, timeout=60)
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("unknown")


@pytest.mark.parametrize(
    ("offset", "path"),
    [
        (0, "/demo/attacks?patient=ada"),
        (0, "/demo/guide"),
        (0, "/demo/decisions/0123456789abcdef"),
        (2, "/dicom-web/studies"),
    ],
)
def test_what_wants_no_token_is_not_for_a_name_that_a_site_gave_this_machine(
    demo: RunningDemo, offset: int, path: str
) -> None:
    """DNS rebinding: a page of that site would be of the demo's origin."""
    port = demo.port + offset
    for host, is_own in (("attacker.example.org", False), ("localhost", True)):
        answer = requests.get(
            f"http://127.0.0.1:{port}{path}", headers={"Host": f"{host}:{port}"}, timeout=60
        )
        assert (answer.status_code == 421) is not is_own


def test_whoever_breaks_in_is_refused(
    demo: RunningDemo, studies: dict[str, dict[str, Any]]
) -> None:
    """All that ``/demo/attacks`` gives, and what a page can make of it."""
    given = requests.get(demo.base + "/demo/attacks?patient=ada", timeout=60).json()
    tokens, own = given["tokens"], studies["volume"]
    assert (given["other_patient"], given["other_study"]) == ("bruno", studies["bruno"]["study"])
    mine = root(demo) + own["study"]
    image = f"{mine}/series/{own['series'][0]['series']}/instances/{given['other_instance']}"
    foreign, series = root(demo) + given["other_study"], given["other_series"]
    ended = given["expired_capability"]
    search = f"{demo.base}/fhir/ImagingStudy?patient="
    bundle = demo.get(search + "ada&_include=ImagingStudy:endpoint").json()
    address = next(
        entry["resource"]["address"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Endpoint"
    )
    assert address.startswith(demo.base + "/capability/")
    expected = {
        "search": (search + "bruno", "", 403, "other_patient"),
        "study": (foreign, "", 404, "not_shown"),
        "series below an own study": (f"{mine}/series/{series}", "", 404, "not_shown"),
        "instance below an own study": (f"{image}/frames/1", "", 404, "not_in_study"),
        "another's token": (mine, tokens["other_patient"], 403, "other_patient"),
        "an expired token": (mine, tokens["expired"], 401, "inactive_token"),
        "a token for searches": (mine, tokens["search_only"], 403, "insufficient_scope"),
        "a token of nobody": (search + "ada", tokens["no_patient"], 403, "no_patient_context"),
        "no token": (search + "ada", None, 401, "missing_token"),
        "an old address": (f"{ended}/studies/{own['study']}", "", 403, "expired_capability"),
        "another's address": (f"{address}/studies", tokens["other_patient"], 403, "other_token"),
    }
    for name, (url, token, status, reason) in expected.items():
        answer = demo.get(url, token)
        why = demo.why(answer)
        assert answer.status_code == why["status"] == status, name
        assert (why["outcome"], why["reason"]) == ("refused", reason), name
        assert why["requirements"], name
    assert demo.get(search + "bruno", tokens["other_patient"]).status_code == 200
    assert demo.get(search + "ada", tokens["search_only"]).status_code == 200


@pytest.mark.exhaustive
def test_a_slow_study_comes_later(demo: RunningDemo, studies: dict[str, dict[str, Any]]) -> None:
    url = root(demo) + studies["slow"]["study"]
    first = demo.get(url, Accept=STORED)
    assert first.status_code == 503
    assert int(first.headers["Retry-After"]) >= 1
    assert demo.why(first)["outcome"] == "waiting"
    came = wait_until(
        "the study from tape",
        lambda: demo.get(url, Accept=STORED),
        lambda answer: answer.status_code != 503,
    )
    assert came.status_code == 200
    assert demo.get(url, Accept=STORED).status_code == 200


def test_what_was_held_back_is_shown_later(tmp_path: Path) -> None:
    """A folder of an earlier start: the hold is over."""
    began = datetime.now(UTC) - timedelta(minutes=5)
    study = next(one for one in phantom_studies(began) if one.purpose == "embargo")
    for made in list(study.make(study.facts))[:2]:
        dcmwrite(tmp_path / f"{made.SOPInstanceUID}.dcm", made, enforce_file_format=True)
    with running_demo("--data", str(tmp_path)) as demo:
        (told,) = demo.guide()["studies"]
        assert told["opens_at"] < demo.guide()["now"]
        assert listed(demo).keys() == {told["study"]}


def test_other_machines_reach_the_sidecar_and_the_ehr_alone(tmp_path: Path) -> None:
    study = next(one for one in phantom_studies(datetime.now(UTC)) if one.purpose == "document")
    for made in study.make(study.facts):
        dcmwrite(tmp_path / "document.dcm", made, enforce_file_format=True)
    with running_demo("--data", str(tmp_path), "--host", "0.0.0.0") as demo:
        assert any(line.startswith("WARNING: other machines") for line in demo.said)
        host = demo.base.removeprefix("http://").rpartition(":")[0]
        if host == "127.0.0.1":
            pytest.skip("this machine has no address but the loopback's")
        assert listed(demo).keys() == {study.facts.uid}
        smart = requests.get(demo.base + "/fhir/.well-known/smart-configuration", timeout=60)
        assert host in smart.json()["token_endpoint"]
        for offset in (2, 3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, demo.port + offset), 5)
            socket.create_connection(("127.0.0.1", demo.port + offset), 5).close()


@pytest.mark.parametrize("path", ["/demo/guide", "/demo/attacks?patient=ada"])
def test_no_other_page_can_read_what_this_one_may(demo: RunningDemo, path: str) -> None:
    headers = {"Origin": "https://other.example.org"}
    answer = requests.get(demo.base + path, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]

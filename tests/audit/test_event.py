"""What an AuditEvent says, validated as FHIR R4 (SIA-60; IHE BALP)."""

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest

from sidecar.access.facts import Part
from sidecar.audit.event import REFUSED, SERIOUS, PatientReference
from tests.audit.events import SOURCE, TOKEN, change, event, read, record, searched
from tests.audit.profiles import breaches
from tests.tables.balp import BREACHES

BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


def entity(built: dict[str, Any], code: str) -> dict[str, Any]:
    """The only entity with this type's or role's code."""
    (found,) = (
        one
        for one in built["entity"]
        if code in (one["type"]["code"], one.get("role", {}).get("code"))
    )
    return dict(found)


def test_a_search_is_a_patient_query() -> None:
    asked = record("imaging-study-search")
    asked.searches("/fhir/ImagingStudy", [("patient", "p1"), ("access_token", "secret-1")])
    built = event(asked)
    assert built["meta"]["profile"] == [BALP + "PatientQuery"]
    assert (built["type"]["code"], built["subtype"][0]["code"], built["action"]) == (
        "rest",
        "search",
        "E",
    )
    assert entity(built, "1")["name"] == "Patient/p1"
    query = b64decode(entity(built, "24")["query"]).decode()
    assert query == "/fhir/ImagingStudy?patient=p1&access_token=masked"


def test_a_search_names_what_another_patient_has_as_well() -> None:
    """So that operators find the study: nowhere else is it named (docs/runbook.md)."""
    asked = record("imaging-study-search", left_out=frozenset({"1.2.4", "1.2.3"}))
    asked.searches("/fhir/ImagingStudy", [("patient", "p1")])
    found = [(one["type"], one["valueString"]) for one in entity(event(asked), "4")["detail"]]
    assert found == [("shared_uid", "1.2.3"), ("shared_uid", "1.2.4")]


def test_a_read_is_a_patient_read() -> None:
    built = event(record("imaging-study-read", part=Part("1.2.3")))
    assert built["meta"]["profile"] == [BALP + "PatientRead"]
    assert (built["type"]["code"], built["subtype"][0]["code"], built["action"]) == (
        "rest",
        "read",
        "R",
    )
    assert entity(built, "3")["what"]["identifier"] == {
        "system": "urn:dicom:uid",
        "value": "urn:oid:1.2.3",
    }


def test_the_read_of_an_endpoint_is_one_of_a_patient() -> None:
    built = event(record("endpoint-read"))
    assert built["meta"]["profile"] == [BALP + "PatientRead"]
    data = entity(built, "4")
    assert data["what"]["identifier"]["value"] == "https://imaging.example.org/fhir/Endpoint/p1"
    refused = event(record("endpoint-read", reason="unknown_id"), REFUSED)
    assert [one["type"]["code"] for one in refused["entity"]] == ["1", "XrequestId"]


@pytest.mark.parametrize("route", ["imaging-study-search", "imaging-study-read", "endpoint-read"])
@pytest.mark.parametrize("unknown", ["address", "patient", "search", "part"])
def test_an_event_that_cannot_be_of_a_profile_claims_none(route: str, unknown: str) -> None:
    """For instance behind a socket that has no address."""
    asked = record(route, part=None if route == "imaging-study-search" else Part("1.2.3"))
    if route == "imaging-study-search":
        asked.searches("/fhir/ImagingStudy", [])
    setattr(asked, unknown, None)
    needs = {
        "imaging-study-search": {"address", "patient", "search"},
        "imaging-study-read": {"address", "patient", "part"},
        "endpoint-read": {"address", "patient"},
    }
    asked.part = None if route == "endpoint-read" else asked.part
    assert ("meta" in event(asked)) == (unknown not in needs[route])


@pytest.mark.parametrize(("kind", "path", "value"), BREACHES.values(), ids=BREACHES)
def test_a_breach_of_a_profile_is_seen(kind: str, path: str, value: Any) -> None:
    """So that the other tests can fail."""
    built = event(searched() if kind == "search" else read())
    assert not breaches(built)
    change(built, path, value)
    assert breaches(built)


URL = "https://ehr.example.org/fhir/Patient/p1"
LOGICAL = {"type": "Patient", "identifier": {"system": "urn:ietf:rfc:3986", "value": URL}}


@pytest.mark.parametrize(
    ("patients", "what"),
    [
        ("logical", LOGICAL),
        ("absolute", {"reference": URL}),
        ("relative", {"reference": "Patient/p1"}),
    ],
)
def test_how_a_patient_is_named(patients: PatientReference, what: dict[str, Any]) -> None:
    source = replace(SOURCE, patients=patients)
    asked = record("imaging-study-read", part=Part("1.2.3"))
    assert entity(event(asked, source=source), "1")["what"] == what
    refused = record("imaging-study-search", reason="insufficient_scope")
    assert entity(event(refused, REFUSED, source), "1")["what"] == what
    # No client keeps its refusal out of the repository by what it asks for: it may not have p2.
    for named in ("p2", "a b", "a/../b", "..", "x" * 65, "#1", "p1?a=b", ""):
        refused = record("imaging-study-search", patient=named, reason="other_patient")
        assert "reference" not in entity(event(refused, REFUSED, source), "1")["what"]


def test_data_flow_from_us_unless_they_are_asked_for() -> None:
    """PS3.15 A.5.3, as in BALP: a client that reads is the destination."""
    for asked in (record("wado-rs", part=Part("1.2.3")), record("wado-rs", instances=True)):
        assert _types(event(asked)) == ["110152", "110153", "IRCP"]
    assert _types(event(record("wado-rs", is_query=True))) == ["110153", "110152", "IRCP"]


def _types(built: dict[str, Any]) -> list[str]:
    return [one["type"]["coding"][0]["code"] for one in built["agent"]]


def test_a_retrieval_is_an_export_of_the_part() -> None:
    # Metadata, pictures.
    assert event(record("wado-rs", part=Part("1.2.3")))["subtype"][0]["code"] == "110103"
    built = event(record("wado-rs", part=Part("1.2.3", "1.2.4", "1.2.5"), instances=True))
    assert (built["type"]["code"], built["subtype"][0]["code"], built["action"]) == (
        "110106",
        "110104",
        "R",
    )
    assert entity(built, "3")["detail"] == [
        {"type": "SeriesInstanceUID", "valueString": "1.2.4"},
        {"type": "SOPInstanceUID", "valueString": "1.2.5"},
    ]


def test_a_qido_search_is_a_query() -> None:
    asked = record("patient-wado-rs", part=Part("1.2.3"), is_query=True)
    asked.searches("/fhir/Patient/p1/$wado-rs/studies", [])
    assert (event(asked)["type"]["code"], event(asked)["action"]) == ("110112", "E")


@pytest.mark.parametrize(
    "route", ["imaging-study-search", "imaging-study-read", "wado-rs", "unknown"]
)
def test_who_it_was(route: str) -> None:
    """Client, user, token hash and server, and the request's id, which is in the log."""
    built = event(record(route))
    client, server, user = built["agent"]
    assert client["who"]["identifier"]["value"] == "viewer"
    assert client["network"] == {"address": "192.0.2.1", "type": "2"}
    assert server["who"]["display"] == SOURCE.name
    assert user["who"]["identifier"] == {"value": "user-7", "system": "https://ehr.example.org"}
    assert user["requestor"] is True
    assert [one.get("altId") for one in built["agent"]] == ["viewer", None, "user-7"]
    assert [one["name"] for one in built["agent"]] == ["viewer", SOURCE.name, "user-7"]
    assert server["network"] == {"address": SOURCE.fhir_base, "type": "5"}
    assert user["policy"] == ["urn:smart-imaging-sidecar:token:" + "ab" * 16]
    assert built["source"]["site"] == "Example Hospital"
    assert entity(built, "XrequestId")["what"]["identifier"]["value"] == "r1"


def test_a_refusal_says_why_and_claims_no_profile() -> None:
    built = event(record("wado-rs", part=Part("1.2.9"), reason="foreign"), REFUSED)
    assert (built["outcome"], built["outcomeDesc"]) == ("4", "foreign")
    assert "meta" not in built
    assert event(record("wado-rs", reason="foreign_instance"), SERIOUS)["outcome"] == "8"


def test_a_token_that_is_none_is_a_security_alert() -> None:
    built = event(record("wado-rs", token=None, patient=None, reason="inactive_token"), REFUSED)
    assert built["type"]["code"] == "110113"
    assert [one["who"] for one in built["agent"]][::2] == [
        {"display": "unknown client"},
        {"display": "unknown user"},
    ]


def test_only_a_token_that_is_none_alerts() -> None:
    """Not an EHR that is down, or a client that left while it was asked."""
    for reason in ("introspection_unreachable", "client_gone"):
        assert (
            event(record("wado-rs", token=None, patient=None, reason=reason), SERIOUS)["type"][
                "code"
            ]
            != "110113"
        )


SECRET = "s3cr3t-T0ken"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token", "x" + SECRET),
        ("authorization", "Bearer other-1"),
        ("jwt", "other-1"),
        ("password", "other-1"),
        ("PatientName", SECRET),
        (SECRET, "1"),
        ("a", "Bearer other-1"),
        ("x", f"<{SECRET}>"),
    ],
)
def test_no_credential_is_told(name: str, value: str) -> None:
    asked = record("imaging-study-search", bearer=SECRET)
    asked.searches("/fhir/ImagingStudy", [("patient", "p1"), (name, value)])
    assert asked.search is not None
    assert SECRET not in asked.search
    assert "other-1" not in asked.search
    assert "patient=p1" in asked.search


def test_a_token_in_place_of_a_patient_is_not_told() -> None:
    asked = record("patient-wado-rs", bearer=SECRET)
    asked.asks_for(SECRET)
    assert SECRET not in json.dumps(event(asked))
    assert SECRET not in repr(asked)


@pytest.mark.parametrize("value", ["<" * 60_000, "山" * 20_000, "\ud800" * 9_000, "a"])
def test_an_event_stays_short(value: str) -> None:
    """It is written at once (PIPE_BUF), and nobody fills the disk with long searches."""
    asked = record(
        "imaging-study-search", left_out=frozenset(f"{number:0128}" for number in range(1_000))
    )
    asked.searches("/fhir/ImagingStudy", [("identifier", value)] * 50)
    assert event(asked)["meta"]


@pytest.mark.parametrize("named", ["a" * 200, "山" * 35])
def test_an_event_of_long_names_stays_short(named: str) -> None:
    """It has them once then: who reads the trail knows whose it is, and searches find others."""
    asked = record("imaging-study-search", token=replace(TOKEN, client_id=named, subject=named))
    asked.searches("/fhir/ImagingStudy", [("identifier", "a" * 800)])
    client, _, user = event(asked)["agent"]
    for agent in (client, user):
        assert agent["who"]["identifier"]["value"] == named
        assert "name" not in agent
        assert "altId" not in agent


@pytest.mark.parametrize("named", ["", " "])
def test_what_is_blank_names_nobody(named: str) -> None:
    """It is no string of FHIR, and a repository may reject it."""
    asked = record("imaging-study-read", token=replace(TOKEN, client_id=named, subject=named))
    client, _, user = event(asked)["agent"]
    assert client["who"] == {"display": "unknown client"}
    assert user["who"] == {"display": "unknown user"}

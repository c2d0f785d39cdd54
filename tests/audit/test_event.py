"""What an AuditEvent says, validated as FHIR R4 (SIA-60; IHE BALP)."""

import json
from base64 import b64decode
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from sidecar.access.facts import Part, Token
from sidecar.audit.event import REFUSED, SERIOUS, SUCCESS, AuditSource, audit_line
from sidecar.audit.record import AccessRecord

SOURCE = AuditSource("smart-imaging-sidecar 1", "https://ehr.example.org/fhir", "Example Hospital")
TOKEN = Token(
    (), 9e9, patient="p1", client_id="viewer", subject="user-7", issuer="https://ehr.example.org"
)
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


def record(route: str, **changes: Any) -> AccessRecord:
    """Of a permitted request."""
    values: dict[str, Any] = {
        "address": "192.0.2.1",
        "route": route,
        "token": TOKEN,
        "token_hash": "ab" * 16,
        "patient": "p1",
    } | changes
    return AccessRecord("r1", **values)


def event(of: AccessRecord, outcome: str = SUCCESS) -> dict[str, Any]:
    """The event, which must be valid FHIR."""
    line = audit_line(
        of, SOURCE, recorded="2026-11-25T01:00:00.000+00:00", outcome=outcome, step="status 200"
    )
    AuditEvent.model_validate_json(line)
    built: dict[str, Any] = json.loads(line)
    return built


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
    assert entity(built, "1")["what"]["reference"] == "https://ehr.example.org/fhir/Patient/p1"
    query = b64decode(entity(built, "24")["query"]).decode()
    assert query == "/fhir/ImagingStudy?patient=p1&access_token=masked"


def test_a_search_names_what_another_patient_has_as_well() -> None:
    """So that operators find the study: nowhere else is it named (docs/runbook.md)."""
    asked = record("imaging-study-search", left_out=frozenset({"1.2.4", "1.2.3"}))
    asked.searches("/fhir/ImagingStudy", [("patient", "p1")])
    found = [(one["type"], one["valueString"]) for one in entity(event(asked), "24")["detail"]]
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
    assert len(json.dumps(event(asked))) < 4_096

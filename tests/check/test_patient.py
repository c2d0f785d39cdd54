"""``check --token`` with ``mapping: ehr``: identifier systems are listed, values are not."""

from typing import Any

import pytest

from sidecar.check.run import check
from sidecar.conformance.finding import State
from tests.check.scripted_site import Pacs, served
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active, patient, to_the_token

VALUE = "4711-recognizable"
MAPPING = {
    "patients": {
        "mapping": "ehr",
        "identifiers": [{"system": "urn:oid:1.2.3"}],
        "client": {"method": "none"},
    }
}
OLD = {"system": "urn:oid:1.2.3", "value": VALUE, "use": "old"}
RECORD = {"resourceType": "Patient", "id": PATIENT}


async def outcome(
    record: dict[str, Any] | None, sections: dict[str, Any], **claims: Any
) -> tuple[State, str]:
    """State and text of ``token.patient``, with the hint behind it."""
    ehr = ScriptedEhr(
        answer=to_the_token(active(PATIENT, **claims)),
        patients={} if record is None else {PATIENT: record},
    )
    async with served(ehr, Pacs(), **sections) as settings:
        findings = {one.name: one for one in await check(settings, TOKEN)}
    assert VALUE not in str(findings)
    assert "token.search" in findings
    finding = findings["token.patient"]
    return finding.state, f"{finding.text} -> {finding.hint}"


@pytest.mark.parametrize(
    ("record", "state", "said"),
    [
        (patient(PATIENT, ("urn:oid:1.2.3", VALUE)), State.OK, "1 of the Patient's identifiers"),
        (
            patient(PATIENT, ("urn:oid:1.2.30", VALUE), ("http://ehr/mrn", VALUE)),
            State.WARN,
            "urn:oid:1.2.3 -> The systems of its identifiers: http://ehr/mrn, urn:oid:1.2.30. ",
        ),
        (
            patient(PATIENT, ("urn:a", VALUE), (f"urn:mrn:{VALUE.upper()}", VALUE), ("a b", "1")),
            State.WARN,
            "identifiers: urn:a, and 2 that may not be shown.",
        ),
        (
            patient(PATIENT, *((f"urn:{letter * 3}", VALUE) for letter in "abcdefghijkl")),
            State.WARN,
            "urn:iii, urn:jjj, ….",
        ),
        (
            patient(PATIENT, (f"urn:{'x' * 200}", VALUE)),
            State.WARN,
            "none that can be shown, and 1",
        ),
        (RECORD, State.WARN, "identifiers: none that can be shown."),
        (RECORD | {"identifier": [{"value": VALUE}]}, State.WARN, "none that can be shown."),
        (RECORD | {"identifier": [OLD]}, State.WARN, "no identifier in use of urn:oid:1.2.3 -> "),
        (RECORD | {"identifier": [{"system": ["x"]}]}, State.WARN, "none that can be shown"),
        (RECORD | {"identifier": "x"}, State.WARN, "cannot be used: patient_wrong_shape"),
        (RECORD | {"active": False}, State.WARN, "cannot be used: patient_inactive -> "),
        (None, State.WARN, "patient_unexpected_status (status 404) -> Is ehr.fhir_url the server"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_the_patient_has(record: dict[str, Any] | None, state: State, said: str) -> None:
    found_state, text = await outcome(record, MAPPING)
    assert (found_state, said in text) == (state, True), text


async def test_a_patient_who_needs_no_identifier() -> None:
    assert await outcome(None, {}) == (
        State.OK,
        "patients.mapping is direct: Patient.id is the PatientID -> None",
    )


async def test_a_token_without_a_patient() -> None:
    state, text = await outcome(None, MAPPING, patient=None, scope="user/ImagingStudy.rs")
    assert (state, text) == (State.SKIP, "the token has no patient in context -> None")

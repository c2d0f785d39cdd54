"""``check`` in front of an EHR that answers a Patient by another record."""

from typing import Any

from sidecar.check.run import check
from sidecar.conformance.finding import Finding, State
from tests.check.scripted_site import Pacs, served
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, active, to_the_token

MAPPING = {
    "patients": {
        "mapping": "ehr",
        "identifiers": [{"system": "urn:x"}],
        "client": {"method": "none"},
    }
}


SURVIVING = {"resourceType": "Patient", "id": "the-surviving-record"}


class Everybody(dict[str, Any]):
    """Patients of an EHR that answers any id by one record."""

    def __missing__(self, _id: str) -> dict[str, Any]:
        return SURVIVING


def ehr_with(patients: dict[str, Any]) -> ScriptedEhr:
    """Return an EHR that knows one token and answers these patients."""
    return ScriptedEhr(answer=to_the_token(active(PATIENT)), patients=patients)


async def found(ehr: ScriptedEhr) -> dict[str, Finding]:
    """With the patient's token."""
    async with served(ehr, Pacs(), **MAPPING) as settings:
        return {finding.name: finding for finding in await check(settings, TOKEN)}


async def test_the_tokens_patient_was_merged() -> None:
    finding = (await found(ehr_with({PATIENT: SURVIVING})))["token.search"]
    assert finding.state is State.FAIL
    assert "merged" in finding.text
    assert "If the record was merged, the patient must log in again" in str(finding.hint)


async def test_an_ehr_that_answers_anybody_by_somebodys_record() -> None:
    finding = (await found(ehr_with(Everybody())))["patients.mapping"]
    assert (finding.state, finding.text) == (State.FAIL, "patient_merged")
    assert "Do not serve" in str(finding.hint)

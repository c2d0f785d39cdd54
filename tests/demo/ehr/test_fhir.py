"""The demo's EHR has nothing but patients, and says so as a FHIR server does."""

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome

from sidecar.demo.ehr.app import STORE
from sidecar.demo.ehr.fhir import OTHER_TYPES
from tests.demo.ehr_server import Ehr


def bearer(ehr: Ehr, patient: str | None, scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {ehr.app[STORE].issue(patient=patient, scope=scope)}"}


async def test_an_app_that_looks_for_the_rest_of_the_record_finds_it_empty(ehr: Ehr) -> None:
    """FHIR R4 3.1.1: a searchset without entries. The CapabilityStatement names each type."""
    headers = bearer(ehr, "peter", "patient/*.rs")
    statement = await (await ehr.get("/fhir/metadata")).json(content_type=None)
    offered = [one["type"] for one in statement["rest"][0]["resource"]]
    assert offered == ["Patient", *OTHER_TYPES]
    for kind in OTHER_TYPES:
        answer = await ehr.get(f"/fhir/{kind}?patient=peter&category=x", headers=headers)
        body = await answer.json(content_type=None)
        Bundle.model_validate(body)
        assert (answer.status, body["total"], "entry" in body) == (200, 0, False)
        read = await ehr.get(f"/fhir/{kind}/x", headers=headers)
        assert read.status == 404
        OperationOutcome.model_validate(await read.json(content_type=None))
    assert (await ehr.get("/fhir/ImagingStudy?patient=peter", headers=headers)).status == 404


@pytest.mark.parametrize(
    ("patient", "scope", "query", "search", "read"),
    [
        ("peter", "patient/Condition.rs", "", 200, 404),
        ("peter", "patient/Condition.read", "?patient=Patient/peter", 200, 404),
        ("peter", "patient/*.s", "?subject=peter", 200, 403),
        ("peter", "patient/Condition.r", "?patient=peter", 403, 404),
        ("peter", "patient/Observation.rs", "?patient=peter", 403, 403),
        ("peter", "patient/Condition.rs?category=x", "?patient=peter", 403, 403),
        ("peter", "patient/Condition.rs", "?patient=robin", 403, 404),
        ("peter", "patient/Condition.rs", "?patient=peter&patient=robin", 403, 404),
        ("peter", "patient/Condition.rs", "?patient=peter,robin", 403, 404),
        ("peter", "patient/Condition.rs", "?subject=Patient/robin", 403, 404),
        (None, "patient/Condition.rs", "?patient=peter", 403, 403),
        (None, "system/Patient.rs", "?patient=peter", 403, 403),
    ],
)
async def test_who_may_look(
    ehr: Ehr, patient: str | None, scope: str, query: str, search: int, read: int
) -> None:
    """Each type by its scope, and the token's patient alone (SIA-14)."""
    headers = bearer(ehr, patient, scope)
    assert (await ehr.get(f"/fhir/Condition{query}", headers=headers)).status == search
    assert (await ehr.get("/fhir/Condition/x", headers=headers)).status == read


async def test_without_a_token_there_is_no_answer(ehr: Ehr) -> None:
    for path in ("/fhir/Condition?patient=peter", "/fhir/Condition/x"):
        answer = await ehr.get(path)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")

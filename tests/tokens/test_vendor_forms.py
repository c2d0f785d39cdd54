"""What servers write in place of ``patient`` and scopes on ImagingStudy, and the settings for it.

docs/ehr.md, "What servers write", has the same rows.
"""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import answer
from tests.fakes.site import HEADERS, sidecar_between

DOCUMENT = (Path(__file__).parents[2] / "docs/ehr.md").read_text()
ROWS: dict[str, tuple[dict[str, Any], str, int]] = {
    "as SMART says": ({}, "", 200),
    "a reference": (
        {"patient": f"Patient/{PATIENT}"},
        "patient: [{claim: patient, form: reference}]",
        200,
    ),
    "a reference, not configured": ({"patient": f"Patient/{PATIENT}"}, "", 502),
    "fhirUser of the patient": (
        {"patient": None, "fhirUser": f"Patient/{PATIENT}"},
        "patient: [{claim: patient}, {claim: fhirUser, form: reference}]",
        200,
    ),
    "fhirUser of a clinician": (
        {"patient": None, "fhirUser": f"Practitioner/{PATIENT}"},
        "patient: [{claim: patient}, {claim: fhirUser, form: reference}]",
        403,
    ),
    "sub is the patient": ({"patient": None, "sub": PATIENT}, "patient: [{claim: sub}]", 200),
    "only in the token response": ({"patient": None, "sub": "u1"}, "", 403),
    "scopes on reports": (
        {"scope": "patient/DiagnosticReport.read"},
        "scope_resources: [ImagingStudy, DiagnosticReport]",
        200,
    ),
    "scopes on reports, not configured": ({"scope": "patient/DiagnosticReport.read"}, "", 403),
    "scopes in scp": ({"scope": None, "scp": ["openid", "patient/ImagingStudy.rs"]}, "", 200),
}


@pytest.mark.parametrize("name", ROWS)
async def test_what_servers_write(name: str) -> None:
    """SIA-10, 11, 14: by configuration, and nothing without it."""
    written, claims, status = ROWS[name]
    ehr = ScriptedEhr()
    ehr.answer = {key: value for key, value in (ehr.answer | written).items() if value is not None}
    tokens = {"client": {"method": "none"}, "claims": yaml.safe_load(f"{{{claims}}}")}
    async with (
        sidecar_between(ehr, ScriptedPacs(answer(b"", b"")), tokens=tokens) as (url, _),
        aiohttp.ClientSession(headers=HEADERS) as us,
        us.get(f"{url}/fhir/ImagingStudy") as found,
    ):
        assert found.status == status, await found.text()


@pytest.mark.parametrize("name", ROWS)
def test_it_is_what_is_documented(name: str) -> None:
    claims = ROWS[name][1]
    assert not claims or f"`{claims}`" in DOCUMENT

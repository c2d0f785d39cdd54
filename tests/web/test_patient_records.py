"""What the EHR says of a patient's record, as apps meet it: it is not there yet, or it was merged
(SIA-16, 17, 23).
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.archive import STUDY
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr, patient
from tests.fakes.site import sidecar_between
from tests.web.lists import STUDY as LISTED
from tests.web.lists import Archive

MAPPING = {"mapping": "ehr", "identifiers": [{"system": "urn:mrn"}], "client": {"method": "none"}}
NO_CACHE = {"Cache-Control": "no-cache"}
SEARCH, READ, RETRIEVE = (
    "/fhir/ImagingStudy",
    f"/fhir/ImagingStudy/{LISTED}",
    f"/wado-rs/studies/{STUDY}",
)


RECORD = patient(PATIENT, ("urn:mrn", PATIENT))


@contextlib.asynccontextmanager
async def app_of(
    ehr: ScriptedEhr, archive: Archive
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client with its token, and the sidecar's URL."""
    changes: dict[str, Any] = {
        "patients": MAPPING,
        "fhir": {"detail": "study"},
        "limits": {"search_cache_seconds": 60},
    }
    async with (
        sidecar_between(ehr, archive, **changes) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        yield session, url


@pytest.mark.parametrize("path", [SEARCH, f"{SEARCH}?patient.identifier=urn:mrn%7C{PATIENT}", READ])
async def test_a_client_that_wants_it_fresh_sees_a_record_that_has_come(path: str) -> None:
    """In a search, by an identifier, and by the study's id."""
    ehr = ScriptedEhr()
    async with app_of(ehr, Archive()) as (session, url):
        async with session.get(url + SEARCH) as response:
            assert (response.status, (await response.json())["total"]) == (200, 0)
        ehr.patients[PATIENT] = RECORD
        async with session.get(url + path, headers=NO_CACHE) as response:
            assert response.status == 200
            assert (await response.json()).get("total", 1) == 1


@pytest.mark.parametrize(
    "path", [SEARCH, READ, RETRIEVE, RETRIEVE + "/metadata", "/wado-rs/studies"]
)
async def test_a_merged_record_is_refused_and_the_app_told_what_to_do(path: str) -> None:
    """403 and no Retry-After: to try again helps nobody. Nothing is asked of the archive."""
    ehr, archive = ScriptedEhr(), Archive()
    ehr.patients[PATIENT] = RECORD | {"id": "the-surviving-record"}
    async with app_of(ehr, archive) as (session, url), session.get(url + path) as response:
        assert response.status == 403
        assert "Retry-After" not in response.headers
        (issue,) = (await response.json(content_type=None))["issue"]
    assert issue["code"] == "forbidden"
    assert "merged" in issue["diagnostics"]
    assert "Log in again" in issue["diagnostics"]
    assert "surviving" not in str(issue)
    assert archive.lists == 0


@pytest.mark.parametrize(
    "path", [SEARCH, READ, RETRIEVE, RETRIEVE + "/metadata", "/wado-rs/studies"]
)
async def test_a_record_that_is_not_in_use_is_refused(path: str) -> None:
    """Nothing is asked of the archive."""
    ehr, archive = ScriptedEhr(), Archive()
    ehr.patients[PATIENT] = RECORD | {"active": False}
    async with app_of(ehr, archive) as (session, url), session.get(url + path) as response:
        assert response.status == 403
        assert "not in use" in (await response.json(content_type=None))["issue"][0]["diagnostics"]
    assert archive.lists == 0

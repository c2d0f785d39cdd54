"""A HAPI FHIR with its own defaults takes our audit events, and its searches find them (SIA-60)."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from sidecar.check.audit_repository import audit_repository
from sidecar.conformance.finding import State
from sidecar.server.listener import listen
from tests.audit.profiles import breaches
from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import sidecar_between, site_settings
from tests.real.hapi.server import Hapi
from tests.waiting import WAIT_SECONDS, wait_until

pytestmark = pytest.mark.hapi

REQUESTS = {
    f"/fhir/ImagingStudy?patient={PATIENT}": 200,
    f"/fhir/ImagingStudy/{STUDY}": 200,
    f"/fhir/Endpoint/{PATIENT}": 200,
    f"/wado-rs/studies?StudyInstanceUID={STUDY}": 200,
    f"/wado-rs/studies/{STUDY}": 200,
    "/fhir/ImagingStudy?patient=a%20b": 403,
    "/fhir/ImagingStudy?patient=p2": 403,
}
EVENTS = len(REQUESTS) + 1  # A retrieval is told twice.
SLOW_START = {"audit_timeout_seconds": WAIT_SECONDS}
"""A HAPI that has just started is slow on a busy machine; what it took late would come twice."""


def found(hapi: Hapi, query: str) -> list[dict[str, Any]]:
    """The events that a search of the repository finds."""
    answer = requests.get(f"{hapi.base}/AuditEvent?_count=200&{query}", timeout=60)
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def audit(hapi: Hapi, folder: Path, **repository: Any) -> dict[str, Any]:
    return {
        "sink": "fhir",
        "repository": {"url": hapi.base} | repository,
        "spool": {"folder": str(folder)},
        "site": folder.parent.name,
    }


async def ask(hapi: Hapi, folder: Path, **repository: Any) -> None:
    """Send each request, and end the sidecar, which delivers what waits."""
    async with (
        sidecar_between(
            ScriptedEhr(),
            ScriptedPacs(GOOD["chunked"]),
            audit=audit(hapi, folder, **repository),
            limits=SLOW_START,
        ) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        for path, status in REQUESTS.items():
            async with session.get(url + path) as answer:
                await answer.read()
                assert answer.status == status, path


@pytest.mark.parametrize(
    "how", [{}, {"batch_size": 1}, {"interaction": "update"}], ids=["batch", "alone", "update"]
)
async def test_all_kinds_are_taken_and_found(
    hapi: Hapi, tmp_path: Path, how: dict[str, Any]
) -> None:
    folder = tmp_path / "spool"
    await ask(hapi, folder, **how)
    of_site = f"site={tmp_path.name}"
    taken = wait_until(
        "all are there", lambda: found(hapi, of_site), lambda all_: len(all_) == EVENTS
    )
    assert not (folder / "rejected.jsonl").exists()
    claiming = [event for event in taken if "profile" in event["meta"]]
    assert len(claiming) == 3
    assert not any(map(breaches, claiming))
    queries = {
        "altid=app": EVENTS,
        "agent-name=app": EVENTS,
        "agent-role=110150": EVENTS,
        "address=127.0.0.1": EVENTS,
        f"entity-name=Patient/{PATIENT}": EVENTS - 2,
        f"entity-name:exact={STUDY}": 3,
        "entity-name:exact=Patient/p2": 1,
        "type=rest": 5,
        "outcome=4": 2,
    }
    assert {query: len(found(hapi, f"{of_site}&{query}")) for query in queries} == queries


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("absolute", "HAPI-0507, external reference"),
        ("relative", "HAPI-1094, reference to nothing it has"),
    ],
)
async def test_the_log_says_why_it_rejects_a_reference(
    hapi: Hapi,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
    why: str,
    batch_size: int,
) -> None:
    """None of the patient is in it. Those that name no FHIR id, or another patient than the token,
    have no reference, and are taken.
    """
    folder = tmp_path / "spool"
    await ask(hapi, folder, patient_reference=how, batch_size=batch_size)
    rejected = (folder / "rejected.jsonl").read_text().splitlines()
    assert (len(rejected), len(found(hapi, f"site={tmp_path.name}"))) == (EVENTS - 2, 2)
    details = {vars(one).get("detail", "") for one in caplog.records if "rejected" in one.msg}
    kind = "processing" if batch_size == 1 else "exception"
    assert details == {f"status 400, {kind}, {why}"}


@pytest.mark.parametrize(
    ("how", "state", "says"),
    [
        ("logical", State.OK, "without IHE BALP's profiles"),
        ("absolute", State.WARN, "external references"),
        ("relative", State.WARN, "has the patients"),
    ],
)
async def test_check_says_what_it_will_reject(
    hapi: Hapi, tmp_path: Path, how: str, state: State, says: str
) -> None:
    ehr, pacs, before = ScriptedEhr(), ScriptedPacs(GOOD["chunked"]), len(found(hapi, ""))
    document = audit(hapi, tmp_path / "spool", patient_reference=how)
    async with listen(ehr.app(), "127.0.0.1", 0) as ehr_port, pacs.serve() as pacs_url:
        settings = site_settings(ehr_port, pacs_url, {"audit": document, "limits": SLOW_START})
        outcome = await audit_repository(settings)
    assert (outcome.state, says in outcome.text) == (state, True), outcome
    assert len(found(hapi, "")) == before

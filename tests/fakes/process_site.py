"""A small hospital around a real sidecar process: an EHR, an archive with one study, a FHIR server
for AuditEvents.
"""

from pathlib import Path
from typing import Any

import requests
from aiohttp import web

from tests.audit.fhir_repository import FhirRepository
from tests.background import Background
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

ROW = row(PatientID=PATIENT, StudyInstanceUID=STUDY)


class Site:
    """Everything but the sidecar, and its configuration."""

    def __init__(self, background: Background, folder: Path) -> None:
        self.background = background
        self.folder = folder
        self.repository = FhirRepository()
        ehr, pacs = (
            background.serve(ScriptedEhr().app()),
            background.serve(RowArchive(ROW, filters=False).app()),
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/fhir{path:.*}", self.repository.handle)
        self.secret = folder / "secret"
        self.secret.write_text("first")
        self.configuration: dict[str, Any] = {
            "ehr": {"fhir_url": f"http://127.0.0.1:{ehr}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": f"http://127.0.0.1:{pacs}/rs"},
            "fhir": {"detail": "study"},
            "audit": {
                "sink": "fhir",
                "repository": {
                    "url": f"http://127.0.0.1:{background.serve(app)}/fhir",
                    "auth": {"method": "bearer", "token_file": str(self.secret)},
                },
                "spool": {"folder": str(folder / "spool")},
            },
        }

    def ask(self, sidecar: SidecarProcess, count: int) -> list[str]:
        """So many searches; the request ids of those that were answered."""
        url, headers = (
            f"{sidecar.fhir}/ImagingStudy?patient={PATIENT}",
            {"Authorization": f"Bearer {TOKEN}"},
        )
        answers = [requests.get(url, headers=headers, timeout=60) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.headers["X-Request-Id"] for answer in answers]

    def told(self) -> list[str]:
        """The request ids of the events that the repository has, in its order."""
        return [request_id(event) for event in list(self.repository.events)]

    def wait_for(self, count: int) -> None:
        wait_until(
            f"{count} events", lambda: len(self.repository.events), lambda found: found >= count
        )


def request_id(event: dict[str, Any]) -> str:
    (found,) = [
        one["what"]["identifier"]["value"]
        for one in event["entity"]
        if one["type"]["code"] == "XrequestId"
    ]
    return str(found)

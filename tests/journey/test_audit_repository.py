"""The trail in a FHIR repository, of a real process: killed, reloaded, in front of one that is down (SIA-60)."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web
from fhir.resources.R4B.auditevent import AuditEvent

from tests.background import Background
from tests.sidecar_process import SidecarProcess
from tests.telemetry.fhir_repository import FhirRepository
from tests.upstreams import PATIENT, STUDY, TOKEN, ScriptedEhr


def archive() -> web.Application:
    async def studies(request: web.Request) -> web.Response:
        row = {"00100020": {"vr": "LO", "Value": [PATIENT]}, "0020000D": {"vr": "UI", "Value": [STUDY]}}
        return web.json_response([] if "offset" in request.query else [row], content_type="application/dicom+json")

    app = web.Application()
    app.router.add_get("/rs/{tail:.*}", studies)
    return app


class Site:
    """Everything but the sidecar, and its configuration."""

    def __init__(self, background: Background, folder: Path) -> None:
        self.background = background
        self.folder = folder
        self.repository = FhirRepository()
        ehr, pacs = background.serve(ScriptedEhr().app()), background.serve(archive())
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
        url, headers = f"{sidecar.fhir}/ImagingStudy?patient={PATIENT}", {"Authorization": f"Bearer {TOKEN}"}
        answers = [requests.get(url, headers=headers, timeout=10) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.headers["X-Request-Id"] for answer in answers]

    def told(self) -> list[str]:
        """The request ids of the events that the repository has, in its order."""
        return [request_id(event) for event in list(self.repository.events)]

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.repository.events) < count:
            assert time.monotonic() < deadline, f"{len(self.repository.events)} of {count} events"
            time.sleep(0.05)


def request_id(event: dict[str, Any]) -> str:
    (found,) = [one["what"]["identifier"]["value"] for one in event["entity"]
                if one["type"]["code"] == "XrequestId"]  # fmt: skip
    return str(found)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Background() as background:
        yield Site(background, tmp_path)


def test_a_killed_process_loses_nothing_that_was_answered(site: Site, tmp_path: Path) -> None:
    """The repository is down, the process is killed, all of it comes with the next one, in order."""
    site.repository.status = 503
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        answered = site.ask(sidecar, 120)
        os.kill(sidecar.process_id, signal.SIGKILL)
        assert sidecar.stop() == -9
    assert site.repository.events == []
    site.repository.status = None
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        site.wait_for(120)
        answered += site.ask(sidecar, 5)
        site.wait_for(125)
    assert site.told() == answered
    for event in site.repository.events:
        AuditEvent.model_validate(event)
    text = json.dumps(site.repository.events)
    assert f"/Patient/{PATIENT}" in text
    assert TOKEN not in text


def test_killed_again_and_again_while_it_delivers(site: Site, tmp_path: Path) -> None:
    """Told twice at most, under ids of ours once, and never out of order."""
    site.configuration["audit"]["repository"] |= {"interaction": "update", "batch_size": 5}
    site.repository.seconds = 0.02
    answered: list[str] = []
    for _ in range(4):
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            answered += site.ask(sidecar, 40)
            os.kill(sidecar.process_id, signal.SIGKILL)
            sidecar.stop()
    with SidecarProcess(tmp_path, site.configuration):
        site.wait_for(160)
    assert site.told() == answered


def test_a_secret_that_was_renewed_is_used(site: Site, tmp_path: Path) -> None:
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        site.ask(sidecar, 1)
        site.wait_for(1)
        site.secret.write_text("second")
        site.ask(sidecar, 1)
        site.wait_for(2)
    used = [authorization for _, _, authorization in site.repository.requests]
    assert used == ["Bearer first", "Bearer second"]


def test_a_reload_loses_and_repeats_nothing(site: Site, tmp_path: Path) -> None:
    site.repository.seconds = 0.05
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        answered = site.ask(sidecar, 30)
        os.kill(sidecar.process_id, signal.SIGHUP)
        answered += site.ask(sidecar, 60)
        site.wait_for(90)
        time.sleep(0.5)
    assert sorted(site.told()) == sorted(answered)


def test_a_full_spool_refuses_and_recovers(site: Site, tmp_path: Path) -> None:
    """``when_full: refuse``: nothing is answered that cannot be told (the spool's smallest size is a megabyte)."""
    site.configuration["audit"]["spool"]["max_bytes"] = 2**20
    site.repository.status = 503
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        url = f"{sidecar.fhir}/ImagingStudy?patient={PATIENT}"
        answered = 0
        while (answer := session.get(url, timeout=10)).status_code == 200:
            answered += 1
            assert answered < 2_000
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
        time.sleep(1.5)  # It is counted each second.
        assert sidecar.metric("smart_imaging_audit_queue_length") == answered
        assert sidecar.metric("smart_imaging_audit_queue_age_seconds") > 1
        site.repository.status = None
        site.wait_for(answered)
        deadline = time.monotonic() + 10
        while session.get(url, timeout=10).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert answered > 200

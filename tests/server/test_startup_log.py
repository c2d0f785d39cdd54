"""The log at the start: what is configured and reachable, and no secret (SIA-60)."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sidecar.server import startup_log
from sidecar.settings.adapter import ADAPTER
from sidecar.settings.document import Settings
from sidecar.telemetry.logs import JsonFormatter
from tests.background import Background
from tests.fakes.process_site import Site
from tests.sidecar_process import SidecarProcess


def settings(tmp_path: Path) -> Settings:
    secret = tmp_path / "secret"
    secret.write_text("an-own-secret")
    return ADAPTER.validate_python(
        {
            "ehr": {"fhir_url": "https://ehr.example.org/fhir"},
            "tokens": {
                "client": {
                    "method": "client_secret_basic",
                    "client_id": "us",
                    "client_secret": "another-secret",
                }
            },
            "pacs": {
                "url": "http://orthanc:8042/dicom-web",
                "dialect": "orthanc",
                "auth": {"method": "basic", "username": "us", "password_file": str(secret)},
            },
            "access": {
                "rules": [
                    {
                        "name": "hidden",
                        "effect": "exclude",
                        "study": {"StudyDescription": ["1.2.3"]},
                    }
                ]
            },
            "audit": {
                "sink": "fhir",
                "repository": {"url": "https://audit.example.org/fhir"},
                "spool": {"folder": str(tmp_path / "spool")},
            },
        }
    )


def said(
    tmp_path: Path, problems: dict[str, str], caplog: pytest.LogCaptureFixture
) -> list[dict[str, Any]]:
    with caplog.at_level(logging.INFO):
        startup_log.log_settings(settings(tmp_path), problems, client_connections=512)
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


def test_what_is_configured_and_reachable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = said(tmp_path, {}, caplog)
    assert len(lines) == 9  # And the one before them.
    by_message = {line["message"]: line for line in lines}
    assert by_message["the EHR answers"]["url"] == "https://ehr.example.org/fhir"
    assert by_message["the PACS answers"]["dialect"] == "orthanc"
    assert by_message["configured: tokens"]["client"] == "client_secret_basic"
    limits = by_message["configured: limits"]
    assert (limits["client_connections"], limits["pacs_connections"]) == (512, 100)
    assert by_message["configured: access"]["rules"] == 1
    assert by_message["configured: records"]["repository"] == "https://audit.example.org/fhir"
    assert all(line["level"] == "info" for line in lines)
    text = json.dumps(lines)
    assert not any(
        hidden in text for hidden in ('secret"', "an-own", "another-", "1.2.3", "hidden")
    )


def test_what_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = said(tmp_path, {"pacs": "pacs_unreachable: refused"}, caplog)
    (wrong,) = [line for line in lines if line["level"] != "info"]
    assert wrong["message"] == "the PACS does not answer as it should"
    assert wrong["problem"] == "pacs_unreachable: refused"


def test_a_process_begins_with_them(tmp_path: Path) -> None:
    with Background() as background:
        site = Site(background, tmp_path)
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            site.ask(sidecar, 1)
            lines = [json.loads(line) for line in sidecar.log.splitlines()]
    # The supervisor's line, and the worker's.
    first = [line["message"] for line in lines[:10]]
    assert {"serving", "the EHR answers", "the PACS answers", "configured: access"} < set(first)
    assert all(
        message.startswith("configured: ") or message.endswith(("answers", "serving"))
        for message in first
    )

"""docs/check.md has a heading for each name of a finding, and for no other.

That ``check`` has findings of these names alone, mypy sees: its outcomes are by ``FindingName``.
"""

import re
from pathlib import Path
from typing import Any, get_args

from sidecar.bootstrap.telemetry import certificates
from sidecar.check.certificates import NAMES
from sidecar.check.names import FindingName
from sidecar.telemetry.metrics import Metrics
from tests.certificates import certificate
from tests.fakes.site import site_settings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/check.md").read_text()


def test_each_name_is_a_heading_and_each_heading_a_name() -> None:
    findings = DOCUMENT.split("\n## Findings\n")[1].split("\n## ")[0]
    headings = re.findall(r"^### (.*)$", findings, re.MULTILINE)
    assert headings == list(get_args(FindingName))


def test_each_name_is_that_of_a_check() -> None:
    files = (ROOT / "sidecar/check").glob("*.py")
    checks = "".join(file.read_text() for file in files if file.name != "names.py")
    for name in {*get_args(FindingName)} - {*NAMES.values()}:
        assert f'"{name}":' in checks or f'["{name}"] =' in checks


def test_each_certificate_that_is_watched_has_a_name(tmp_path: Path) -> None:
    client, key = certificate(tmp_path, "us")
    url = {"url": "https://server.example.org"}
    tls_client = {
        "method": "tls_client_auth",
        "client_id": "us",
        "certificate_file": str(client),
        "private_key_file": str(key),
    }
    sections: dict[str, dict[str, Any]] = {
        "ehr": {"fhir_url": "https://ehr.example.org"},
        "tokens": {"client": tls_client},
        "access": {"external": url},
        "audit": {"sink": "fhir", "repository": url, "spool": {"folder": str(tmp_path / "spool")}},
    }
    watched = certificates(site_settings(1, "https://pacs.example.org", sections), Metrics("test"))
    assert {*watched._servers, *watched._files} == NAMES.keys()

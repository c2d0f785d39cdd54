"""The systemd unit: what it says of the process, and what systemd says of it."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.server.supervisor import END_SECONDS
from sidecar.settings.fhir import CatalogSettings
from sidecar.settings.server import Server

FILE = Path(__file__).parents[2] / "config" / "systemd" / "smart-imaging-sidecar.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(FILE)
    return unit["Service"]


def test_it_waits_for_what_the_process_reports(service: configparser.SectionProxy) -> None:
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_workers_have_the_time_to_end(service: configparser.SectionProxy) -> None:
    assert int(service["TimeoutStopSec"]) > Server().drain_seconds + END_SECONDS


def test_several_workers_have_a_folder_for_their_catalog(
    service: configparser.SectionProxy,
) -> None:
    assert Path("/var/lib") / service["StateDirectory"] == CatalogSettings().file.parent


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_it(tmp_path: Path) -> None:
    """Every line is known. Its program need not be installed here."""
    text = FILE.read_text()
    program = "/opt/smart-imaging-sidecar/bin/smart-imaging-sidecar"
    assert f"ExecStart={program} " in text
    unit = tmp_path / FILE.name
    unit.write_text(text.replace(f"ExecStart={program} ", "ExecStart=/bin/true "))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

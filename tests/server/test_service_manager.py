"""Reports to systemd, on a socket as it gives one."""

import os
import signal
import socket
from pathlib import Path

import pytest

from sidecar.server.service_manager import notify, notify_reloading
from tests.sidecar_process import SidecarProcess
from tests.waiting import WAIT_SECONDS


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@{tmp_path}/notify" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1) if abstract else address)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
        notify_reloading()
        first, second = manager.recv(100).decode().split("\n")
        assert first == "RELOADING=1"
        assert second.removeprefix("MONOTONIC_USEC=").isdigit()


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_serve_reports_its_start_its_reloads_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start and a reload have ended when all workers serve, or the old ones go on."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    configuration = {
        "ehr": {"fhir_url": "http://127.0.0.1:1/fhir"},
        "tokens": {"client": {"method": "none"}},
        "patients": {"mapping": "direct"},
        "pacs": {"url": "http://127.0.0.1:1/dicom-web"},
    }
    sidecar = SidecarProcess(tmp_path, configuration)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT_SECONDS)
        manager.bind(str(tmp_path / "notify"))

        def report() -> str:
            return manager.recv(100).decode().partition("\n")[0]

        with sidecar:
            assert report() == "READY=1"
            assert '"serving"' in sidecar.log
            os.kill(sidecar.process_id, signal.SIGHUP)
            assert (report(), report()) == ("RELOADING=1", "READY=1")
            assert '"reloaded"' in sidecar.log
            sidecar.file.write_text("{")
            os.kill(sidecar.process_id, signal.SIGHUP)
            assert (report(), report()) == ("RELOADING=1", "READY=1")
            assert "the old one goes on" in sidecar.log
        assert report() == "STOPPING=1"

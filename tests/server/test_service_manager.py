"""Reports to systemd, on a socket as it gives one."""

import socket
from pathlib import Path

import pytest

from sidecar.server.service_manager import notify, notify_reloading


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

"""When the demo opens a browser."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from sidecar.demo import browser
from sidecar.demo.run import DemoArchive, run_demo
from tests.dicom_instances import dataset, encoded
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until

URL = "http://127.0.0.1:8080/"


@pytest.mark.parametrize(
    ("platform", "environment", "is_terminal", "expected"),
    [
        ("linux", {"DISPLAY": ":0"}, True, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ("linux", {"DISPLAY": ""}, True, False),
        ("linux", {}, True, False),
        ("linux", {"DISPLAY": ":0"}, False, False),
        ("darwin", {}, True, True),
        ("win32", {}, True, True),
        ("darwin", {}, False, False),
    ],
)
def test_who_has_a_browser(
    platform: str, environment: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    assert browser.has_browser(platform, environment, is_terminal=is_terminal) is expected


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_page_is_opened_for_a_person(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    browser.open_page(URL)
    assert opened == ([URL] if is_terminal else [])


async def test_the_page_is_opened_when_everything_listens(tmp_path: Path) -> None:
    port, stop = free_ports_in_a_row(4), asyncio.Event()
    said: list[str] = []

    def open_page(url: str) -> None:
        said.append(f"{url} {requests.get(url, timeout=WAIT_SECONDS).status_code}")
        loop.call_soon_threadsafe(stop.set)

    loop = asyncio.get_running_loop()
    (tmp_path / "one.dcm").write_bytes(encoded(dataset()))
    archive = DemoArchive(tmp_path)
    await run_demo("127.0.0.1", port, archive, stop, echo=said.append, open_page=open_page)
    assert said[-2:] == ["Ctrl-C ends it.", f"http://127.0.0.1:{port}/ 200"]


@pytest.mark.parametrize("no_open", [False, True])
def test_the_command_opens_a_browser_from_a_terminal(tmp_path: Path, no_open: bool) -> None:
    """The terminal is real, the browser a script that writes down what it is to open."""
    (images := tmp_path / "images").mkdir()
    (images / "one.dcm").write_bytes(encoded(dataset()))
    opened, script = tmp_path / "opened", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    script.chmod(0o755)
    port = free_ports_in_a_row(4)
    command = [sys.executable, "-m", "sidecar", "demo", "--port", str(port), "--data", str(images)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command + ["--no-open"] * no_open,
        stdout=theirs,
        env={**os.environ, "DISPLAY": ":0", "BROWSER": f"{script} %s"},
    ) as process:
        os.close(theirs)
        with open(ours, encoding="utf-8") as terminal:
            while "Ctrl-C" not in terminal.readline():
                pass
            if not no_open:
                wait_until("a browser", lambda: opened.exists() and opened.read_text())
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0
    assert opened.exists() is not no_open
    if not no_open:
        assert opened.read_text() == f"http://127.0.0.1:{port}/\n"

"""When the demo opens a browser."""

import asyncio
import sys
from pathlib import Path

import pytest
import requests

from sidecar.demo import browser
from sidecar.demo.run import DemoArchive, run_demo
from tests.dicom_instances import dataset, encoded
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS

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

"""When the demo opens a browser."""

import sys

import pytest

from sidecar.demo import browser

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

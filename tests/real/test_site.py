"""The documents as a site in a real browser: nothing from elsewhere, search, a phone's width."""

import functools
import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.installed import installed
from tests.markdown import ROOT
from tests.real.browser import require_browser, start_browser
from tests.waiting import WAIT_SECONDS, wait_until

PAGES = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
OLDER = ["1.0.0rc1", "0.10.0", "0.9.0"]


class Quiet(SimpleHTTPRequestHandler):
    """A web server that writes no log."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Write nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built site, served; its URL. There are older versions beside it."""
    require_browser()
    installed(importlib.util.find_spec("mkdocs"), "no mkdocs: make docs")
    folder = tmp_path_factory.mktemp("site")
    for version in OLDER:
        (folder / version).mkdir()
        (folder / version / "404.html").touch()
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", str(folder / "1.0.0")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A new headless Chromium that tells what it asks for, with the width of a phone."""
    driver = start_browser(tmp_path / "profile", "500,900")
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        yield driver
    finally:
        driver.quit()


@pytest.mark.browser
def test_pages_fit_a_phone_and_load_nothing_from_elsewhere(
    site: str, browser: webdriver.Chrome
) -> None:
    def width() -> int:
        pixels: int = browser.execute_script("return document.documentElement.scrollWidth")
        return pixels

    assert len(PAGES) > 30
    for page in PAGES:
        address = re.sub(r"(?:index|README)/$", "", page.removesuffix(".md") + "/")
        browser.get(f"{site}/1.0.0/{address}")
        assert browser.find_element(By.TAG_NAME, "h1").text
        # The theme's script gives each table its own bar first.
        wait_until(f"{page} fits", width, lambda pixels: pixels <= 320)
        loaded = browser.execute_script(
            "return performance.getEntriesByType('resource').map((one) => one.name)"
        )
        assert loaded
        assert [url for url in loaded if not url.startswith((site, "data:", "blob:"))] == []
    lines = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [line for line in lines if line["level"] == "SEVERE"] == []


@pytest.mark.browser
def test_steps_of_several_paragraphs_are_one_list(site: str, browser: webdriver.Chrome) -> None:
    browser.get(f"{site}/1.0.0/orthanc/")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#with-your-ehr + ol > li")) == 6


@pytest.mark.browser
def test_the_search_finds_a_reason_and_the_first_page_is_of_the_newest(
    site: str, browser: webdriver.Chrome
) -> None:
    browser.get(site)
    wait_until("the newest", lambda: browser.current_url, lambda url: url.endswith("/1.0.0/"))
    browser.get(f"{site}/1.0.0/?q=capability")
    wait_until(
        "a result",
        lambda: browser.find_elements(By.CSS_SELECTOR, ".md-search-result__link"),
        lambda links: len(links) > 0,
    )
    names = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('../versions.json').then((answer) => answer.text()).then(done)"
    )
    assert [one["version"] for one in json.loads(names)] == ["1.0.0", *OLDER]

"""The demo's page in a real browser: log in at the EHR, see studies and an image, be refused
(SIA-1, 12, 20, 41).
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.real.browser import require_browser, start_browser
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``smart-imaging-sidecar demo`` as a process; its URL."""
    require_browser()
    log = tmp_path_factory.mktemp("demo") / "log.txt"
    port = free_ports_in_a_row(4)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "demo", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:

        def said() -> str:
            assert process.poll() is None, log.read_text()
            return log.read_text()

        wait_until("the demo's last line", said, lambda text: "Ctrl-C" in text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A new headless Chromium without any profile."""
    require_browser()
    downloads = {"download.default_directory": str(tmp_path / "downloads")}
    driver = start_browser(tmp_path / "profile", "1100,1400", **downloads)
    try:
        yield driver
    finally:
        driver.quit()


def wait(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The element, once it is shown."""
    found = WebDriverWait(browser, WAIT_SECONDS).until(
        lambda driver: next(
            (one for one in driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()),
            None,
        )
    )
    assert isinstance(found, WebElement)
    return found


def status(browser: webdriver.Chrome, pattern: str) -> str:
    """The page's status line, once it matches."""
    WebDriverWait(browser, WAIT_SECONDS).until(
        lambda driver: re.search(pattern, driver.find_element(By.ID, "status").text) is not None
    )
    return browser.find_element(By.ID, "status").text


def log_in(browser: webdriver.Chrome, demo: str, patient: str) -> None:
    browser.get(demo + "/")
    wait(browser, "#log-in").click()
    wait(browser, f"input[name=patient][value={patient}]").click()
    wait(browser, "button.allow").click()


@pytest.mark.browser
def test_an_apps_whole_journey(demo: str, browser: webdriver.Chrome, tmp_path: Path) -> None:
    log_in(browser, demo, "peter")
    status(browser, "4 studies of patient peter")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#rows tr")) == 4
    image = wait(browser, "#image")
    WebDriverWait(browser, WAIT_SECONDS).until(
        lambda driver: driver.execute_script("return arguments[0].naturalWidth", image) > 0
    )
    assert image.get_attribute("alt")
    # The code of the login does not stay in the address bar.
    assert browser.current_url == demo + "/"
    browser.find_element(By.XPATH, "//tbody/tr[1]//button[text()='Fetch all']").click()
    assert re.search("The whole study came: [0-9]{4,} bytes", status(browser, "whole study came"))
    browser.find_element(By.XPATH, "//tbody/tr[1]//button[text()='Save as ZIP']").click()
    status(browser, "came as a ZIP: [0-9]{4,} bytes")
    saved = tmp_path / "downloads" / "study.zip"
    wait_until("the saved study", saved.exists)
    with ZipFile(saved) as opened:
        assert opened.testzip() is None
        assert all(name.startswith("DICOM/") for name in opened.namelist())
    browser.find_element(By.ID, "refuse").click()
    status(browser, "for another patient")
    # The refusal is a 403 in the console; anything else would be a script that was blocked or
    # broke.
    messages = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    assert all("403" in message for message in messages), messages
    browser.find_element(By.ID, "log-out").click()
    assert wait(browser, "#log-in")
    assert not browser.find_elements(By.CSS_SELECTOR, "#rows tr")


@pytest.mark.browser
def test_a_login_that_is_denied(demo: str, browser: webdriver.Chrome) -> None:
    browser.get(demo + "/")
    wait(browser, "#log-in").click()
    wait(browser, "button[value=deny]").click()
    status(browser, "Not logged in .access_denied")
    assert not browser.find_elements(By.CSS_SELECTOR, "#rows tr")


@pytest.mark.browser
def test_an_answer_that_was_not_asked_for(demo: str, browser: webdriver.Chrome) -> None:
    """A code that somebody else puts into the address: not used."""
    browser.get(demo + "/?code=stolen&state=made-up")
    status(browser, "not begun here")

"""The demo's explorer in a real Chromium."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.installed import installed
from tests.real.browser import require_browser, start_browser
from tests.waiting import WAIT_SECONDS, wait_until

AXE = Path(__file__).parent.parent.parent / "build/axe/axe.min.js"
NO_AXE = "no axe-core: make axe (needs npm)"
PAGES = ("journey", "studies", "viewer", "download", "break-in")


def axe_source() -> str:
    """Return the script of axe-core; skip without it."""
    installed(AXE.is_file(), NO_AXE)
    return AXE.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Explorer:
    """The page in a browser."""

    driver: webdriver.Chrome
    url: str
    downloads: Path

    def wait(self, selector: str) -> WebElement:
        """Return the first shown element of a selector, once there is one."""

        def find(driver: webdriver.Chrome) -> WebElement | None:
            try:
                found = driver.find_elements(By.CSS_SELECTOR, selector)
                return next((one for one in found if one.is_displayed()), None)
            except StaleElementReferenceException:
                return None

        found = WebDriverWait(self.driver, WAIT_SECONDS).until(find, f"{selector}: {self.said()}")
        assert isinstance(found, WebElement)
        return found

    def all(self, selector: str) -> list[WebElement]:
        """Return all elements of a selector, shown or not."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def said(self) -> str:
        """Return the status line."""
        return str(self.js("return document.getElementById('status')?.textContent ?? ''"))

    def status(self, pattern: str) -> str:
        """Return the status line, once it matches."""
        return wait_until("the status line", self.said, lambda text: bool(re.search(pattern, text)))

    def js(self, script: str, *arguments: object) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def log_in(self, patient: str) -> None:
        """Go through the login, to the page of studies."""
        self.driver.get(self.url + "/")
        self.wait("#log-in").click()
        self.wait(f"input[name=patient][value={patient}]").click()
        self.wait("button.allow").click()
        self.wait(".card")

    def go(self, page: str) -> None:
        """Go to a page by its tab."""
        self.wait(f".tabs a[href='#{page}']").click()
        self.wait(f"#page-{page}")

    def study(self, purpose: str) -> Any:
        """Return what the demo's guide says of Ada's study for that purpose."""
        guide = self.js("return fetch('/demo/guide').then((answer) => answer.json())")
        return next(
            study
            for study in guide["studies"]
            if (study["patient"], study["purpose"]) == ("ada", purpose)
        )

    def console(self) -> list[str]:
        """Return the console's messages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def explorer(url: str, folder: Path, size: str = "1280,900", *more: str) -> Iterator[Explorer]:
    """Yield the page in a new browser, whose downloads go to ``folder / "downloads"``."""
    require_browser()
    downloads = folder / "downloads"
    preferences = {"download.default_directory": str(downloads)}
    driver = start_browser(folder / "profile", size, *more, **preferences)
    try:
        yield Explorer(driver, url, downloads)
    finally:
        driver.quit()

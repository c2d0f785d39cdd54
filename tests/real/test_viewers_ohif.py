"""docs/viewers.md: OHIF in Chromium, on the demo and on a real Orthanc behind the sidecar."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from sidecar.demo.ehr import token_endpoint
from tests.journey.world import make_world
from tests.markdown import snippet
from tests.real.viewers.fixtures import browser, site
from tests.real.viewers.pages import DOCUMENT, at, ohif, require_ohif, without_login
from tests.real.viewers.pictures import as_shown, is_blank, likeness, on_canvas
from tests.real.viewers.site import COMPRESSED, OTHER, OWNER, Site, write_files
from tests.waiting import wait_until

__all__ = ["browser", "site"]

CANVAS = """const canvas = document.querySelector('canvas.cornerstone-canvas');
return canvas === null ? '' : canvas.toDataURL();"""
SENT = "return performance.getEntriesByType('resource').map((one) => one.name)"
REFUSED = "not available"


def configuration(sidecar: str, ehr: str) -> str:
    """The page's app-config.js for these addresses."""
    code = snippet(DOCUMENT, "// app-config.js: OHIF logs in at the EHR")
    return at(code, sidecar=sidecar, ehr=ehr)


@pytest.fixture
def with_login(site: Site, tmp_path: Path) -> Iterator[str]:
    """OHIF with its own login; its address."""
    require_ohif()
    with ohif(tmp_path / "ohif", configuration(site.sidecar, site.ehr)) as address:
        yield address


@pytest.fixture
def with_token(site: Site, tmp_path: Path) -> Iterator[str]:
    """OHIF as a portal has it that hands a token over; its address."""
    require_ohif()
    made = without_login(configuration(site.sidecar, site.ehr))
    with ohif(tmp_path / "ohif", made) as address:
        yield address


def shown(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The element, once it is shown."""
    found = wait_until(
        selector,
        lambda: list(browser.find_elements(By.CSS_SELECTOR, selector)),
        lambda found: found and found[0].is_displayed(),
        not_yet=(StaleElementReferenceException,),
        explain=lambda: f"{browser.current_url}\n{text(browser)}",
    )
    return found[0]


def text(browser: webdriver.Chrome) -> str:
    """All that is written on the screen."""
    return str(browser.execute_script("return document.body.innerText"))


def log_in(browser: webdriver.Chrome, patient: str) -> None:
    shown(browser, f"input[name=patient][value={patient}]").click()
    shown(browser, "button.allow").click()


def assert_it_shows(browser: webdriver.Chrome, file: Path) -> None:
    """The canvas has the file's frame: the right way round, and as bright."""
    picture = wait_until(
        "a picture",
        lambda: on_canvas(browser.execute_script(CANVAS)),
        lambda seen: not is_blank(seen),
        not_yet=(OSError, ValueError),
        explain=lambda: f"{browser.current_url}\n{text(browser)}",
    )
    frame = as_shown(file)
    assert min(likeness(picture, frame)) > 0.9
    assert min(likeness(picture[:, ::-1], frame)) < 0.9


def assert_it_refuses(browser: webdriver.Chrome) -> None:
    wait_until("the refusal", lambda: text(browser), lambda seen: REFUSED in seen)
    assert browser.execute_script(CANVAS) == ""


@pytest.mark.browser
def test_its_own_login(
    site: Site, with_login: str, browser: webdriver.Chrome, artefacts: Path
) -> None:
    """The list, a picture, and another patient's study. A page that is loaded anew logs in anew."""
    browser.get(f"{with_login}/")
    log_in(browser, OWNER.id)
    assert shown(browser, f"[data-cy='studyRow-{site.study(OWNER.id)}']")
    assert site.study(OTHER.id) not in browser.page_source
    browser.save_screenshot(str(artefacts / f"viewers-ohif-list-{site.name}.png"))
    browser.get(f"{with_login}/viewer?StudyInstanceUIDs={site.study(OWNER.id)}")
    log_in(browser, OWNER.id)
    assert_it_shows(browser, site.files[OWNER.id])
    browser.save_screenshot(str(artefacts / f"viewers-ohif-picture-{site.name}.png"))
    browser.get(f"{with_login}/viewer?StudyInstanceUIDs={site.study(OTHER.id)}")
    log_in(browser, OWNER.id)
    assert_it_refuses(browser)
    browser.save_screenshot(str(artefacts / f"viewers-ohif-refused-{site.name}.png"))


@pytest.mark.browser
def test_with_a_token(site: Site, with_token: str, browser: webdriver.Chrome) -> None:
    """Pictures, a compressed one too; the token leaves the address bar. The list ignores it."""
    handed = f"token={site.token}"
    browser.get(f"{with_token}/viewer?StudyInstanceUIDs={site.study(OWNER.id)}&{handed}")
    assert_it_shows(browser, site.files[OWNER.id])
    assert site.token not in browser.current_url
    browser.get(f"{with_token}/viewer?StudyInstanceUIDs={site.study(COMPRESSED)}&{handed}")
    assert_it_shows(browser, site.files[COMPRESSED])
    browser.get(f"{with_token}/viewer?StudyInstanceUIDs={site.study(OTHER.id)}&{handed}")
    assert_it_refuses(browser)
    browser.get(f"{with_token}/?{handed}")
    refused = f"{site.sidecar}/wado-rs/studies"
    wait_until(
        "a 401",
        lambda: [
            one["message"]
            for one in browser.get_log("browser")  # type: ignore[no-untyped-call]
            if refused in one["message"]
        ],
        lambda seen: any("401" in one for one in seen),
    )
    assert site.study(OWNER.id) not in browser.page_source


@pytest.mark.browser
def test_its_logout(site: Site, with_login: str, browser: webdriver.Chrome) -> None:
    """It leads back to the login, and the token has ended at the EHR."""
    browser.get(f"{with_login}/")
    log_in(browser, OWNER.id)
    assert shown(browser, f"[data-cy='studyRow-{site.study(OWNER.id)}']")
    token = browser.execute_script(
        """const key = Object.keys(sessionStorage).find((one) => one.startsWith('oidc.user:'));
        return JSON.parse(sessionStorage.getItem(key)).access_token;"""
    )
    at_the_ehr = f"{site.ehr}/fhir/Patient/{OWNER.id}"
    bearer = {"Authorization": f"Bearer {token}"}
    assert requests.get(at_the_ehr, headers=bearer, timeout=60).status_code == 403
    browser.execute_script(
        # What the entry "Logout" of its menu does.
        """const back = encodeURIComponent(location.href);
        history.pushState({}, '', `/logout?redirect_uri=${back}`);
        dispatchEvent(new PopStateEvent('popstate'));"""
    )
    assert shown(browser, f"input[name=patient][value={OWNER.id}]")
    assert requests.get(at_the_ehr, headers=bearer, timeout=60).status_code == 401


@pytest.mark.browser
def test_it_renews_its_token(
    browser: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``online_access``, a minute before the end."""
    require_ohif()
    monkeypatch.setattr(token_endpoint, "ACCESS_TOKEN_SECONDS", 62)
    write_files(tmp_path / "files")
    with (
        make_world(tmp_path, tmp_path / "files", None) as world,
        ohif(tmp_path / "ohif", configuration(world.sidecar.url, world.ehr_url)) as address,
    ):
        browser.get(f"{address}/")
        log_in(browser, OWNER.id)
        wait_until(
            "a second token",
            lambda: browser.execute_script(SENT),
            lambda sent: sent.count(f"{world.ehr_url}/token") > 1,
        )

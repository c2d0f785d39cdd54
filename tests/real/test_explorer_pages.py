"""Each page of the explorer at three widths, dark and light: nobody is shut out, nothing is
fetched from elsewhere. The screenshots are artefacts.
"""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from tests.real.explorer import PAGES, Explorer, axe_source, explorer
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

HEIGHTS = {320: 640, 768: 1024, 1280: 900}
SCHEMES = ("light", "dark")
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then((found) => done(found.violations.map(
  ({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ target }) => target.join(" ")) }))),
  (problem) => done([String(problem)]));"""
OVERFLOW = """
const tables = [...document.querySelectorAll("table")].map((table) => table.parentElement);
return [document.documentElement, ...tables]
  .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
  .map(({ tagName, scrollWidth, clientWidth }) => [tagName, scrollWidth, clientWidth]);"""
REQUESTED = "return performance.getEntriesByType('resource').map(({ name }) => name)"


def show(page: Explorer, width: int, scheme: str) -> None:
    """Set the width of the page, which a window of that size need not have, and the colours."""
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": HEIGHTS[width], "deviceScaleFactor": 1, "mobile": width < 768},
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def barriers(page: Explorer, axe: str) -> list[object]:
    """Return what axe-core finds."""
    if not page.js("return 'axe' in window"):
        page.js(axe)
    found: list[object] = page.driver.execute_async_script(AXE)
    return found


def fill(page: Explorer) -> None:
    """Have something on each page: a picture, a download, refusals."""
    page.js("performance.setResourceTimingBufferSize(5000)")
    page.wait(".card[data-study] button.primary").click()
    wait_until("a picture", lambda: page.wait("#about-image").text)
    page.go("download")
    page.wait("#start").click()
    page.status("Saved")
    page.go("break-in")
    page.wait("#try-all").click()
    page.status("attempts were refused")
    page.go("journey")
    page.wait("#timeline .exchange summary").click()
    page.wait("#timeline .exchange[open] pre")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", HEIGHTS)
def test_every_page_is_for_everybody(
    demo: str, width: int, scheme: str, tmp_path: Path, artefacts: Path
) -> None:
    axe = axe_source()
    found: dict[str, object] = {}
    with explorer(demo, tmp_path) as page:
        show(page, width, scheme)
        page.driver.get(demo + "/")
        page.wait("#log-in")
        found["welcome"] = look(page, axe, artefacts / f"explorer-welcome-{width}-{scheme}.png")
        page.wait("#log-in").click()
        page.wait("button.allow")
        found["consent"] = look(page, axe, artefacts / f"explorer-consent-{width}-{scheme}.png")
        page.log_in("ada")
        assert refusals_alone(page.console()) == []
        fill(page)
        for name in PAGES:
            page.go(name)
            found[name] = look(page, axe, artefacts / f"explorer-{name}-{width}-{scheme}.png")
        messages = refusals_alone(page.console())
        origins = {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in page.js(REQUESTED)}
    assert {name: problem for name, problem in found.items() if problem} == {}
    assert messages == []
    ehr = f"http://127.0.0.1:{(urlsplit(demo).port or 0) + 1}"
    assert {origin for origin in origins if origin.startswith("http")} <= {demo, ehr}


def look(page: Explorer, axe: str, screenshot: Path) -> list[object]:
    """Return the barriers, and what is wider than its place; write a screenshot."""
    page.driver.save_screenshot(str(screenshot))
    wide = page.js(OVERFLOW)
    return barriers(page, axe) + ([f"wider than its place: {wide}"] if wide else [])


def refusals_alone(messages: list[str]) -> list[str]:
    """Return the console's messages without those about a status of 400 to 503.

    Chromium writes one for each refusal, which is what the attempts are for.
    """
    expected = "Failed to load resource: the server responded with a status of"
    return [message for message in messages if expected not in message]


def test_the_keyboard_is_enough(demo: str, tmp_path: Path) -> None:
    """From the skip link to a card's button; the focus follows to the page that it opens."""
    with explorer(demo, tmp_path) as page:
        page.log_in("ada")
        order = page.js("""
            const seen = [];
            for (const one of document.querySelectorAll("a[href], button, input, select")) {
              if (one.offsetParent !== null && one.tabIndex >= 0) seen.push(one.textContent.trim());
            }
            return seen.slice(0, 8)""")
        assert order[0] == "Skip to the content"
        assert order[1:7] == ["Log out", "Journey", "Studies", "Viewer", "Download", "Break in"]
        page.js("document.querySelector('.card button').focus()")
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        wait_until(
            "the viewer's heading has the focus",
            lambda: page.js("return document.activeElement.id"),
            lambda focused: focused == "viewer-title",
            explain=lambda: json.dumps(page.said()),
        )


def test_nothing_is_asked_for_elsewhere(demo: str, tmp_path: Path) -> None:
    """The policy of the page stops what a script would ask of another origin, and HTML of text."""
    with explorer(demo, tmp_path) as page:
        page.driver.get(demo + "/")
        page.wait("#log-in")
        other = demo.replace("127.0.0.1", "localhost")
        blocked = "return fetch(arguments[0]).then(() => 'came', () => 'blocked')"
        assert page.js(blocked, demo + "/fhir/metadata") == "came"
        assert page.js(blocked, other + "/fhir/metadata") == "blocked"
        html = "try { document.body.innerHTML = '<p>'; return 'made' } catch { return 'blocked' }"
        assert page.js(html) == "blocked"

"""The two sites, and a browser, for the tests of viewers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.real.browser import require_browser, start_browser
from tests.real.orthanc import require_orthanc
from tests.real.viewers.site import Site, demo_site, orthanc_site

SITES = ["demo", pytest.param("orthanc", marks=pytest.mark.orthanc)]


@pytest.fixture(scope="module", params=SITES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The demo, or a real Orthanc behind the sidecar."""
    require_browser()
    folder = tmp_path_factory.mktemp("site")
    if request.param == "orthanc":
        require_orthanc()
        with orthanc_site(folder) as running:
            yield running
    else:
        with demo_site(folder) as running:
            yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A new headless Chromium that draws WebGL by its own software."""
    require_browser()
    driver = start_browser(tmp_path / "profile", "1400,1000", "--enable-unsafe-swiftshader")
    try:
        yield driver
    finally:
        driver.quit()

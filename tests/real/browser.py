"""A real Chromium."""

import os
from pathlib import Path

import pytest

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
NOT_INSTALLED = "no browser to drive: apt-get install chromium chromium-driver"


def require_browser() -> None:
    """Skip without Chromium; with REQUIRE_REAL_SERVERS set, fail."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        if os.environ.get("REQUIRE_REAL_SERVERS"):
            pytest.fail(NOT_INSTALLED)
        pytest.skip(NOT_INSTALLED)

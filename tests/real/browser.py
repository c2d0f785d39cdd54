"""A real Chromium."""

from pathlib import Path

from selenium import webdriver

from tests.installed import installed

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
NOT_INSTALLED = "no browser to drive: apt-get install chromium chromium-driver"


def require_browser() -> None:
    """Skip without Chromium; with REQUIRE_REAL_SERVERS set, fail."""
    installed(CHROMIUM.exists() and DRIVER.exists(), NOT_INSTALLED)


def start_browser(profile: Path, size: str, *more: str, **preferences: str) -> webdriver.Chrome:
    """Return a headless Chromium with a window of ``size``, further arguments and preferences."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        f"--window-size={size}",
        f"--user-data-dir={profile}",
        *more,
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))

"""Open the demo's page in the browser of whoever started it."""

import os
import sys
import webbrowser
from collections.abc import Mapping


def has_browser(platform: str, environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether a person is there with a graphical browser.

    A text browser would take the terminal over, so a desktop must be there, too.
    """
    if not is_terminal:
        return False
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    return platform in ("darwin", "win32") or any(map(environment.get, displays))


def open_page(url: str) -> None:
    """Open the page, if there is a browser for it. Blocks until the browser was started."""
    if has_browser(sys.platform, os.environ, is_terminal=sys.stdout.isatty()):
        webbrowser.open(url)

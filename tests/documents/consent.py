"""A person who presses "Allow" at the demo EHR: ``python -m tests.documents.consent URL``.

It is the BROWSER of an app under test. With ``--print`` it prints where the EHR would send the
browser, and does not go there.
"""

import os
import re
import sys
from collections.abc import Iterator
from html import unescape
from urllib.parse import urljoin

import requests

PATIENT = os.environ.get("PATIENT", "robin")
"""Robin has images in five studies, under several numbers."""


def _fields(page: str) -> Iterator[tuple[str, str]]:
    """Yield what the form of the page has as it comes, but for the patient."""
    for found in re.findall(r"<input\b[^>]*>", page):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', found))
        if attributes["name"] == "patient":
            continue
        if attributes["type"] == "hidden" or re.search(r"\schecked\b", found):
            yield attributes["name"], unescape(attributes["value"])


def allow(url: str) -> str:
    """Return the address to which the EHR redirects after consent to all that was asked for."""
    with requests.Session() as browser:
        page = browser.get(url, timeout=60)
        page.raise_for_status()
        answer = browser.post(
            urljoin(url, "/authorize/consent"),
            data=[*_fields(page.text), ("patient", PATIENT), ("decision", "allow")],
            allow_redirects=False,
            timeout=60,
        )
        return answer.headers["Location"]


if __name__ == "__main__":
    came_back_to = allow(sys.argv[1])
    if "--print" in sys.argv:
        print(came_back_to)
    else:
        requests.get(came_back_to, timeout=60)

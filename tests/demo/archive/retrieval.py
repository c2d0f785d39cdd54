"""What is read from the demo's archive, by retrievals."""

import re
from pathlib import Path

import pydicom
import requests

from tests.journey.multipart import parts_of

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
MADE_STUDY = "1.2.826.0.1.3680043.8.498.78"


def get(
    url: str, accept: str | None = None, status: int = 200, **parameters: str
) -> requests.Response:
    headers = {"Accept": accept} if accept else {}
    response = requests.get(url, headers=headers, params=parameters, timeout=60)
    assert response.status_code == status, (url, response.status_code, response.text[:200])
    return response


def parts(response: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    return parts_of(response.headers["Content-Type"], response.content)


def uids_of(url: str) -> tuple[str, str, str]:
    found = re.fullmatch(r".*/studies/([^/]+)/series/([^/]+)/instances/([^/]+)", url)
    assert found
    return found[1], found[2], found[3]

"""Our searches find what HAPI FHIR finds, which has the same resources (SIA-20 and others)."""

import pytest
import requests

from tests.real.hapi.server import Hapi

pytestmark = pytest.mark.hapi


def test_it_is_empty(hapi: Hapi) -> None:
    found = requests.get(hapi.base + "/ImagingStudy", timeout=60).json()
    assert found["total"] == 0

"""Real parts that several test modules start."""

from collections.abc import Iterator

import pytest

from tests.demo.demo_process import running_demo
from tests.installed import installed
from tests.real.hapi.server import HAPI, NO_HAPI, Hapi


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The URL of the demo's page, of the test module's own."""
    with running_demo() as running:
        yield running.base


@pytest.fixture(scope="module")
def hapi() -> Iterator[Hapi]:
    """A running HAPI FHIR, of the test module's own; empty at first."""
    installed((HAPI / ".built").is_file(), NO_HAPI)
    with Hapi() as server:
        yield server

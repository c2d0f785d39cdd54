"""The rules, and the command that checks them."""

import os
import shutil
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "config" / "prometheus" / "rules.yaml"
NOT_INSTALLED = "no promtool: apt-get install prometheus"


@pytest.fixture
def promtool() -> str:
    """Its path; skip without it, and fail with REQUIRE_REAL_SERVERS."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("REQUIRE_REAL_SERVERS"):
            pytest.fail(NOT_INSTALLED)
        pytest.skip(NOT_INSTALLED)
    return found

"""The rules, and the command that checks them."""

import shutil
from pathlib import Path

import pytest

from tests.installed import installed

RULES = Path(__file__).parents[2] / "config" / "prometheus" / "rules.yaml"
NOT_INSTALLED = "no promtool: apt-get install prometheus"


@pytest.fixture
def promtool() -> str:
    """Its path."""
    return installed(shutil.which("promtool"), NOT_INSTALLED)

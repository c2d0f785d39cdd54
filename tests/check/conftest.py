"""Fixtures of this folder."""

import pytest

from tests.check.scripted_site import Pacs
from tests.common.peer import peer
from tests.fakes.ehr import ScriptedEhr

__all__ = ["peer"]


@pytest.fixture
def ehr() -> ScriptedEhr:
    return ScriptedEhr(answer={"active": False})


@pytest.fixture
def pacs() -> Pacs:
    return Pacs()

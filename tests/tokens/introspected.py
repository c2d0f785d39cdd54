"""The token of these tests, and the problem that an introspection ends with."""

import pytest

from sidecar.common.errors import Problem
from sidecar.tokens.introspection import Introspection

TOKEN = "a-recognizable-token"


async def problem_of(asked: Introspection, token: str = TOKEN) -> Problem:
    """The failure that a request meets."""
    with pytest.raises(Problem) as failed:
        await asked.introspect(token)
    return failed.value

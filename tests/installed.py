"""What a test needs of its machine."""

import os
from typing import TypeVar

import pytest

Needed = TypeVar("Needed")


def installed(needed: Needed | None, hint: str) -> Needed:
    """Return what a test needs, and skip the test where it is ``None`` or false.

    ``hint`` says what to install. With REQUIRE_REAL_SERVERS set, the test fails in place of that.
    """
    if needed:
        return needed
    if os.environ.get("REQUIRE_REAL_SERVERS"):
        pytest.fail(hint)
    pytest.skip(hint)

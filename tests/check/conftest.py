"""Fixtures of this folder."""

from tests.common.peer import peer

__all__ = ["peer"]

"""Fixtures of this folder."""

from tests.common.peer import peer, session

__all__ = ["peer", "session"]

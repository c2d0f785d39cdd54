"""Describe to operators, not to the app, why an access token is not accepted here."""

import logging
from collections.abc import Collection

from sidecar.access.reasons import Reason

_MAXIMUM_CHARACTERS = 200
_MAXIMUM_VALUES = 5
_LEVELS = {Reason.UNVERIFIED_TOKEN: logging.DEBUG, Reason.EXPIRED_TOKEN: logging.INFO}
"""Levels of junk, which anybody can send, and of expiry. Other reasons are mistakes: warnings."""


class TokenRejected(Exception):
    """An access token is not accepted.

    ``reason`` is one of ``INVALID_TOKEN``. ``claim``: the member in question; ``expected``: its
    value in the configuration; ``received``: that in the token. None of them is a secret, or names
    a person.
    """

    def __init__(
        self,
        reason: Reason,
        claim: str | None = None,
        *,
        expected: object = None,
        received: object = None,
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.claim = claim
        self._expected = expected
        self._received = received

    def log(self, logger: logging.Logger) -> None:
        """Write one line with the claim, and the configured and the received value."""
        logger.log(
            _LEVELS.get(self.reason, logging.WARNING),
            "an access token is not accepted",
            extra={
                "reason": self.reason.value,
                "claim": self.claim,
                "expected": _shown(self._expected),
                "received": _shown(self._received),
            },
        )

    def for_operators(self) -> str:
        """Return the reason, with both values where there are some."""
        if self.claim is None:
            return self.reason.value
        if self._expected is None:
            return f"{self.reason.value}: it has {self.claim}"
        expected = self._expected
        several = (
            isinstance(expected, Collection) and not isinstance(expected, str) and len(expected) > 1
        )
        one_of = "one of " if several else ""
        received = (
            "the token names none" if self._received is None else f"is {_shown(self._received)}"
        )
        wanted = f"{self.claim} should be {one_of}{_shown(self._expected)}"
        return f"{self.reason.value}: {wanted}, and {received}"


def _shown(value: object) -> str | None:
    """Return a bounded, printable text; for what is no text, number or list: its type."""
    if value is None:
        return None
    if isinstance(value, str):
        printable = "".join(
            character if character.isprintable() else "?"
            for character in value[:_MAXIMUM_CHARACTERS]
        )
        return printable + ("…" if len(value) > _MAXIMUM_CHARACTERS else "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.0f}" if abs(value) < 1e15 else "<number>"
    if isinstance(value, Collection) and not isinstance(value, dict):
        shown = [
            str(_shown(item)) if isinstance(item, str) else f"<{type(item).__name__}>"
            for item in value
        ]
        more = ["…"] if len(shown) > _MAXIMUM_VALUES else []
        return ", ".join(shown[:_MAXIMUM_VALUES] + more) or "<empty>"
    return f"<{type(value).__name__}>"

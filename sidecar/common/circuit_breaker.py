"""A short circuit breaker: a peer that fails again and again is left alone for a moment."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after ``failures`` failures in a row for ``open_seconds``; then lets one call probe.

    Use: ``if breaker.refuses(): ...`` before a call, ``succeeded()`` or ``failed()`` after it.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        open_seconds: float = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._in_a_row = 0
        self._closed_again_at = float("-inf")

    def refuses(self) -> bool:
        """Whether no call may be made now.

        When the time is over, one caller is let through to probe.
        """
        if self._in_a_row < self._limit:
            return False
        if self._clock() < self._closed_again_at:
            return True
        self._closed_again_at = self._clock() + self._open_seconds
        return False

    def succeeded(self) -> None:
        """The peer answered usefully."""
        self._in_a_row = 0

    def failed(self) -> None:
        """The peer did not answer, or not usefully."""
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            self._closed_again_at = self._clock() + self._open_seconds

"""A circuit breaker: no calls to a peer that failed several times in a row, for a moment."""

import time
from collections.abc import Callable


class Breaker:
    """Open for ``open_seconds`` after ``failures`` failures in a row; then let one call probe.

    Ask ``refuses()`` before a call, and call ``succeeded()`` or ``failed()`` after it.
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
        """Return whether no call may be made now. When the time is over, one caller may probe."""
        if self._in_a_row < self._limit:
            return False
        if self._clock() < self._closed_again_at:
            return True
        self._closed_again_at = self._clock() + self._open_seconds
        return False

    def succeeded(self) -> None:
        """Record a usable answer."""
        self._in_a_row = 0

    def failed(self) -> None:
        """Record that there was no usable answer."""
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            self._closed_again_at = self._clock() + self._open_seconds

"""End a transfer whose step takes too long, or whose client takes its bytes too slowly."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sidecar.web.send_buffers import abort_connection, unsent_bytes

log = logging.getLogger(__name__)

LEAST_BYTES_PER_SECOND = 16 * 1024
WINDOW_SECONDS = 15
"""Seconds over which the rate is measured. They are fewer than a request waits for a place, so that
a waiting request gets a slow client's."""
_CHECKS_PER_TIMEOUT = 4
_LONGEST_INTERVAL_SECONDS = 1.0


class TransferTimeout:
    """Bound each step of a transfer with one timer: a timer for each chunk costs as much as it.

    An asynchronous context manager: ``begin`` a step before each wait, and ``TimeoutError`` is
    raised when its time is over, up to a quarter of ``shortest_seconds`` (at most a second) late.
    ``step`` is then the one that was under way. ``is_over``: checked as often; ends the step, too.
    """

    def __init__(
        self, shortest_seconds: float, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._interval = min(shortest_seconds / _CHECKS_PER_TIMEOUT, _LONGEST_INTERVAL_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._until = float("inf")
        self._is_over = is_over
        self._timer: asyncio.TimerHandle | None = None
        self.step = ""

    def begin(self, step: str, seconds: float) -> None:
        """Begin a step that may take ``seconds``."""
        self.step = step
        self._until = self._loop.time() + seconds

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._timer = self._loop.call_later(self._interval, self._check)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _check(self) -> None:
        if self._is_over() or self._loop.time() >= self._until:
            self._timeout.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._interval, self._check)


class ClientRate:
    """Measure how fast a client takes its bytes. The archive's and our own time does not count.

    It is a token bucket of seconds: full at first, filled by bytes, emptied by waiting for the
    client. It is empty when the client took less than ``LEAST_BYTES_PER_SECOND`` over
    ``WINDOW_SECONDS`` of waiting for it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._writer: AbstractStreamWriter | None = None
        self._waited_seconds = 0.0
        self._since: float | None = None
        # What the bucket has, and the totals that it has taken into account.
        self._credit_seconds: float = WINDOW_SECONDS
        self._counted_bytes = 0
        self._counted_seconds = 0.0

    def wait_for(self, writer: AbstractStreamWriter | None) -> None:
        """Begin to wait for the client behind ``writer``."""
        self._writer, self._since = writer, self._clock()

    def end(self) -> None:
        """End the wait: the client has taken what there was."""
        if self._since is not None:
            self._waited_seconds += self._clock() - self._since
            self._since = None

    def is_too_slow(self) -> bool:
        """Return whether the client is waited for, and takes less than the least rate."""
        if self._writer is None or self._since is None or self._writer.transport is None:
            return False
        transport = self._writer.transport
        # The kernel may keep megabytes that the client has not received.
        unsent = unsent_bytes(transport.get_extra_info("socket"))
        sent = max(0, self._writer.output_size - transport.get_write_buffer_size() - unsent)
        waited = self._waited_seconds + self._clock() - self._since
        earned = (sent - self._counted_bytes) / LEAST_BYTES_PER_SECOND
        left = min(WINDOW_SECONDS, self._credit_seconds + earned) - waited + self._counted_seconds
        self._credit_seconds = max(left, -WINDOW_SECONDS)
        self._counted_bytes, self._counted_seconds = sent, waited
        return self._credit_seconds < 0


async def send_whole(request: web.Request, response: web.StreamResponse, *, seconds: float) -> None:
    """Send an answer to its end.

    The connection of a client that takes longer than ``seconds`` is reset.
    """
    try:
        async with asyncio.timeout(seconds):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        log.info("an answer was not taken in time", extra={"reason": "client_too_slow"})
        abort_connection(request)
        raise ConnectionResetError("aborted") from None

"""The least rate at which a client has to take its answer, so that it does not hold what others wait for."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sidecar.web.connection_reset import abort_connection
from sidecar.web.send_buffers import unsent_bytes

log = logging.getLogger(__name__)

LEAST_BYTES_PER_SECOND = 16 * 1024
WINDOW_SECONDS = 15
"""Seconds over which the rate is measured: fewer than a request waits for a place, so that it gets a slow client's."""


class LeastRate:
    """A token bucket of seconds: full at first, filled by bytes, emptied by waiting for the client.

    It is empty when the client took less than ``bytes_per_second`` over ``window_seconds`` of
    waiting for it.
    """

    def __init__(self, bytes_per_second: float, window_seconds: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._window_seconds = self._credit_seconds = window_seconds
        self._sent_bytes = 0
        self._waited_seconds = 0.0

    def is_too_slow(self, sent_bytes: int, waited_seconds: float) -> bool:
        """Return whether the bucket is empty.

        Bytes taken and seconds waited, both since the beginning.
        """
        earned = (sent_bytes - self._sent_bytes) / self._bytes_per_second
        left = min(self._window_seconds, self._credit_seconds + earned) - (
            waited_seconds - self._waited_seconds
        )
        self._credit_seconds = max(left, -self._window_seconds)
        self._sent_bytes, self._waited_seconds = sent_bytes, waited_seconds
        return self._credit_seconds < 0


class ClientRate:
    """Measures how fast the client of a transfer takes it.

    The archive's and our own time does not count.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = LeastRate(LEAST_BYTES_PER_SECOND, WINDOW_SECONDS)
        self._writer: AbstractStreamWriter | None = None
        self._waited_seconds = 0.0
        self._since: float | None = None

    def wait_for(self, writer: AbstractStreamWriter | None) -> None:
        """Begin to wait for the client."""
        self._writer, self._since = writer, self._clock()

    def end(self) -> None:
        """The client has taken what there was."""
        if self._since is not None:
            self._waited_seconds += self._clock() - self._since
            self._since = None

    def is_too_slow(self) -> bool:
        """Return whether the client is waited for, and takes less than the least rate."""
        if self._writer is None or self._since is None or self._writer.transport is None:
            return False
        transport = self._writer.transport
        # Nor has the client what the kernel still keeps for it, which may be megabytes.
        kept = unsent_bytes(transport.get_extra_info("socket"))
        sent_bytes = max(0, self._writer.output_size - transport.get_write_buffer_size() - kept)
        return self._rate.is_too_slow(
            sent_bytes, self._waited_seconds + self._clock() - self._since
        )


async def send_whole(request: web.Request, response: web.StreamResponse, *, seconds: float) -> None:
    """Send an answer to its end.

    A client that does not take it within ``seconds`` loses its connection.
    """
    try:
        async with asyncio.timeout(seconds):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        log.info("an answer was not taken in time", extra={"reason": "client_too_slow"})
        abort_connection(request)
        raise ConnectionResetError("aborted") from None

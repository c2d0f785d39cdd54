"""Reset client connections, and keep them open until the kernel has sent what was written.

The kernel may still have megabytes for a slow client when a handler has ended. A pod's network goes
with its last process, and what was not sent goes with it: the client would wait for the rest of its
answer for ever. So the process ends when its last clients have received everything, or when its
time is over; then the rest of the connections are reset.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

from aiohttp import web

MAXIMUM_SOCKETS = 1_000
"""Connections that are kept at once: each is a descriptor."""
KEPT_SECONDS = 60
"""Time in seconds for which an answered connection is kept while the process goes on."""
_CHECK_SECONDS = 0.2
_CHECK_SECONDS_AT_THE_END = 0.02
_LINGER = struct.Struct("ii")
_RESET_ON_CLOSE = (1, 0)
"""Value of ``SO_LINGER`` with which closing the last descriptor sends a TCP RST."""
_COUNT = struct.Struct("i")


def abort_connection(request: web.Request) -> None:
    """Reset the client's connection (TCP RST), dropping what was not sent yet (SIA-43).

    A plain close would do for an answer with a length or in chunks; for an HTTP/1.0 client it is
    the regular end.
    """
    if request.transport is not None:
        reset(request.transport)


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection."""
    original = transport.get_extra_info("socket")
    if original is not None:
        # uvloop returns a stand-in for its socket. Ours shares its descriptor: it must not close
        # it, and a duplicate would need a descriptor, of which there may be none.
        with contextlib.suppress(OSError):
            own = socket.socket(fileno=original.fileno())
            try:
                _reset_on_close(own)
            finally:
                own.detach()
    transport.abort()


def unsent_bytes(own: socket.socket | None) -> int:
    """Return how many written bytes the peer has not acknowledged; 0 if that is unknown."""
    return _queued_bytes(own, termios.TIOCOUTQ)


def has_unread(transport: asyncio.Transport) -> bool:
    """Return whether the kernel has bytes of the client that were not read yet."""
    return _queued_bytes(transport.get_extra_info("socket"), termios.FIONREAD) > 0


def _queued_bytes(own: socket.socket | None, queue: int) -> int:
    if own is None:
        return 0
    try:
        count: int = _COUNT.unpack(fcntl.ioctl(own, queue, bytes(_COUNT.size)))[0]
    except (OSError, ValueError):  # ValueError: it is closed.
        return 0
    return count


def has_unsent(transport: asyncio.Transport) -> bool:
    """Return whether the client has not received all that was written."""
    return bool(
        transport.get_write_buffer_size() or unsent_bytes(transport.get_extra_info("socket"))
    )


class SendBufferTracker:
    """Keep the sockets of connections open until their clients have all that was written to them.

    A connection that is reset stays reset. One that is closed is shut down behind its last byte.
    """

    def __init__(self) -> None:
        self._sockets: list[_Socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._interval = _CHECK_SECONDS
        self._all_sent = asyncio.Event()

    def keep(self, transport: asyncio.Transport | None, *, is_answering: bool = False) -> None:
        """Keep a connection that will be closed or has just been, unless nothing is left to send.

        ``is_answering``: more may still be written to it.
        """
        if transport is None or len(self._sockets) >= MAXIMUM_SOCKETS:
            return
        kept = _duplicate(transport)
        if kept is None:
            return
        loop = asyncio.get_running_loop()
        if not is_answering:
            kept.until = loop.time() + KEPT_SECONDS
            kept.end()
            if not kept.has_unsent():
                kept.close()
                return
        self._sockets.append(kept)
        self._all_sent.clear()
        if self._timer is None:
            self._timer = loop.call_later(self._interval, self._check)

    def hurry(self) -> None:
        """Check more often: the end of the process waits for the last byte."""
        self._interval = _CHECK_SECONDS_AT_THE_END
        if self._timer is not None:
            self._timer.cancel()
            self._check()

    def _check(self) -> None:
        loop, kept = asyncio.get_running_loop(), []
        for own in self._sockets:
            if own.is_over() or loop.time() > own.until:
                own.close()
            else:
                kept.append(own)
        self._sockets = kept
        self._timer = loop.call_later(self._interval, self._check) if kept else None
        if not kept:
            self._all_sent.set()

    async def sent(self) -> None:
        """Wait until nothing is left. The caller bounds the wait."""
        if self._sockets:
            await self._all_sent.wait()

    def close(self) -> None:
        """Reset and release all sockets: no client may wait for bytes that do not come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for own in self._sockets:
            own.reset()
            own.close()
        self._sockets = []
        self._all_sent.set()


class _Socket:
    """A second descriptor of a connection's socket, kept at most ``until`` (event loop's clock)."""

    def __init__(self, transport: asyncio.Transport, own: socket.socket) -> None:
        self._transport = transport
        self._own = own
        self._is_ended = False
        self.until = float("inf")

    def has_unsent(self) -> bool:
        return bool(self._transport.get_write_buffer_size() or unsent_bytes(self._own))

    def end(self) -> None:
        """Shut down the sending side once all is written, as closing the last descriptor would."""
        if not self._is_ended and not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):
                self._own.shutdown(socket.SHUT_WR)
            self._is_ended = True

    def is_over(self) -> bool:
        """Return whether the connection is closed, and its client has everything or is gone."""
        if not self._transport.is_closing():
            return False
        try:
            linger = self._own.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
            if _LINGER.unpack(linger) == _RESET_ON_CLOSE:
                return True  # The reset happens when the last descriptor is closed.
            self.end()
            # After the peer's reset the kernel still counts what the peer never received.
            self._own.getpeername()
        except OSError:
            return True
        return not self.has_unsent()

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            _reset_on_close(self._own)
        self._transport.abort()

    def close(self) -> None:
        self._own.close()


def _duplicate(transport: asyncio.Transport) -> _Socket | None:
    original = transport.get_extra_info("socket")
    if original is None or transport.is_closing():
        return None
    try:
        return _Socket(transport, socket.socket(fileno=os.dup(original.fileno())))
    except OSError:  # No descriptor is left, or it is closed.
        return None


def _reset_on_close(own: socket.socket) -> None:
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(*_RESET_ON_CLOSE))

"""What the kernel still has to send when a handler has ended: some megabytes, to a slow client.

A pod's network goes with its last process, and with it whatever was not sent: the client would wait
for the rest of its answer for ever. So the process ends when its last clients have everything, or
its time is over; then they are told.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

from sidecar.web.connection_reset import RESET_ON_CLOSE

MOST = 1_000
"""Connections that are kept at once: each is a descriptor."""
KEPT_SECONDS = 60
"""How long one whose answer has ended is kept while the process goes on: from then on it is the kernel's alone."""
_LOOK_SECONDS = 0.2
_LOOK_SECONDS_AT_THE_END = 0.02
_LINGER = struct.Struct("ii")
_COUNT = struct.Struct("i")


class SendBufferTracker:
    """Keeps the sockets of connections open until their clients have all that was written to them.

    It looks after what becomes of each: one that is reset stays reset, one that is closed says so
    behind its last byte.
    """

    def __init__(self) -> None:
        self._left: list[_Socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._look_seconds = _LOOK_SECONDS
        self._all_sent = asyncio.Event()

    def keep(self, transport: asyncio.Transport | None, *, is_answering: bool = False) -> None:
        """Keep this one, which will be closed or has just been.

        If nothing is left to send and nothing comes, do not.

        ``is_answering``: something may still be written to it. Else what was written was the last.
        """
        if transport is None or len(self._left) >= MOST or (one := _duplicate(transport)) is None:
            return
        loop = asyncio.get_running_loop()
        if is_answering:
            one.until = float("inf")
        else:
            one.until = loop.time() + KEPT_SECONDS
            one.end()
            if not one.has_unsent():
                one.close()
                return
        self._left.append(one)
        self._all_sent.clear()
        if self._timer is None:
            self._timer = loop.call_later(self._look_seconds, self._look)

    def hurry(self) -> None:
        """Look more often: the end waits for it, and so do those whose connections it closes."""
        self._look_seconds = _LOOK_SECONDS_AT_THE_END
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        loop, kept = asyncio.get_running_loop(), []
        for one in self._left:
            if one.is_over() or loop.time() > one.until:
                one.close()
            else:
                kept.append(one)
        self._left = kept
        self._timer = loop.call_later(self._look_seconds, self._look) if kept else None
        if not kept:
            self._all_sent.set()

    async def sent(self) -> None:
        """Wait until nothing is left. Bounded by whoever waits."""
        if self._left:
            await self._all_sent.wait()

    def close(self, *, resets: bool) -> None:
        """Let go of all that is left.

        ``resets``: the process ends, and nobody may wait for what does not come.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for one in self._left:
            if resets:
                one.reset()
            one.close()
        self._left = []
        self._all_sent.set()


class _Socket:
    """One more descriptor of a connection's socket; ``until``: when it is let go at the latest."""

    def __init__(self, transport: asyncio.Transport, own: socket.socket) -> None:
        self._transport = transport
        self._own = own
        self._is_ended = False
        self.until = float("inf")

    def has_unsent(self) -> bool:
        return bool(self._transport.get_write_buffer_size() or unsent_bytes(self._own))

    def end(self) -> None:
        """Say that nothing follows, once all is written: as closing the last descriptor would."""
        if not self._is_ended and not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):
                self._own.shutdown(socket.SHUT_WR)
            self._is_ended = True

    def is_over(self) -> bool:
        """Whether the connection was closed, and its client has everything.

        Or there is nobody to have it.
        """
        if not self._transport.is_closing():
            return False
        try:
            if _LINGER.unpack(
                self._own.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
            ) == (1, 0):
                return True  # Reset, which happens when the last descriptor is closed.
            self.end()
            # Of a peer that has reset it the kernel still counts what it never had.
            self._own.getpeername()
        except OSError:
            return True
        return not self.has_unsent()

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self._own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def close(self) -> None:
        self._own.close()


def unsent_bytes(own: socket.socket | None) -> int:
    """How many bytes written to it the peer has not acknowledged.

    0 where the system does not say.
    """
    if own is None:
        return 0
    try:
        count: int = _COUNT.unpack(fcntl.ioctl(own, termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    except (OSError, ValueError):  # ValueError: it is closed.
        return 0
    return count


def _duplicate(transport: asyncio.Transport) -> _Socket | None:
    original = transport.get_extra_info("socket")
    if original is None or transport.is_closing():
        return None
    try:
        return _Socket(transport, socket.socket(fileno=os.dup(original.fileno())))
    except OSError:  # No descriptor is left, or it is closed.
        return None

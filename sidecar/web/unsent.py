"""What the kernel still has to send when a handler has ended: some megabytes, to a slow client.

A pod's network goes with its last process, and with it whatever was not sent: the client would wait for the rest of its
answer for ever. So the process ends when its last clients have everything, or its time is over.
"""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterable

_LOOK_SECONDS = 0.02
_LINGER = struct.Struct("ii")
_COUNT = struct.Struct("i")


class Unsent:
    """Keeps the sockets of these connections open until their clients have all that was written to them.

    It looks after what becomes of each: one that is reset stays reset, one that is closed says so behind its last byte.
    """

    def __init__(self, transports: Iterable[asyncio.Transport]) -> None:
        self._left = [one for one in map(_duplicate, transports) if one is not None]

    async def sent(self) -> None:
        """Wait until nothing is left. Bounded by whoever waits."""
        while self._left:
            await asyncio.sleep(_LOOK_SECONDS)
            for one in [one for one in self._left if one.is_over()]:
                self._left.remove(one)
                one.close()

    def close(self) -> None:
        """Let go of all that is left."""
        for one in self._left:
            one.close()
        self._left = []


class _Socket:
    """One more descriptor of a connection's socket."""

    def __init__(self, transport: asyncio.Transport, own: socket.socket) -> None:
        self._transport = transport
        self._own = own
        self._is_ended = False

    def is_over(self) -> bool:
        """Whether the connection was closed, and its client has everything; or there is nobody to have it."""
        if not self._transport.is_closing():
            return False
        try:
            if _LINGER.unpack(self._own.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)) == (1, 0):
                return True  # Reset, which happens when the last descriptor is closed.
            if self._transport.get_write_buffer_size():
                return False
            if not self._is_ended:  # As closing the last descriptor would.
                self._own.shutdown(socket.SHUT_WR)
                self._is_ended = True
            self._own.getpeername()  # Of a peer that has reset it the kernel still counts what it never had.
            return unsent_bytes(self._own) == 0
        except OSError:
            return True

    def close(self) -> None:
        self._own.close()


def unsent_bytes(own: socket.socket) -> int:
    """How many bytes written to it the peer has not acknowledged; 0 where the system does not say."""
    try:
        count: int = _COUNT.unpack(fcntl.ioctl(own, termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    except OSError:
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

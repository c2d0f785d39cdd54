"""Read the rest of a long body with a Content-Length from the connection's socket.

aiohttp itself copies each byte twice, in pieces of 256 KB, which costs more than all checks of a
study. TLS and chunked bodies keep to that way: the socket's bytes are not those of the body.
"""

import asyncio
import socket

import aiohttp
from aiohttp import hdrs

PIECE_BYTES = 2**20
"""Limit in bytes of one read. Longer pieces leave the processor's cache before they are sent."""
LONG_BYTES = 2 * PIECE_BYTES
"""Least rest in bytes that is worth its connection, which serves no other request afterwards."""


class SocketBody:
    """The last ``left`` bytes of a body, from ``own``, a duplicate of the connection's socket.

    The caller closes it.
    """

    def __init__(self, own: socket.socket, left: int) -> None:
        self._own = own
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._is_watched = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Return the next bytes, as many as are there; none at the end.

        Other requests have their turn first. Raises ``aiohttp.ClientPayloadError`` when the peer
        ends the connection before the body ends, ``OSError`` when it breaks off.
        """
        if not self._left:
            return b""
        most = min(self._left, PIECE_BYTES)
        await asyncio.sleep(0)
        while True:
            try:
                data = self._own.recv(most)
                break
            except BlockingIOError:
                await self._wait()
        if not data:
            raise aiohttp.ClientPayloadError("the body is shorter than its Content-Length")
        self._left -= len(data)
        return data

    async def _wait(self) -> None:
        """Wait for bytes. The socket stays watched: to begin and end that each time costs more."""
        self._waiter = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._own.fileno(), self._readable)
            self._is_watched = True
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _readable(self) -> None:
        # Nobody reads, since the client is slow: this would be called again and again.
        if self._waiter is None:
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._own.fileno())
            self._is_watched = False

    def close(self) -> None:
        """Close the socket."""
        self._unwatch()
        self._own.close()


def take_over(response: aiohttp.ClientResponse) -> tuple[bytes, SocketBody] | None:
    """Return the bytes that have come, and the rest of the body, where that is worth it.

    Afterwards nothing comes by ``response.content``. The caller closes the rest and the response.
    Raises ``aiohttp.ClientError`` or ``OSError`` when the body has broken off already.
    """
    connection, content, length = response.connection, response.content, response.content_length
    transport = None if connection is None else connection.transport
    if (
        transport is None
        or transport.is_closing()
        or transport.get_extra_info("sslcontext")
        or content.is_eof()
    ):
        return None
    if (
        length is None
        or hdrs.TRANSFER_ENCODING in response.headers
        or length - content.total_bytes < LONG_BYTES
    ):
        return None
    own = _duplicate(transport.get_extra_info("socket"))
    if own is None:
        return None
    try:
        # No await here: nothing may come to the content before the pause.
        came = b"".join(iter(content.read_nowait, b""))
        transport.pause_reading()
    except BaseException:
        own.close()
        raise
    return came, SocketBody(own, length - content.total_bytes)


def _duplicate(theirs: socket.socket | None) -> socket.socket | None:
    """Return a second socket of a connection, ``None`` when no descriptor is left."""
    if theirs is None:
        return None
    try:
        own = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
    except OSError:
        return None
    own.setblocking(False)
    return own

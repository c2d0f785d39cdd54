"""The rest of a long body whose length is known, read from the connection's socket in long pieces.

On its usual way aiohttp copies each byte twice, in pieces of 256 KB, which costs more than all that
is looked at in a study. What comes by TLS, or in chunks, keeps to that way: the socket's bytes are
not those of the body.
"""

import asyncio
import socket

import aiohttp
from aiohttp import hdrs

PIECE_BYTES = 2**20
"""Most that is read at once: longer ones leave the processor's cache between their arrival and their leaving."""
LONG_BYTES = 2 * PIECE_BYTES
"""A shorter rest is not worth its connection, which serves no other request afterwards."""


class SocketBody:
    """The ``left`` bytes that a body still has, from a socket of our own on its connection.

    To be closed.
    """

    def __init__(self, own: socket.socket, left: int) -> None:
        self._own = own
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._is_watched = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Return the next bytes, as many as are there; none at the end.

        Others have their turn in between.

        Raises ``aiohttp.ClientPayloadError`` when the peer ends before the body does, ``OSError``
        when it breaks off.
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
        """Until something is there.

        The socket stays watched: to begin and end that for each piece costs more.
        """
        self._waiter = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._own.fileno(), self._something_came)
            self._is_watched = True
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _something_came(self) -> None:
        # Nobody reads, since the client is slow; this would be called again at once.
        if self._waiter is None:
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._own.fileno())
            self._is_watched = False

    def close(self) -> None:
        """Close the socket: nobody reads that connection any more."""
        self._unwatch()
        self._own.close()


def take_over(response: aiohttp.ClientResponse) -> tuple[bytes, SocketBody] | None:
    """Return what of the body has come and the rest, from its socket, when that is possible and worth it.

    From then on nothing comes by ``response.content``; whoever takes the rest closes it, and the
    response. Raises ``aiohttp.ClientError`` or ``OSError`` when the body has broken off already.
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
    own = _another(transport.get_extra_info("socket"))
    if own is None:
        return None
    try:
        # Without awaiting, so that nothing comes to the content between the last look at it and the
        # pause.
        came = b"".join(iter(content.read_nowait, b""))
        transport.pause_reading()
    except BaseException:
        own.close()
        raise
    return came, SocketBody(own, length - content.total_bytes)


def _another(theirs: socket.socket | None) -> socket.socket | None:
    """A socket on the same connection.

    None when no descriptor is left: the usual way needs none.
    """
    if theirs is None:
        return None
    try:
        own = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
    except OSError:
        return None
    own.setblocking(False)
    return own

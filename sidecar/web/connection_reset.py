"""Ending a client's connection so that nobody can take it for the end of the answer."""

import asyncio
import contextlib
import socket
import struct

from aiohttp import web

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def abort_connection(request: web.Request) -> None:
    """Reset the client's connection (TCP RST), dropping what was not sent yet (SIA-43).

    A plain close would do for an answer with a length or in chunks; for an HTTP/1.0 client it is
    the regular end.
    """
    if request.transport is not None:
        reset(request.transport)


def reset(transport: asyncio.Transport) -> None:
    """Reset this connection."""
    original = transport.get_extra_info("socket")
    if original is not None:
        # uvloop hands out a stand-in for its socket. This one has the same descriptor: it must not
        # close it, and needs no other, of which there may be none.
        with contextlib.suppress(OSError):
            own = socket.socket(fileno=original.fileno())
            try:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            finally:
                own.detach()
    transport.abort()

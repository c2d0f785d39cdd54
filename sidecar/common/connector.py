"""Connections to our peers, which serve another request only when no unread bytes are on them."""

import select
from typing import Any

import aiohttp
from aiohttp import hdrs


class CleanConnector(aiohttp.TCPConnector):
    """``aiohttp.TCPConnector`` that closes a kept connection with bytes on it.

    A server may send more than the length of its response, or two responses. The rest would be
    taken for the response to the next request, which may be another patient's (CWE-444). Bytes that
    come after the next request cannot be recognised.
    """

    async def connect(self, *arguments: Any, **more: Any) -> aiohttp.connector.Connection:
        """Return a connection without unread bytes, as ``aiohttp.TCPConnector.connect`` does."""
        while True:
            connection = await super().connect(*arguments, **more)
            if _is_quiet(connection):
                return connection
            connection.close()


class CleanResponse(aiohttp.ClientResponse):
    """``aiohttp.ClientResponse`` that closes the connection after a response that has no body.

    Some servers send a body to HEAD, or behind 204 and 304, too. It may come after the next
    request, and be taken for its response.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Read the head of the response, as ``aiohttp.ClientResponse.start`` does."""
        # Afterwards the connection may have been given back.
        protocol = connection.protocol
        response = await super().start(connection)
        if protocol is not None and (self.method == hdrs.METH_HEAD or self.status in (204, 304)):
            protocol.force_close()
        return response


def _is_quiet(connection: aiohttp.connector.Connection) -> bool:
    protocol, transport = connection.protocol, connection.transport
    if (
        protocol is None
        or transport is None
        or protocol.should_close
        or _has_begun_another(protocol)
    ):
        return False
    # TLS sends records of its own (tickets); HTTP inside of it is checked above.
    if transport.get_extra_info("sslcontext"):
        return True
    socket = transport.get_extra_info("socket")
    if socket is None:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return not poll.poll(0)  # Readable: bytes, or the end of a closed connection.


def _has_begun_another(protocol: Any) -> bool:
    """Return whether the parser of the last response got more than that response.

    A whole second response shows in ``should_close``. A part of one is only in the parser, which
    the next request drops.
    """
    parser = getattr(protocol, "_parser", None)
    if parser is None:  # No response has come on it yet.
        return False
    if getattr(parser, "_tail", b"") or getattr(parser, "_lines", ()):  # aiohttp's parser in Python
        return True
    try:
        return parser.feed_eof() is not None
    except Exception:  # A malformed part is a part, too.
        return True

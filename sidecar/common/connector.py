"""Our peers' connections, kept for the next request unless something came on them that nobody had asked for."""

import select
from typing import Any

import aiohttp
from aiohttp import hdrs


class CleanConnector(aiohttp.TCPConnector):
    """``aiohttp.TCPConnector``, but a kept connection with bytes on it is closed.

    A server that sends more than its answer's length, or two answers, would have the rest taken for
    the answer to the next request, which may be another patient's (CWE-444). What comes even later
    cannot be told from an answer.
    """

    async def connect(self, *arguments: Any, **more: Any) -> aiohttp.connector.Connection:
        """Return one that is quiet; as ``aiohttp.TCPConnector.connect``."""
        while True:
            connection = await super().connect(*arguments, **more)
            if _is_quiet(connection):
                return connection
            connection.close()


class CleanResponse(aiohttp.ClientResponse):
    """``aiohttp.ClientResponse``, but a connection with an answer to HEAD serves no further request.

    Some servers send the body of a GET to HEAD as well. It may come after the next request, and be
    taken for its answer.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Read the head of the answer; as ``aiohttp.ClientResponse.start``."""
        if self.method == hdrs.METH_HEAD and connection.protocol is not None:
            connection.protocol.force_close()
        return await super().start(connection)


def _is_quiet(connection: aiohttp.connector.Connection) -> bool:
    protocol, transport = connection.protocol, connection.transport
    if (
        protocol is None
        or transport is None
        or protocol.should_close
        or _has_begun_another(protocol)
    ):
        return False
    # TLS itself may say something (tickets); what it says of HTTP is above.
    if transport.get_extra_info("sslcontext"):
        return True
    theirs = transport.get_extra_info("socket")
    if theirs is None:
        return True
    look = select.poll()
    look.register(theirs.fileno(), select.POLLIN)
    return not look.poll(0)  # Bytes, or its end: a peer that has closed it.


def _has_begun_another(protocol: Any) -> bool:
    """Return whether the parser of the last answer was given more than that answer.

    A whole second answer shows in ``should_close``. Half of one is in the parser alone, which the
    next request drops.
    """
    parser = getattr(protocol, "_parser", None)
    if parser is None:  # No answer has come on it yet.
        return False
    if getattr(parser, "_tail", b"") or getattr(parser, "_lines", ()):  # aiohttp's parser in Python
        return True
    try:
        return parser.feed_eof() is not None
    except Exception:  # Whatever is wrong with that half: it is there.
        return True

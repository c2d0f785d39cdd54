"""Limit the open connections of a listener: close an idle one for a new one, or refuse that."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from aiohttp.web_protocol import RequestHandler

from sidecar.fhir.outcome import operation_outcome
from sidecar.web.errors import json_response
from sidecar.web.send_buffers import reset

RETRY_AFTER_SECONDS = 5
_LINGERING_SECONDS = 1
"""Time in seconds for which a refused connection stays. Closed with a request unread, it would be
reset and its answer lost."""
_MOST_LINGERING = 100
"""Refused connections that stay at once, as each is a descriptor. More are closed at once."""


class OpenConnections:
    """Count the open client connections, the oldest first, and those that are idle.

    A connection is idle until a request's head has come whole, and after its answer. A listener
    that takes over the sockets of another one shares this with it, so that both are counted.
    """

    def __init__(self) -> None:
        self._all: OrderedDict[RequestHandler, None] = OrderedDict()
        # The connection that is idle longest comes first.
        self._idle: OrderedDict[RequestHandler, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: RequestHandler) -> None:
        """Count a new connection, which is idle."""
        self._all[connection] = self._idle[connection] = None

    def begin(self, connection: RequestHandler) -> None:
        """Record that the head of a request has come whole."""
        self._idle.pop(connection, None)

    def end(self, connection: RequestHandler) -> None:
        """Record that the request is answered."""
        if connection in self._all:
            self._idle[connection] = None

    def remove(self, connection: RequestHandler) -> None:
        """Stop counting a connection."""
        self.begin(connection)
        self._all.pop(connection, None)

    def close_idle(self) -> bool:
        """Close the connection that is idle longest. Return whether there was an idle one.

        A connection that has just been accepted is the last in turn: its request is on the way. One
        whose client has not been sent the whole answer yet is closed only where there is no other.
        """
        sent = (connection for connection in self._idle if not _has_unsent(connection))
        return self._close(next(sent, next(iter(self._idle), None)))

    def close_oldest(self) -> None:
        """Close the oldest connection, whatever it does."""
        self._close(next(iter(self._all), None))

    def _close(self, connection: RequestHandler | None) -> bool:
        if connection is None:
            return False
        self.remove(connection)
        if connection.transport is not None:
            if _has_unsent(connection):
                reset(connection.transport)  # Part of an answer must not look whole.
            else:
                connection.transport.abort()
        return True


def _has_unsent(connection: RequestHandler) -> bool:
    return connection.transport is not None and connection.transport.get_write_buffer_size() > 0


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """Limit a listener to ``most`` open connections. For a further one an idle one is closed.

    ``beyond``: what happens where none is idle: ``refuse`` the further one with 503, or
    ``close_oldest`` for it. The latter is for probes and scrapes, which must be answered whoever
    holds connections. ``observe_refused`` and ``observe_closed`` are called for each connection
    that is refused, or closed for another.
    """

    most: int
    beyond: Literal["refuse", "close_oldest"] = "refuse"
    observe_refused: Callable[[], None] = lambda: None
    observe_closed: Callable[[], None] = lambda: None


DEFAULT_LIMIT = ConnectionLimit(2_000)
ADMIN_LIMIT = ConnectionLimit(100, "close_oldest")
"""For /healthz, /readyz and /metrics, whose clients hold no connection for long."""


def _refusal() -> bytes:
    text = "The server has too many connections; try again."
    body = cast("bytes", json_response(operation_outcome("transient", text)).body)
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/fhir+json; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Retry-After: {RETRY_AFTER_SECONDS}",
        "Connection: close",
        "Cache-Control: no-store",
        "Server: smart-imaging-sidecar",
        "",
        "",
    )
    return "\r\n".join(head).encode() + body


_REFUSAL = _refusal()


def refuse(transport: asyncio.Transport, lingering: "set[RefusedConnection]") -> None:
    """Answer a new connection with 503 before it is asked, and close it.

    It joins ``lingering`` until its client has sent something, or the time is over.
    """
    transport.write(_REFUSAL)
    if len(lingering) >= _MOST_LINGERING:
        transport.close()
        return
    try:
        transport.write_eof()
    except OSError:  # The client has gone already.
        transport.close()
        return
    transport.set_protocol(RefusedConnection(transport, lingering))


class RefusedConnection(asyncio.Protocol):
    """A connection that has its answer. What it sends is dropped."""

    def __init__(self, transport: asyncio.Transport, lingering: "set[RefusedConnection]") -> None:
        self._transport = transport
        self._lingering = lingering
        self._lingering.add(self)
        self._timer = asyncio.get_running_loop().call_later(_LINGERING_SECONDS, self.close)

    def close(self) -> None:
        """Close it, and leave ``lingering``."""
        self._timer.cancel()
        self._lingering.discard(self)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Close it: the client has its answer."""
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave ``lingering``."""
        self.close()

"""What becomes of a connection beyond the most that a listener keeps: an idle one's place, or one short answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from sidecar.fhir.outcome import operation_outcome
from sidecar.web.errors import json_response
from sidecar.web.open_connections import OpenConnections

RETRY_AFTER_SECONDS = 5
_LINGERING_SECONDS = 1
"""How long a refused connection stays: closed with a request unread, it would be reset and its answer lost."""
_MOST_LINGERING = 100
"""Refused connections that stay at once. Each is a descriptor; more are closed at once."""


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """At most ``most`` open connections of a listener. For a further one an idle one is closed.

    ``beyond``: what is done where none is idle: ``refuse`` the further one with 503, or
    ``close_oldest`` for it, which is for probes and scrapes. They must be answered whoever holds
    connections. ``observe_refused`` and ``observe_closed`` are called for each one that is refused,
    and for each one that is closed for another. ``connections``: those that count, where other
    listeners share them.
    """

    most: int
    beyond: Literal["refuse", "close_oldest"] = "refuse"
    observe_refused: Callable[[], None] = lambda: None
    observe_closed: Callable[[], None] = lambda: None
    connections: OpenConnections | None = None


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


class RefusedConnections:
    """Answers connections without reading a request, and closes them."""

    def __init__(self) -> None:
        self._lingering: set[_RefusedConnection] = set()

    def add(self, transport: asyncio.Transport) -> None:
        """Write the answer to a new connection, and close it when its client has sent something or time is over."""
        transport.write(_REFUSAL)
        if len(self._lingering) >= _MOST_LINGERING:
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # The client has gone already.
            transport.close()
            return
        transport.set_protocol(_RefusedConnection(transport, self._lingering))

    def close(self) -> None:
        """Close those that are still open."""
        for one in list(self._lingering):
            one.close()


class _RefusedConnection(asyncio.Protocol):
    """One that has its answer. What it sends is dropped."""

    def __init__(self, transport: asyncio.Transport, lingering: "set[_RefusedConnection]") -> None:
        self._transport = transport
        self._lingering = lingering
        self._lingering.add(self)
        self._timer = asyncio.get_running_loop().call_later(_LINGERING_SECONDS, self.close)

    def close(self) -> None:
        self._timer.cancel()
        self._lingering.discard(self)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

"""The open client connections of a listener: how many there are, and which of them is idle."""

import asyncio
from collections import OrderedDict
from typing import Protocol

from sidecar.web.connection_reset import reset


class Connection(Protocol):
    """A client connection."""

    transport: asyncio.Transport | None

    def __hash__(self) -> int:
        """Return what tells it from others."""


class OpenConnections:
    """Open connections, the oldest first.

    Each waits for a request's head, or a request of it is being answered.

    A listener that takes over the sockets of another one shares this with it, so that both are
    counted.
    """

    def __init__(self) -> None:
        self._all: OrderedDict[Connection, None] = OrderedDict()
        # The one that is idle longest first.
        self._idle: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Count a new connection, which is idle."""
        self._all[connection] = self._idle[connection] = None

    def begin(self, connection: Connection) -> None:
        """Take note that the head of a request has come whole."""
        self._idle.pop(connection, None)

    def end(self, connection: Connection) -> None:
        """Take note that the request is answered."""
        if connection in self._all:
            self._idle[connection] = None

    def remove(self, connection: Connection) -> None:
        """Count it no more."""
        self.begin(connection)
        self._all.pop(connection, None)

    def close_idle(self) -> bool:
        """Close the connection that is idle longest. Return whether there was an idle one.

        One that has just been accepted is the last in turn: its request is on the way. One whose
        client is slow, and has not been sent the whole answer yet, is closed only where there is no
        other.
        """
        return self._close(
            next((one for one in self._idle if not _has_unsent(one)), next(iter(self._idle), None))
        )

    def close_oldest(self) -> None:
        """Close the oldest connection, whatever it does."""
        self._close(next(iter(self._all), None))

    def _close(self, connection: Connection | None) -> bool:
        if connection is None:
            return False
        self.remove(connection)
        transport = connection.transport
        if transport is not None and _has_unsent(connection):
            reset(transport)  # Part of an answer must not look whole.
        elif transport is not None:
            transport.abort()
        return True


def _has_unsent(connection: Connection) -> bool:
    return connection.transport is not None and connection.transport.get_write_buffer_size() > 0

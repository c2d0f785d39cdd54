"""Run an application on our connections, and end them one by one when the process ends."""

import asyncio
from typing import Any

from aiohttp import web

from sidecar.web.connection import (
    BASE_PATH,
    CORS,
    ClientConnection,
    ConnectionServer,
    CorsHeaders,
    Observe,
)
from sidecar.web.connection_limit import ConnectionLimit
from sidecar.web.send_buffers import SendBufferTracker, has_unread, has_unsent, reset


class ConnectionRunner(web.AppRunner):
    """Run an application. ``keywords``: further ones of aiohttp's ``RequestHandler``."""

    def __init__(
        self,
        app: web.Application,
        *,
        observe: Observe,
        limit: ConnectionLimit,
        **keywords: Any,
    ) -> None:
        # A client that leaves cancels its handler, which frees the PACS.
        super().__init__(app, handler_cancellation=True, shutdown_timeout=0)
        self._observe = observe
        self._limit = limit
        self._connection_keywords = keywords

    def close_after_answers(self) -> None:
        """Let each connection's next answer be its last, and say so (RFC 9112 9.6).

        A client that does not know would send its next request on a connection that closes.
        """
        if isinstance(self.server, ConnectionServer):
            self.server.is_closing = True
        for connection, _ in self._connections():
            connection.close_after_answer()

    def has_idle(self) -> bool:
        """Return whether there is a connection on which a client may send a request."""
        return any(connection.is_idle for connection, _ in self._connections())

    def close_idle(self) -> bool:
        """Close each connection on which no request is on its way.

        One is on its way on a new connection, and where bytes of the client wait to be read.
        Return whether there is such a connection. One whose client has not received all of an
        answer stays, too.
        """
        is_expecting = False
        if not isinstance(self.server, ConnectionServer):
            return is_expecting
        for connection, transport in self._connections():
            if not connection.is_idle:
                continue
            if connection.is_new or has_unread(transport):
                is_expecting = True
            elif not has_unsent(transport):
                self.server.unsent.keep(transport)  # Its client sees the end at once.
                connection.force_close()
        return is_expecting

    def keep_unsent(self) -> SendBufferTracker:
        """Keep the connections whose clients have not received all of their answers yet."""
        if not isinstance(self.server, ConnectionServer):  # It never started.
            return SendBufferTracker()
        self.server.unsent.hurry()
        for connection, transport in self._connections():
            if connection.is_answering or has_unsent(transport):
                self.server.unsent.keep(transport, is_answering=True)
        return self.server.unsent

    def reset_unfinished(self) -> None:
        """Reset each connection that is being answered."""
        for connection, transport in self._connections():
            if connection.is_answering:
                reset(transport)

    def limit_shutdown(self, seconds: float) -> None:
        """Set how long ``cleanup`` waits for handlers to end."""
        self._shutdown_timeout = seconds

    def _connections(self) -> list[tuple[ClientConnection, asyncio.Transport]]:
        connections = () if self.server is None else self.server.connections
        return [
            (connection, connection.transport)
            for connection in connections
            if isinstance(connection, ClientConnection) and connection.transport is not None
        ]

    async def _make_server(self) -> web.Server:
        cors: CorsHeaders = self.app.get(CORS, lambda origin: {})
        application = await super()._make_server()
        return ConnectionServer(
            application,
            self._observe,
            self._limit,
            cors,
            self.app.get(BASE_PATH, ""),
            **self._connection_keywords,
        )

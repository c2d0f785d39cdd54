"""What aiohttp itself answers before any handler runs (bytes that are not HTTP, too long, …), said in our own words.

Its own texts quote the request, a token in it included, and name the library.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from sidecar.web import framing
from sidecar.web.connection_limit import ConnectionLimit, RefusedConnections
from sidecar.web.connection_reset import reset
from sidecar.web.errors import malformed, unexpected_body
from sidecar.web.open_connections import OpenConnections
from sidecar.web.send_buffers import SendBufferTracker, unsent_bytes

log = logging.getLogger("sidecar.request")

CORS: web.AppKey[Callable[[str | None], Mapping[str, str]]] = web.AppKey("cors")
"""Returns the CORS headers of an answer to a request with this Origin (``None``: it could not be read)."""

Observe = Callable[[int], None]
"""Is told the status of each request that was not even HTTP."""


class _Connection(RequestHandler):
    """One client connection. ``connections``: those among which it counts."""

    __slots__ = ("_admit", "_cors", "_is_ending", "_observe", "_open", "_unsent")

    def __init__(
        self,
        *arguments: Any,
        observe: Observe,
        unsent: SendBufferTracker,
        connections: OpenConnections,
        admit: Callable[[asyncio.Transport], bool],
        cors: Callable[[str | None], Mapping[str, str]],
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._cors = cors
        self._observe = observe
        self._unsent = unsent
        self._open = connections
        self._admit = admit
        self._is_ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read requests, unless there are too many connections: then another protocol has it."""
        if self._admit(cast("asyncio.Transport", transport)):
            self._open.add(self)
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another one."""
        self._open.remove(self)
        super().connection_lost(exc)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        self._open.begin(self)
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self._open.end(self)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Give the handler so long, twice; then the connection is closed."""
        self._is_ending = True
        await super().shutdown(timeout)

    def force_close(self) -> None:
        """Close it; an answer that has not come to its end is reset, as a close would be that end for HTTP/1.0."""
        if self._is_ending and self.is_answering and self.transport is not None:
            reset(self.transport)
        super().force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the rest of an answer.

        With the last one of a connection, look after what the kernel still has of it.
        """
        sent, is_broken = await super().finish_response(request, resp, start_time)
        if not is_broken and not sent.keep_alive:
            self._unsent.keep(self.transport)
        return sent, is_broken

    def eof_received(self) -> None:
        """The client sends nothing more, and so the connection is closed behind what was written."""
        self._unsent.keep(self.transport)
        super().eof_received()

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._current_request is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer without a word of the request; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, LineTooLong):
            status = 414 if bytes(exc.args[0][:1]) == b"/" else 431
        return _refused(malformed(status), self._observe, "malformed", self._cors(None))


def _refused(
    response: web.Response, observe: Observe, reason: str, cors: Mapping[str, str]
) -> web.Response:
    """Count and log a request that no application gets to see.

    Return its answer, which is the connection's last.
    """
    observe(response.status)
    response.headers.update(cors)
    response.headers["X-Request-Id"] = request_id = secrets.token_hex(8)
    fields = {
        "request_id": request_id,
        "route": "malformed",
        "method": "other",
        "status": response.status,
    }
    log.info("request", extra={**fields, "reason": reason})
    response.force_close()
    return response


class _Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    def __init__(
        self,
        server: web.Server,
        observe: Observe,
        limit: ConnectionLimit,
        cors: Callable[[str | None], Mapping[str, str]],
        **keywords: Any,
    ) -> None:
        super().__init__(
            self._handle,
            request_factory=self._make_request,
            handler_cancellation=server.handler_cancellation,
            **keywords,
        )
        self._application = server
        self._observe = observe
        self._limit = limit
        self._cors = cors
        self._open = OpenConnections() if limit.connections is None else limit.connections
        self._refused = RefusedConnections()
        self.unsent = SendBufferTracker()

    def _admit(self, transport: asyncio.Transport) -> bool:
        """Return whether a new connection is served. If not, it has its answer already."""
        if len(self._open) < self._limit.most:
            return True
        if not self._open.close_idle():
            if self._limit.beyond == "refuse":
                self._limit.observe_refused()
                self._refused.add(transport)
                return False
            self._open.close_oldest()
        self._limit.observe_closed()
        return True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """End all connections, refused ones too."""
        self._refused.close()
        await super().shutdown(timeout)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if framing.is_last(message):
            message = message._replace(should_close=True)
        return self._application.request_factory(message, payload, protocol, writer, task)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request whose body or expectation is refused.

        The application gets every other one.
        """
        cors = self._cors(request.headers.get(hdrs.ORIGIN))
        if framing.is_refused(request.method, request.version, request.headers):
            is_coded = framing.is_coded(request.version, request.headers)
            return _refused(
                unexpected_body(is_coded=is_coded), self._observe, "unexpected_body", cors
            )
        # aiohttp would quote it (RFC 9110 10.1.1).
        if any(one.lower() != "100-continue" for one in request.headers.getall(hdrs.EXPECT, ())):
            return _refused(malformed(417), self._observe, "expectation", cors)
        return await self._application.request_handler(request)

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=self._loop,
            observe=self._observe,
            unsent=self.unsent,
            connections=self._open,
            admit=self._admit,
            cors=self._cors,
            **self._kwargs,
        )


class ConnectionRunner(web.AppRunner):
    """Runs an application on such connections.

    ``keywords`` are those of aiohttp's ``RequestHandler``.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        observe: Observe,
        limit: ConnectionLimit,
        shutdown_timeout: float,
        **keywords: Any,
    ) -> None:
        # A client that leaves cancels its handler: the PACS is freed at once.
        super().__init__(
            app, handle_signals=False, handler_cancellation=True, shutdown_timeout=shutdown_timeout
        )
        self._observe = observe
        self._limit = limit
        self._connection_keywords = keywords

    def keep_unsent(self) -> SendBufferTracker:
        """Keep the connections whose clients have not everything yet: those being answered, or answered just now."""
        if not isinstance(self.server, _Server):  # It never started.
            return SendBufferTracker()
        self.server.unsent.hurry()
        for one in self.server.connections:
            if _has_more(one):
                self.server.unsent.keep(one.transport, is_answering=True)
        return self.server.unsent

    def cut(self) -> None:
        """Reset each connection that is being answered."""
        for one in () if self.server is None else self.server.connections:
            if isinstance(one, _Connection) and one.is_answering and one.transport is not None:
                reset(one.transport)

    def give(self, seconds: float) -> None:
        """How long ``cleanup`` waits for handlers to end."""
        self._shutdown_timeout = seconds

    async def _make_server(self) -> web.Server:
        cors: Callable[[str | None], Mapping[str, str]] = self.app.get(CORS, lambda origin: {})
        return _Server(
            await super()._make_server(),
            self._observe,
            self._limit,
            cors,
            **self._connection_keywords,
        )


def _has_more(one: RequestHandler) -> bool:
    """Whether its client has not everything."""
    if not isinstance(one, _Connection) or one.transport is None:
        return False
    own = one.transport.get_extra_info("socket")
    return one.is_answering or bool(
        one.transport.get_write_buffer_size() or (own is not None and unsent_bytes(own))
    )

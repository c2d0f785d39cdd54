"""Serve client connections with aiohttp, with our own answers to what no handler sees.

These are bytes that are not HTTP, too long heads, unexpected bodies. aiohttp's own texts quote the
request, which may have a token in it, and name the library.

aiohttp's compiled parser takes the last trailer field of a chunked request for the first header
field of the next request on that connection, which a proxy may share between several clients. So
some bodies are refused, and nothing follows some requests (RFC 9112 6 and 11.2, CWE-444).
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import HttpVersion, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from sidecar.telemetry.logs import log_request
from sidecar.web.connection_limit import (
    ConnectionLimit,
    OpenConnections,
    RefusedConnection,
    refuse,
)
from sidecar.web.errors import malformed, unexpected_body
from sidecar.web.send_buffers import SendBufferTracker, reset
from sidecar.web.target import without_base_path

CorsHeaders = Callable[[str | None], Mapping[str, str]]
CORS: web.AppKey[CorsHeaders] = web.AppKey("cors")
"""Returns the CORS headers of an answer to this Origin (``None``: the request has none that could
be read)."""

BASE_PATH: web.AppKey[str] = web.AppKey("base_path", str)
"""The path of our public URL, below which requests may come (decision 0058)."""

Observe = Callable[[int], None]
"""Takes the HTTP status of each answer to a request that no application sees."""
MAXIMUM_HEADER_BYTES = 8_190
"""Limit in bytes of the value of a header, which the parser of HTTP holds."""
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""No content is defined for the others (RFC 9110 9.3)."""


class ClientConnection(RequestHandler):
    """One client connection of ``server``, counted among its open ones."""

    __slots__ = ("_is_ending", "_server", "is_new")

    def __init__(self, server: "ConnectionServer", **keywords: Any) -> None:
        super().__init__(server, **keywords)
        self._server = server
        self._is_ending = False
        self.is_new = True
        """Whether no request has come yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read requests, unless there are too many connections and this one is refused."""
        if self._server.admits(cast("asyncio.Transport", transport)):
            self._server.open_connections.add(self)
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        self._server.open_connections.remove(self)
        super().connection_lost(exc)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        self.is_new = False
        self._server.open_connections.begin(self)
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self._server.open_connections.end(self)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Give the handler ``timeout`` seconds, twice; then close the connection."""
        self._is_ending = True
        await super().shutdown(timeout)

    def force_close(self) -> None:
        """Close the connection. Reset it within an answer, whose end a close is for HTTP/1.0."""
        if self._is_ending and self.is_answering and self.transport is not None:
            reset(self.transport)
        super().force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the rest of an answer. After a connection's last one, keep it until all is sent."""
        sent, is_broken = await super().finish_response(request, resp, start_time)
        if not is_broken and not sent.keep_alive:
            self._server.unsent.keep(self.transport)
        return sent, is_broken

    def eof_received(self) -> None:
        """Keep the connection until all is sent: its client sends nothing more, so it is closed."""
        self._server.unsent.keep(self.transport)
        super().eof_received()

    def close_after_answer(self) -> None:
        """Have an answer whose head is not sent yet say that it is the connection's last."""
        if (request := self._current_request) is not None:
            request._message = request._message._replace(should_close=True)  # noqa: SLF001

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._current_request is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for the head of a request."""
        return self._waiter is not None and not self._waiter.done()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return an answer that quotes nothing of the request; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, LineTooLong):
            status = 414 if bytes(exc.args[0][:1]) == b"/" else 431
        return self._server.refused(malformed(status), "malformed", None)


class ConnectionServer(web.Server):
    """Make our connections instead of aiohttp's, and pass their requests to the application."""

    def __init__(
        self,
        application: web.Server,
        observe: Observe,
        limit: ConnectionLimit,
        cors: CorsHeaders,
        base_path: str,
        **keywords: Any,
    ) -> None:
        super().__init__(
            self._handle,
            request_factory=self._make_request,
            handler_cancellation=application.handler_cancellation,
            max_field_size=MAXIMUM_HEADER_BYTES,
            **keywords,
        )
        self._application = application
        self._observe = observe
        self._limit = limit
        self._cors = cors
        self._base_path = base_path
        self._lingering: set[RefusedConnection] = set()
        self.open_connections = OpenConnections()
        self.unsent = SendBufferTracker()
        self.is_closing = False

    def admits(self, transport: asyncio.Transport) -> bool:
        """Return whether a new connection is served. If not, it has its answer already."""
        if len(self.open_connections) < self._limit.most:
            return True
        if not self.open_connections.close_idle():
            if self._limit.beyond == "refuse":
                self._limit.observe_refused()
                refuse(transport, self._lingering)
                return False
            self.open_connections.close_oldest()
        self._limit.observe_closed()
        return True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """End all connections, refused ones too."""
        for connection in list(self._lingering):
            connection.close()
        await super().shutdown(timeout)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if self.is_closing or is_last(message):
            message = message._replace(should_close=True)
        if self._base_path:
            message = _below(message, self._base_path)
        return self._application.request_factory(message, payload, protocol, writer, task)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Refuse some bodies and expectations. Pass every other request to the application."""
        headers = request.headers
        if is_refused(request.method, request.version, headers):
            coded = is_coded(request.version, headers)
            origin = headers.get(hdrs.ORIGIN)
            return self.refused(unexpected_body(is_coded=coded), "unexpected_body", origin)
        # aiohttp would quote the expectation (RFC 9110 10.1.1).
        if hdrs.EXPECT in headers and any(
            expectation.lower() != "100-continue" for expectation in headers.getall(hdrs.EXPECT)
        ):
            return self.refused(malformed(417), "expectation", headers.get(hdrs.ORIGIN))
        return await self._application.request_handler(request)

    def refused(self, response: web.Response, reason: str, origin: str | None) -> web.Response:
        """Count and log a request that no application sees.

        Return its answer, which is the connection's last.
        """
        self._observe(response.status)
        request_id = secrets.token_hex(8)
        response.headers.update(self._cors(origin))
        response.headers["X-Request-Id"] = request_id
        log_request(
            logging.INFO,
            {
                "request_id": request_id,
                "route": "malformed",
                "method": "other",
                "status": response.status,
                "reason": reason,
            },
        )
        response.force_close()
        return response

    def __call__(self) -> RequestHandler:
        """Return a connection that was made just now."""
        return ClientConnection(self, loop=self._loop, **self._kwargs)


def _below(message: RawRequestMessage, base_path: str) -> RawRequestMessage:
    """Return the message of a request as if ``base_path`` were the root of the server."""
    raw, url = without_base_path(message.path, base_path), message.url
    if raw == message.path:
        return message
    path = without_base_path(url.raw_path, base_path)
    return message._replace(
        path=raw, url=URL.build(path=path, query_string=url.raw_query_string, encoded=True)
    )


def is_refused(method: str, version: HttpVersion, headers: Mapping[str, str]) -> bool:
    """Return whether the body is one that the method does not need, or its end is unclear."""
    if hdrs.TRANSFER_ENCODING in headers:
        return is_coded(version, headers) or method not in _METHODS_WITH_BODY
    # The parsers accept digits alone as Content-Length.
    has_body = hdrs.CONTENT_LENGTH in headers and headers[hdrs.CONTENT_LENGTH].strip("0") != ""
    return has_body and method not in _METHODS_WITH_BODY


def is_coded(version: HttpVersion, headers: Mapping[str, str]) -> bool:
    """Return whether the Transfer-Encoding leaves the end of the body unclear."""
    coding = headers.get(hdrs.TRANSFER_ENCODING)
    return coding is not None and (version < HttpVersion11 or coding.lower() != "chunked")


def is_last(message: RawRequestMessage) -> bool:
    """Return whether nothing may follow this request on its connection.

    A chunked request may have trailer fields. After an ``Upgrade`` or ``CONNECT``, which nothing
    here accepts, the parsers disagree where the next request begins.
    """
    headers = message.headers
    may_have_trailers = message.chunked or hdrs.TRANSFER_ENCODING in headers
    switches = message.upgrade or message.method == hdrs.METH_CONNECT or hdrs.UPGRADE in headers
    return may_have_trailers or switches or is_refused(message.method, message.version, headers)

"""The bytes of a retrieval: PACS -> client, unchanged, one chunk at a time.

Memory is bounded by the read buffer; a slow client slows the PACS read (each write waits for room), a client that
leaves cancels the handler and so closes the PACS connection. An answer that breaks is aborted, never ended (SIA-43).
"""

import asyncio
import logging
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from sidecar.common.errors import BadGateway, GatewayTimeout
from sidecar.pacs.answer import Head
from sidecar.pacs.multipart import ClosingDelimiter
from sidecar.telemetry.metrics import Metrics
from sidecar.web.abort import abort_connection
from sidecar.web.middleware import REASON, REQUEST_ID

log = logging.getLogger(__name__)


class Broken(Exception):
    """The PACS's body did not come whole."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Streamer:
    """Sends PACS answers on. ``client_seconds``: how long a client may take to accept one chunk."""

    metrics: Metrics
    client_seconds: float

    async def send(
        self, request: web.Request, upstream: aiohttp.ClientResponse, head: Head, kind: str
    ) -> web.StreamResponse:
        """Send the body of ``upstream``; return the finished answer.

        Raises ``BadGateway`` / ``GatewayTimeout`` while nothing was sent; afterwards a broken body aborts the client's
        connection: no length, no last chunk, no closing delimiter will pretend that it was whole.
        """
        outcome = "client_gone"
        self.metrics.streams_active.inc()
        try:
            response, body = await self._begin(request, upstream, head)
            if request.method != "HEAD":
                await self._copy(body, response, kind)
            await response.write_eof()
            outcome = "complete"
        except Broken as broken:
            outcome = "pacs_broken"
            request[REASON] = "pacs_" + broken.reason
            log.error(
                "the PACS broke off an answer; the client's connection is aborted",
                extra={"reason": broken.reason, "kind": kind, "request_id": request[REQUEST_ID]},
            )
            abort_connection(request)
            raise ConnectionResetError("aborted") from None
        except (BadGateway, GatewayTimeout):
            outcome = "pacs_broken"
            raise
        except TimeoutError:
            request[REASON] = "client_stalled"
            abort_connection(request)
            raise ConnectionResetError("aborted") from None
        finally:
            self.metrics.streams_active.dec()
            self.metrics.streams.labels(kind, outcome).inc()
        return response

    async def _begin(
        self, request: web.Request, upstream: aiohttp.ClientResponse, head: Head
    ) -> tuple[web.StreamResponse, "Body"]:
        body = Body(upstream, head)
        try:
            await body.fill()  # The first bytes: until they are here an error can still be an error.
        except Broken as broken:
            if broken.reason == "timeout":
                raise GatewayTimeout("The image archive took too long to answer.", reason="pacs_timeout") from None
            raise BadGateway("The image archive broke off its answer.", reason="pacs_" + broken.reason) from None
        response = web.StreamResponse(headers={"Content-Type": head.content_type})
        if head.content_length is not None:
            response.content_length = head.content_length
        if head.media_type == "application/pdf":
            response.headers["Content-Disposition"] = "attachment"
        await response.prepare(request)
        return response, body

    async def _copy(self, body: "Body", response: web.StreamResponse, kind: str) -> None:
        sent = self.metrics.streamed_bytes.labels(kind)
        while chunk := body.take():
            async with asyncio.timeout(self.client_seconds):
                await response.write(chunk)
            sent.inc(len(chunk))
            await body.fill()


class Body:
    """A PACS answer's body, one chunk ahead, which knows whether it came whole."""

    def __init__(self, upstream: aiohttp.ClientResponse, head: Head) -> None:
        self._content = upstream.content
        self._remaining = head.content_length
        self._delimiter = ClosingDelimiter(head.boundary) if head.boundary is not None else None
        self._chunk = b""

    async def fill(self) -> None:
        """Read the next chunk; with the last one, check that the body is whole. Raises ``Broken``.

        With a Content-Length the last chunk is checked before it is handed out: once a client has that many bytes, an
        aborted connection tells it nothing.
        """
        try:
            self._chunk = await self._content.readany()
        except TimeoutError:
            raise Broken("timeout") from None
        except (aiohttp.ClientError, OSError):
            raise Broken("broken") from None
        if self._delimiter is not None:
            self._delimiter.feed(self._chunk)
        if self._remaining is not None:
            self._remaining -= len(self._chunk)
        is_last = not self._chunk or self._remaining == 0
        if is_last and self._delimiter is not None and not self._delimiter.seen:
            raise Broken("truncated")

    def take(self) -> bytes:
        """The chunk that was read; empty at the end."""
        return self._chunk

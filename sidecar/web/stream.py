"""Stream a retrieval's bytes, one chunk at a time: PACS -> scanner -> client.

Memory is bounded by the read buffer. A slow client slows the reading from the PACS, since each
write waits for room. A client that leaves cancels the handler, which closes the PACS connection.
An answer that breaks off, or that holds another patient's data, is aborted, never ended (SIA-43).
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from sidecar.authorization.current_study import CurrentStudy
from sidecar.authorization.limits import HeldPlaces
from sidecar.common.spans import KIND, OUTCOME, span
from sidecar.dicomweb.body_filter import PassThrough, Scanner
from sidecar.dicomweb.conditional import heeds_ranges, to_client
from sidecar.dicomweb.media_types import DICOM_JSON, DOCUMENT_TYPES, ZIP
from sidecar.dicomweb.metadata import Metadata
from sidecar.dicomweb.paths import Kind
from sidecar.dicomweb.response_head import ResponseHead, unwrapped_type
from sidecar.pacs.response import Upstream
from sidecar.telemetry.metrics import Metrics
from sidecar.web.middleware import RECORD
from sidecar.web.pieces import LEAST_COMPRESSED_BYTES, Pieces, accepts_gzip, write_pieces
from sidecar.web.send_buffers import abort_connection
from sidecar.web.stream_body import SHORT_BYTES, StreamBody, TransferBroken
from sidecar.web.transfer_timeout import ClientRate, TransferTimeout

log = logging.getLogger(__name__)

_WRITING = "writing"


def client_head(head: ResponseHead, kind: Kind, *, unwrap: bool, zipped: bool) -> ResponseHead:
    """Return the PACS's head with the media type that the client gets.

    ``unwrap``: one part leaves without its multipart. ``zipped``: the parts leave as a ZIP's files.
    """
    if kind is Kind.METADATA:  # Some archives write application/json.
        media_type = DICOM_JSON
    elif zipped:
        media_type = ZIP
    elif unwrap and head.boundary is not None:
        media_type = unwrapped_type(head, kind)
    else:
        return head
    return replace(head, content_type=media_type, media_type=media_type)


def response_to(
    headers: Mapping[str, str],
    head: ResponseHead,
    kind: str,
    *,
    length: int | None,
    ranges: bool,
    body: bytes | None = None,
) -> web.StreamResponse:
    """Return the answer to a client: its head, or with a ``body`` all of it.

    ``headers``: the PACS's; ``length``: in bytes, where known; ``ranges``: whether the client may
    ask for ranges.
    """
    status = 206 if head.is_partial else 200
    lines = {
        "Content-Type": head.content_type,
        **to_client(headers, partial=head.is_partial, ranges=ranges),
    }
    response: web.StreamResponse
    if body is not None:
        response = web.Response(status=status, headers=lines, body=body)
    else:
        response = web.StreamResponse(status=status, headers=lines)
        response.content_length = length
    if head.media_type in DOCUMENT_TYPES:
        response.headers["Content-Disposition"] = "attachment"
    elif head.media_type == ZIP:
        response.headers["Content-Disposition"] = f'attachment; filename="{kind}.zip"'
    return response


@dataclass(frozen=True, slots=True)
class Streamer:
    """Send the PACS's answers to clients.

    ``client_seconds``: longest time that a client may take to accept one chunk.
    """

    metrics: Metrics
    client_seconds: float

    async def send(
        self,
        request: web.Request,
        upstream: Upstream,
        head: ResponseHead,
        kind: str,
        scanner: Scanner,
        current_study: CurrentStudy,
        places: HeldPlaces,
    ) -> web.StreamResponse:
        """Send the body of ``upstream`` through ``scanner``; return the finished answer.

        ``current_study``: the requested study as the PACS has it at the end. ``places``: the queue
        places that the transfer holds; a client that is too slow loses them when others wait.

        Raises a ``Problem`` while nothing was sent. Afterwards a broken or incomplete body aborts
        the client's connection: no length, last chunk or closing delimiter makes it look whole.
        """
        rate = ClientRate(asyncio.get_running_loop().time)
        step_timeout = TransferTimeout(
            min(self.client_seconds, upstream.idle_seconds),
            lambda: rate.is_too_slow() and places.is_wanted(),
        )
        body = StreamBody(upstream, scanner, step_timeout, current_study)
        response: web.StreamResponse | None = None
        writer: AbstractStreamWriter | None = None
        outcome = "client_gone"
        self.metrics.streams_active.inc()
        with span("transfer") as step:
            step.set(KIND, kind)
            try:
                async with step_timeout:
                    first = await body.first(head.content_length)
                    response = _response(request, upstream, head, kind, scanner, first, body)
                    writer = await response.prepare(request)
                    if request.method != "HEAD" and writer is not None:
                        await self._copy(first, body, response, writer, kind, step_timeout, rate)
                    step_timeout.begin(_WRITING, self.client_seconds)
                    rate.wait_for(writer)
                    await response.write_eof()
                outcome = "complete"
            except (TransferBroken, TimeoutError) as failure:
                if isinstance(failure, TransferBroken):
                    broken = await self._or_corrected(failure, request, kind, current_study)
                elif step_timeout.step == _WRITING:
                    _abort(request, "client_too_slow" if rate.is_too_slow() else "client_stalled")
                else:
                    broken = TransferBroken("timeout")
                outcome = self._record(broken, request, kind)
                problem = broken.problem()
                if response is None:  # Nothing was sent, so an error can still have its status.
                    raise problem from None
                request[RECORD].broken_off = str(problem.status)
                _abort(request, problem.reason)
            finally:
                self.metrics.streams_active.dec()
                self.metrics.streams.labels(kind, outcome).inc()
                step.set(OUTCOME, outcome)
                if isinstance(scanner, Metadata) and scanner.dropped:
                    self._record_dropped(scanner.dropped, request)
                if writer is not None:  # With the head: the number that the writer has anyway.
                    step.set("http.response.size", writer.output_size)
        return response

    async def _copy(
        self,
        pieces: Pieces,
        body: StreamBody,
        response: web.StreamResponse,
        writer: AbstractStreamWriter,
        kind: str,
        step_timeout: TransferTimeout,
        rate: ClientRate,
    ) -> None:
        """Send ``pieces`` and the rest of ``body``. A whole answer leaves with its head."""
        counter, sent = self.metrics.streamed_bytes.labels(kind), 0
        if isinstance(response, web.Response):
            counter.inc(sum(map(len, pieces)))
            return
        if writer.transport is not None:  # The kernel has what a client needs to go on.
            writer.transport.set_write_buffer_limits(high=0)
        while pieces:
            step_timeout.begin(_WRITING, self.client_seconds)
            rate.wait_for(writer)
            uncopied = sent > 0 and not response.compression
            size = await write_pieces(writer, pieces, uncopied=uncopied)
            pieces.clear()  # ``send`` has the first ones, too.
            counter.inc(size)
            sent += size
            rate.end()
            pieces = await body.next()
        if response.content_length not in (None, sent):
            # The client would take the next answer on this connection for the rest.
            raise TransferBroken("length")

    async def _or_corrected(
        self,
        broken: TransferBroken,
        request: web.Request,
        kind: str,
        current_study: CurrentStudy,
    ) -> TransferBroken:
        """Return ``broken``, or another failure if its data are foreign since a correction.

        A correction in the archive raises no alarm.
        """
        if broken.foreign not in ("instance", "metadata"):
            return broken
        try:
            is_corrected = await current_study.is_corrected()
        except asyncio.CancelledError:  # The client has left; the alarm stays.
            self._record(broken, request, kind)
            raise
        return TransferBroken("corrected", "corrected") if is_corrected else broken

    def _record(self, broken: TransferBroken, request: web.Request, kind: str) -> str:
        """Count and log the failure; return its outcome."""
        if broken.foreign is not None:
            self.metrics.observe_foreign(broken.foreign)
        log.log(
            logging.WARNING if broken.outcome in ("corrected", "incomplete") else logging.ERROR,
            "a PACS answer was not passed on, or not to its end",
            extra={
                "reason": broken.problem().reason,
                "kind": kind,
                "request_id": request[RECORD].request_id,
                **broken.place,
            },
        )
        return broken.outcome

    def _record_dropped(self, dropped: Mapping[str, int], request: web.Request) -> None:
        """Count and log the BulkDataURIs left out of metadata: reason -> number, no owner."""
        for reason, count in dropped.items():
            self.metrics.bulkdata_uris_dropped.labels(reason).inc(count)
        log.warning(
            "BulkDataURIs of the PACS were left out",
            extra={"dropped": dict(dropped), "request_id": request[RECORD].request_id},
        )


def _response(
    request: web.Request,
    upstream: Upstream,
    head: ResponseHead,
    kind: str,
    scanner: Scanner,
    pieces: Pieces,
    body: StreamBody,
) -> web.StreamResponse:
    """Return the answer: its head, or all of it if it is short and ``pieces`` are its whole body.

    Raises ``TransferBroken``.
    """
    size, length = sum(map(len, pieces)), scanner.length(head.content_length)
    is_short = body.is_complete and size <= SHORT_BYTES and request.method != "HEAD"
    compress = (
        isinstance(scanner, Metadata)
        and not (body.is_complete and size < LEAST_COMPRESSED_BYTES)
        and accepts_gzip(request)
    )
    if is_short and length not in (None, size):
        raise TransferBroken("length")
    response = response_to(
        upstream.headers,
        head,
        kind,
        length=length,
        ranges=isinstance(scanner, PassThrough) and heeds_ranges(Kind(kind)),
        body=b"".join(pieces) if is_short and not compress else None,
    )
    if compress:
        response.enable_compression(web.ContentCoding.gzip)
    if request.version < HttpVersion11 and response.content_length is None:
        response.force_close()  # The end of the connection is the body's end.
    return response


def _abort(request: web.Request, reason: str) -> NoReturn:
    request[RECORD].reason = reason
    abort_connection(request)
    raise ConnectionResetError("aborted")

"""The bytes of a retrieval: PACS -> scanner -> client, one chunk at a time.

Memory is bounded by the read buffer; a slow client slows the PACS read (each write waits for room),
a client that leaves cancels the handler and so closes the PACS connection. An answer that breaks,
or that holds something of another patient, is aborted, never ended (SIA-43).
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import aiohttp
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from sidecar.authorization.current_study import CHANGED_SECONDS, CurrentStudy
from sidecar.common.content_coding import Undecodable
from sidecar.common.errors import (
    BadGateway,
    GatewayTimeout,
    NotAcceptable,
    NotFound,
    Problem,
    Unavailable,
)
from sidecar.common.fair_queue import HeldPlace
from sidecar.common.spans import KIND, OUTCOME, Span, span
from sidecar.dicom.element import Unreadable
from sidecar.dicomweb.accept import DICOM_JSON, ZIP
from sidecar.dicomweb.body_filter import Malformed, PassThrough, Scanner
from sidecar.dicomweb.conditional import heeds_ranges, to_client
from sidecar.dicomweb.instance_check import ExcludedInstance, ForeignInstance
from sidecar.dicomweb.metadata import Metadata
from sidecar.dicomweb.part_types import DOCUMENT_TYPES
from sidecar.dicomweb.paths import Kind
from sidecar.dicomweb.response_head import ResponseHead, unwrapped_type
from sidecar.dicomweb.zip_archive import ZipArchive
from sidecar.pacs.response import Upstream
from sidecar.pacs.scanning import scan
from sidecar.telemetry.metrics import Metrics
from sidecar.web.connection_reset import abort_connection
from sidecar.web.least_rate import ClientRate
from sidecar.web.middleware import BROKEN_OFF, REASON, REQUEST_ID
from sidecar.web.pieces import LEAST_COMPRESSED_BYTES, accepts_gzip
from sidecar.web.stream_timeout import TransferTimeout
from sidecar.web.stream_writer import ChunkWriter, Pieces

log = logging.getLogger(__name__)

_READING, _SCANNING, _WRITING = "reading", "scanning", "writing"


class TransferBroken(Exception):
    """The PACS's body did not come whole, or must not be passed on.

    ``outcome`` is that of ``streams_total``; ``foreign`` what ``verification_failures_total``
    counts; ``place`` what the log says of the instance: its ``position`` in the answer, from 1 (of
    an answer that ends too early: the last one that began), and the ``rule`` and UIDs of
    ``Unreadable``.
    """

    def __init__(
        self,
        reason: str,
        outcome: str = "pacs_broken",
        foreign: str | None = None,
        place: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome
        self.foreign = foreign
        self.place = place or {}

    def problem(self) -> Problem:
        """The answer while nothing has been sent."""
        if self.reason == "timeout":
            return GatewayTimeout(
                "The image archive took too long to answer.", reason="pacs_timeout"
            )
        if self.outcome in ("excluded", "incomplete"):
            return Unavailable(
                "The study has just changed; try again.",
                reason=self.reason,
                retry_after=CHANGED_SECONDS,
            )
        if self.outcome == "corrected":  # What the archive says of the next request, too (SIA-45).
            return NotFound(
                "There is no such resource, or it is not available to you.", reason=self.reason
            )
        if "rule" in self.place:
            return BadGateway(
                f"Nobody can say for certain whose instance {self.place['position']} of the image archive's answer is"
                f" ({self.place['rule']}); it was not passed on. What else there is can be had by series, and by"
                " instance.",
                reason=self.reason,
            )
        if self.foreign is not None:
            return BadGateway(
                "The image archive sent data that are not certainly this patient's; they were not passed on.",
                reason=self.reason,
            )
        if self.reason == "several_values":
            return NotAcceptable(
                "The image archive has this in several parts; ask for multipart/related.",
                reason="pacs_several_values",
            )
        return BadGateway("The image archive broke off its answer.", reason="pacs_" + self.reason)


def response_to(
    headers: Mapping[str, str], head: ResponseHead, kind: str, *, length: int | None, ranges: bool
) -> web.StreamResponse:
    """Return the head of an answer to a client.

    ``headers``: the archive's; ``length``: in bytes, where known.
    """
    response = web.StreamResponse(
        status=206 if head.is_partial else 200,
        headers={
            "Content-Type": head.content_type,
            **to_client(headers, partial=head.is_partial, ranges=ranges),
        },
    )
    if length is not None:
        response.content_length = length
    if head.media_type in DOCUMENT_TYPES:
        response.headers["Content-Disposition"] = "attachment"
    elif head.media_type == ZIP:
        response.headers["Content-Disposition"] = f'attachment; filename="{kind}.zip"'
    return response


def client_head(head: ResponseHead, kind: Kind, *, unwrap: bool, zipped: bool) -> ResponseHead:
    """Return the archive's head with the media type that leaves.

    ``unwrap``: one part of a multipart leaves alone. ``zipped``: its parts leave as a ZIP's files.
    """
    if kind is Kind.METADATA:  # Some archives write application/json.
        written = DICOM_JSON
    elif zipped:
        written = ZIP
    elif unwrap and head.boundary is not None:
        written = unwrapped_type(head, kind)
    else:
        return head
    return replace(head, content_type=written, media_type=written)


@dataclass(frozen=True, slots=True)
class Streamer:
    """Sends PACS answers on. ``client_seconds``: how long a client may take to accept one chunk."""

    metrics: Metrics
    client_seconds: float

    async def send(
        self,
        request: web.Request,
        upstream: Upstream,
        head: ResponseHead,
        kind: str,
        scanner: Scanner,
        now: CurrentStudy,
        places: Sequence[HeldPlace],
    ) -> web.StreamResponse:
        """Send the body of ``upstream`` through ``scanner``; return the finished answer.

        ``now``: what is asked for.

        ``places``: what the transfer holds. A client that is too slow loses them when somebody else
        waits for one.

        Raises a ``Problem`` while nothing was sent; afterwards a broken or incomplete body aborts
        the client's connection: no length, no last chunk, no closing delimiter will pretend that it
        was whole.
        """
        with span("transfer") as step:
            step.set(KIND, kind)
            return await self._send(request, upstream, head, kind, scanner, now, places, step)

    async def _send(
        self,
        request: web.Request,
        upstream: Upstream,
        head: ResponseHead,
        kind: str,
        scanner: Scanner,
        now: CurrentStudy,
        places: Sequence[HeldPlace],
        step: Span,
    ) -> web.StreamResponse:
        outcome = "client_gone"
        self.metrics.streams_active.inc()
        rate = ClientRate(asyncio.get_running_loop().time)
        watch = TransferTimeout(
            min(self.client_seconds, upstream.idle_seconds),
            lambda: rate.is_too_slow() and any(place.is_wanted() for place in places),
        )
        body = Body(upstream, scanner, watch, now)
        response: web.StreamResponse | None = None
        writer: AbstractStreamWriter | None = None
        try:
            async with watch:
                first = await body.next()
                ranges = isinstance(scanner, PassThrough) and heeds_ranges(Kind(kind))
                response = response_to(
                    upstream.headers,
                    head,
                    kind,
                    length=scanner.length(head.content_length),
                    ranges=ranges,
                )
                is_long = not body.has_ended or sum(map(len, first)) >= LEAST_COMPRESSED_BYTES
                if isinstance(scanner, Metadata) and is_long and accepts_gzip(request):
                    response.enable_compression(web.ContentCoding.gzip)
                if request.version < HttpVersion11 and response.content_length is None:
                    response.force_close()  # Its end is the body's end.
                writer = await response.prepare(request)
                if request.method != "HEAD" and writer is not None:
                    sent = await self._copy(
                        first, body, writer, kind, watch, rate, compressed=response.compression
                    )
                    if response.content_length not in (None, sent):
                        # The next answer on this connection would be taken for the rest.
                        raise TransferBroken("length")
                watch.begin(_WRITING, self.client_seconds)
                rate.wait_for(writer)
                await response.write_eof()
            outcome = "complete"
        except (TransferBroken, TimeoutError) as failure:
            if isinstance(failure, TimeoutError) and watch.step == _WRITING:
                self._abort(request, "client_too_slow" if rate.is_too_slow() else "client_stalled")
            broken = failure if isinstance(failure, TransferBroken) else TransferBroken("timeout")
            broken = await self._explained(broken, request, kind, now)
            outcome = self._record(broken, request, kind)
            if response is None:  # Until the first bytes are here an error can still be an error.
                raise broken.problem() from None
            request[BROKEN_OFF] = str(broken.problem().status)
            self._abort(request, broken.problem().reason)
        finally:
            self.metrics.streams_active.dec()
            self.metrics.streams.labels(kind, outcome).inc()
            step.set(OUTCOME, outcome)
            if isinstance(scanner, Metadata) and scanner.dropped:
                self._note_dropped(scanner.dropped, request)
            if writer is not None:  # With its head: what the writer has counted anyway.
                step.set("http.response.size", writer.output_size)
        return response

    async def _copy(
        self,
        pieces: Pieces,
        body: "Body",
        writer: AbstractStreamWriter,
        kind: str,
        watch: TransferTimeout,
        rate: ClientRate,
        *,
        compressed: bool,
    ) -> int:
        """Send the body; return its bytes."""
        whole = 0
        sent, output = (
            self.metrics.streamed_bytes.labels(kind),
            ChunkWriter(writer, compressed=compressed),
        )
        while pieces:
            watch.begin(_WRITING, self.client_seconds)
            rate.wait_for(writer)
            size = await output.write(pieces)
            sent.inc(size)
            whole += size
            rate.end()
            pieces = await body.next()
        return whole

    async def _explained(
        self, broken: TransferBroken, request: web.Request, kind: str, now: CurrentStudy
    ) -> TransferBroken:
        """What is foreign because the archive was corrected is no alarm: then return ``TransferBroken`` for a correction."""
        if broken.foreign not in ("instance", "metadata"):
            return broken
        try:
            is_corrected = await now.is_corrected()
        except asyncio.CancelledError:  # The client has left; the alarm stays.
            self._record(broken, request, kind)
            raise
        return TransferBroken("corrected", "corrected") if is_corrected else broken

    def _record(self, broken: TransferBroken, request: web.Request, kind: str) -> str:
        if broken.foreign is not None:
            self.metrics.observe_foreign(broken.foreign)
        log.log(
            logging.WARNING if broken.outcome in ("corrected", "incomplete") else logging.ERROR,
            "a PACS answer was not passed on, or not to its end",
            extra={
                "reason": broken.problem().reason,
                "kind": kind,
                "request_id": request[REQUEST_ID],
            }
            | dict(broken.place),
        )
        return broken.outcome

    def _note_dropped(self, dropped: Mapping[str, int], request: web.Request) -> None:
        """Say how many BulkDataURIs of metadata were left out, and why.

        Whose they are is not said.
        """
        for reason, count in dropped.items():
            self.metrics.bulkdata_uris_dropped.labels(reason).inc(count)
        log.warning(
            "BulkDataURIs of the PACS were left out",
            extra={"dropped": dict(dropped), "request_id": request[REQUEST_ID]},
        )

    @staticmethod
    def _abort(request: web.Request, reason: str) -> NoReturn:
        request[REASON] = reason
        abort_connection(request)
        raise ConnectionResetError("aborted")


class Body:
    """A PACS answer's body, through its scanner, compared with what the archive has ``now`` before its end leaves."""

    def __init__(
        self, upstream: Upstream, scanner: Scanner, watch: TransferTimeout, now: CurrentStudy
    ) -> None:
        self._upstream = upstream
        self._scanner = scanner
        self._watch = watch
        self._now = now
        self._ended = False
        self._directory: list[bytes] = []  # What of a ZIP's end has not been returned yet.

    @property
    def has_ended(self) -> bool:
        """Whether ``next`` has returned all of it."""
        return self._ended

    async def next(self) -> Pieces:
        """Return the next bytes that may be sent; none at the end. Raises ``TransferBroken``.

        What closes the body comes together with what came before it, so that a short answer that is
        not complete can still be an error with a status.
        """
        passed: list[bytes | memoryview] = [*self._directory[:1]]
        del self._directory[:1]
        while not self._ended:
            came = await self._read()
            try:
                if came:
                    passed += await self._scanned(came)
                else:
                    self._ended = True
                    passed += await self._end()
            except Malformed as malformed:
                raise TransferBroken(
                    malformed.reason, place={"position": self._scanner.parts}
                ) from None
            except Unreadable as refused:
                place: dict[str, str | int] = {
                    "rule": refused.rule,
                    "position": self._scanner.parts,
                    **refused.uids,
                }
                raise TransferBroken(
                    "unreadable_instance", "verification_failed", "unreadable_instance", place
                ) from None
            except ExcludedInstance:
                raise TransferBroken("excluded_series", "excluded") from None
            except ForeignInstance as foreign:
                raise TransferBroken(
                    "foreign_" + foreign.what, "verification_failed", foreign.what
                ) from None
            if passed and not self._scanner.is_closed:
                return passed
        return passed

    async def _end(self) -> list[bytes]:
        """Return what closes the body, or begins to. Raises what shows that it is not whole."""
        rest = self._scanner.end()
        await self._compare(self._scanner.parts)
        if isinstance(self._scanner, ZipArchive):
            self._watch.begin(_SCANNING, math.inf)
            rest, *self._directory = await asyncio.to_thread(self._scanner.directory)
        return [rest] if rest else []

    async def _compare(self, parts: int) -> None:
        """Raise ``TransferBroken`` unless so many ``parts`` are what was counted before, or what the archive counts now.

        Images that arrive meanwhile are no fault: there may be more than before, up to as many as
        there are now.
        """
        first = self._upstream.expected
        if first is None or parts == first:
            return
        self._watch.begin(_READING, self._upstream.idle_seconds)
        try:
            now = await self._now.count()
        except Problem:
            now = None
        if now is None or not min(first, now) <= parts <= now:
            raise TransferBroken("incomplete", "incomplete")

    async def _scanned(self, came: list[bytes]) -> list[bytes | memoryview]:
        self._watch.begin(_SCANNING, math.inf)  # Our own work is not the archive's silence.
        return await scan(self._scanner, came)

    async def _read(self) -> list[bytes]:
        self._watch.begin(_READING, self._upstream.idle_seconds)
        try:
            return await self._upstream.read()
        except TimeoutError:
            raise
        except Undecodable as damaged:
            raise TransferBroken(damaged.reason) from None
        except (aiohttp.ClientError, OSError):
            raise TransferBroken("broken") from None

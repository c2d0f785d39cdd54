"""Send spans to the collector by OTLP over HTTP (protobuf), in batches, from a thread.

Spans that do not fit into the queue are dropped, so that a slow collector does not hold up
requests. The end of the process waits for ``CLOSE_SECONDS`` at most.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

QUEUE_SPANS = 4_096
BATCH_SPANS = 512
DELAY_MILLISECONDS = 2_000
TIMEOUT_SECONDS = 5
CLOSE_SECONDS = 3
REPEAT_SECONDS = 300
"""Seconds between two log lines of a collector that takes no spans."""

Observe = Callable[[str, int], None]
"""Takes ``ended``, ``sent`` or ``failed``, and the number of spans."""


class SpanExport:
    """Send spans to ``endpoint`` (``…/v1/traces``).

    ``authorization`` is the value of that header. ``ca_file`` has the authorities to trust.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        authorization: str | None = None,
        ca_file: Path | None = None,
        observe: Observe = lambda outcome, count: None,
    ) -> None:
        self._session = requests.Session()
        # A proxy variable or a .netrc must not send anything elsewhere.
        self._session.trust_env = False
        self._session.verify = str(ca_file) if ca_file is not None else True
        exporter = OTLPSpanExporter(
            endpoint,
            certificate_file=str(ca_file) if ca_file is not None else None,
            headers={} if authorization is None else {"authorization": authorization},
            timeout=TIMEOUT_SECONDS,
            compression=Compression.Gzip,
            session=self._session,
        )
        self.processor = CountingProcessor(
            QuietExporter(exporter, observe=observe),
            QUEUE_SPANS,
            DELAY_MILLISECONDS,
            BATCH_SPANS,
            TIMEOUT_SECONDS * 1_000,
        )
        self.processor.observe = observe

    async def close(self) -> None:
        """Send the spans that are left, within ``CLOSE_SECONDS``."""
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            self.processor.shutdown()  # type: ignore[no-untyped-call]
            self._session.close()
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(done.set)

        # The loop would wait for the end of its own threads.
        threading.Thread(target=end, name="spans-end", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await done.wait()
        except TimeoutError:
            log.warning("the last spans could not be sent in time: they are lost")


class CountingProcessor(BatchSpanProcessor):
    """Count spans that end. Those neither sent nor failed are in the queue, or dropped."""

    observe: Observe

    def on_end(self, span: ReadableSpan) -> None:
        """Count a sampled span, and put it into the queue."""
        if span.context.trace_flags.sampled:
            self.observe("ended", 1)
        super().on_end(span)


class QuietExporter(SpanExporter):
    """Pass batches on to ``inner``. A failure is logged once in ``REPEAT_SECONDS``."""

    def __init__(
        self,
        inner: SpanExporter,
        clock: Callable[[], float] = time.monotonic,
        *,
        observe: Observe = lambda outcome, count: None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._observe = observe
        self._quiet_until = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans. No exception leaves."""
        try:
            result, detail = self._inner.export(spans), "not accepted"
        except Exception as error:
            result, detail = SpanExportResult.FAILURE, type(error).__name__
        self._observe("sent" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        if result is not SpanExportResult.SUCCESS and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + REPEAT_SECONDS
            log.warning(
                "spans cannot be sent to the collector: they are lost", extra={"detail": detail}
            )
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush ``inner``."""
        return self._inner.force_flush(timeout_millis)

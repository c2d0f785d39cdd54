"""Prometheus metrics with the prefix ``smart_imaging_`` (docs/operations.md).

Labels are constants, and no identifiers.
"""

import contextlib
import logging
from bisect import bisect_left
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from sidecar.common.spans import OUTCOME, add_duration, current_span, exemplar
from sidecar.telemetry.shared_metrics import MergedCollector, SharedMetrics
from sidecar.telemetry.shared_values import WorkerFile, value_class

log = logging.getLogger(__name__)
Metric = TypeVar("Metric", bound=MetricWrapperBase)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """All metrics of a process, in a registry of their own: tests have several in a process.

    ``folder``: what the worker processes of a host share, so that each of them exposes the metrics
    of all (``SharedMetrics``); a process makes its metrics once. ``None``: it is alone. Where the
    folder has no room for its file, it exposes those of the others, and its own are lost.
    """

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, version: str, folder: Path | None = None) -> None:
        self.registry = self._exposed = CollectorRegistry()
        # prometheus_client looks here for the class of each new value. By itself it would take the
        # one that its environment variable named when it was imported.
        values.ValueClass = values.MutexValue
        if folder is not None:
            self._share(folder)
        self.requests = self._counter(
            "requests_total", "Requests answered", "route", "method", "status"
        )
        self.worker_starts = self._counter(
            "worker_starts_total",
            "Starts of worker processes; restart: the one before had ended unexpectedly",
            "reason",
        )
        self.reloads = self._counter(
            "configuration_reloads_total", "Reloads of the configuration", "outcome"
        )
        self.connections_refused = self._counter(
            "connections_refused_total", "Client connections beyond limits.client_connections"
        )
        self.idle_connections_closed = self._counter(
            "idle_connections_closed_total",
            "Idle client connections closed for others at limits.client_connections",
        )
        self.request_duration = self._histogram(
            "request_duration_seconds", "Whole request, transfer included", "route"
        )
        self.decisions = self._counter(
            "access_decisions_total", "Access decisions", "decision", "reason"
        )
        self.external_policy = self._counter(
            "external_policy_total", "Answers of access.external", "outcome"
        )
        self.local_validations = self._counter(
            "local_validations_total", "Tokens verified by signature", "outcome"
        )
        self.introspections = self._counter(
            "introspections_total", "Introspection calls at the EHR", "outcome"
        )
        self.introspection_duration = self._histogram(
            "introspection_duration_seconds", "Introspection calls"
        )
        self.token_cache_lookups = self._counter(
            "token_cache_lookups_total", "Token cache lookups", "result"
        )
        self.shared_token_cache = self._counter(
            "shared_token_cache_total", "Questions to tokens.cache.url", "outcome"
        )
        self.pacs_requests = self._counter(
            "pacs_requests_total", "Requests to the PACS", "kind", "status"
        )
        self.pacs_first_byte = self._histogram(
            "pacs_first_byte_seconds", "PACS time to the first byte", "kind"
        )
        self.streams_active = self._gauge("livesum", "streams_active", "Retrievals being streamed")
        self.streamed_bytes = self._counter("streamed_bytes_total", "Bytes sent to clients", "kind")
        self.streams = self._counter("streams_total", "Retrievals ended", "kind", "outcome")
        self.bulkdata_uris_dropped = self._counter(
            "bulkdata_uris_dropped_total", "BulkDataURIs of metadata that were left out", "reason"
        )
        self.verification_failures = self._counter(
            "verification_failures_total",
            "Answers of the PACS that held another patient's data",
            "what",
        )
        self.shared_uids = self._counter(
            "shared_uids_total",
            "Studies refused or left out of a list: their UID is another patient's as well",
        )
        self.count_mismatches = self._counter(
            "count_mismatches_total",
            "Studies whose number of series or instances is not that of the rows",
            "attribute",
        )
        self.capability_urls_issued = self._counter(
            "capability_urls_issued_total", "Capability URLs handed out"
        )
        self.audit_events = self._counter("audit_events_total", "Audit events", "sink", "outcome")
        self.audit_queue_bytes = self._gauge(
            "livemax", "audit_queue_bytes", "Bytes of audit events that wait for the repository"
        )
        self.audit_queue_age = self._gauge(
            "livemax", "audit_queue_age_seconds", "How long the oldest of them has been waiting"
        )
        # They begin with 0, so that the first failure is an increase.
        for what in ("instance", "metadata", "unreadable_instance"):
            self.verification_failures.labels(what)
        self.worker_starts.labels("restart")
        self.reloads.labels("failed")
        self.trace_spans = self._counter(
            "trace_spans_total", "Spans of sampled requests", "outcome"
        )
        self.certificate_expiry = self._gauge(
            "livemin",
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a peer, or our own, ends",
            "of",
        )
        self.build_info = self._gauge("livemax", "build_info", "Version", "version")
        self.build_info.labels(version).set(1)

    def _share(self, folder: Path) -> None:
        """Write new values to a file in ``folder``, and expose what is in all files there."""
        shared = SharedMetrics(folder)
        self._exposed = CollectorRegistry()
        self._exposed.register(cast("Collector", MergedCollector(self.registry, shared)))
        with contextlib.suppress(OSError):  # The next scrape tries again.
            shared.fold()
        try:
            values.ValueClass = cast("Any", value_class(WorkerFile(folder)))
        except OSError as error:  # No room is no reason not to serve.
            log.error("the metrics of this worker are lost", extra={"detail": error.strerror})

    def _gauge(
        self, mode: Literal["livesum", "livemax", "livemin"], name: str, text: str, *labels: str
    ) -> Gauge:
        """Return a gauge. ``mode``: how the values of several workers become one."""
        return Gauge(
            "smart_imaging_" + name,
            text,
            labels,
            registry=self.registry,
            multiprocess_mode=mode,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return _with_cached_children(
            _Counter("smart_imaging_" + name, text, labels, registry=self.registry)
        )

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return _with_cached_children(
            _Histogram(
                "smart_imaging_" + name, text, labels, buckets=_SECONDS, registry=self.registry
            )
        )

    def begin_tracing(self) -> None:
        """Begin the counters of spans with 0, so that the first lost span is an increase."""
        for outcome in ("ended", "sent", "failed"):
            self.trace_spans.labels(outcome)

    def observe_spans(self, outcome: str, count: int) -> None:
        """Count spans that ``ended``, were ``sent`` to the collector, or ``failed`` to be sent."""
        self.trace_spans.labels(outcome).inc(count)

    def observe_malformed(self, status: int) -> None:
        """Count a request that was not HTTP."""
        self.requests.labels("malformed", "other", str(status)).inc()

    def observe_request(self, route: str, method: str, status: str, seconds: float) -> None:
        """Record a request. With tracing on, its trace is the exemplar."""
        self.requests.labels(route, method, status).inc()
        self.request_duration.labels(route).observe(seconds, exemplar())

    def observe_introspection(self, outcome: str, seconds: float) -> None:
        """Record an introspection at the EHR."""
        self.introspections.labels(outcome).inc()
        self.introspection_duration.observe(seconds)

    def observe_local_validation(self, outcome: str, seconds: float) -> None:
        """Count a token that was verified by its signature."""
        self.local_validations.labels(outcome).inc()

    def observe_external_policy(self, outcome: str) -> None:
        """Count a decision of the external policy.

        ``outcome`` is ``allow``, ``partly``, ``deny`` or ``unavailable``.
        """
        self.external_policy.labels(outcome).inc()

    def observe_token_lookup(self, result: str) -> None:
        """Count a look-up in the token cache."""
        self.token_cache_lookups.labels(result).inc()
        current_span().set(OUTCOME, result)

    def observe_shared_token_cache(self, outcome: str) -> None:
        """Count a question to the token cache that processes share."""
        self.shared_token_cache.labels(outcome).inc()

    def observe_pacs(self, kind: str, status: str, seconds: float) -> None:
        """Record the first byte, or the failure, of a request to the PACS."""
        self.pacs_requests.labels(kind, status).inc()
        self.pacs_first_byte.labels(kind).observe(seconds, exemplar())
        add_duration("pacs", seconds)

    def observe_foreign(self, what: str, count: int = 1) -> None:
        """Count rows or instances of another patient that the PACS returned."""
        self.verification_failures.labels(what).inc(count)

    def begin_audit(self, sink: str) -> None:
        """Begin the counters of the ``sink`` with 0, so that the first failure is an increase."""
        outcomes = ("written", "failed", "delivered", "undelivered", "rejected", "dropped")
        for outcome in outcomes if sink == "fhir" else outcomes[:2]:
            self.audit_events.labels(sink, outcome)

    def observe_audit(self, outcome: str, sink: str = "fhir") -> None:
        """Count an audit event that was ``written``, ``failed``, ``delivered``, ...

        ``rejected`` and ``dropped`` are events, too. ``undelivered`` is a request to the repository
        that failed, and is repeated.
        """
        self.audit_events.labels(sink, outcome).inc()

    def observe_queue(self, size: int, age_seconds: float) -> None:
        """Record how many bytes of audit events wait, and how long the oldest event has waited."""
        self.audit_queue_bytes.set(size)
        self.audit_queue_age.set(age_seconds)

    def expose(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self._exposed)

    def negotiate(self, accept: str) -> tuple[bytes, str]:
        """Return an exposition and its media type.

        It is OpenMetrics, with exemplars, where ``accept`` names that, else text.
        """
        encode, content_type = choose_encoder(accept)
        if content_type.startswith("application/openmetrics-text"):
            return encode(self._exposed), content_type
        return self.expose(), self.CONTENT_TYPE


class _Counter(Counter):
    """A counter that does not check its labels and the sign again each time.

    A request counts nine times, and the checks cost more than the counting.
    """

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Add ``amount``, which is not negative. Exemplars are those of histograms."""
        self._value.inc(amount)


class _Histogram(Histogram):
    """A histogram that finds its bucket by bisection."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count ``amount`` in its bucket, and add it to the sum."""
        if exemplar is not None:
            super().observe(amount, exemplar)
            return
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


def _with_cached_children(metric: Metric) -> Metric:
    """Return ``metric``, changed to look for the children of its labels in a cache first.

    The library makes texts of the labels and takes a lock each time. That is 2 µs, and a request
    looks for eleven.
    """
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric

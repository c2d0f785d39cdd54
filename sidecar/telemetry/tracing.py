"""Tracing by OpenTelemetry (extra ``tracing``): the spans of ``common/spans.py``, sent by OTLP.

It uses no global state and no baggage. It does not record exceptions by itself, because their texts
may quote a peer. Of an incoming context it takes ``traceparent`` (W3C Trace Context 3.2).
``tracestate`` is free text from strangers, which may be dropped for privacy ("Privacy of the
tracestate field").
"""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NoOpTracer,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sidecar.common.spans import Durations, Kind, Span, Tracing, Value
from sidecar.telemetry.span_export import SpanExport

_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_TRACEPARENT_CHARACTERS = 512
_SAMPLED = 1


class TracedSpan(Span):
    """A span of OpenTelemetry as a ``Span``. ``durations``: those of its request."""

    def __init__(self, tracer: Tracer, otel: OtelSpan, durations: Durations | None) -> None:
        self._tracer = tracer
        self._otel = otel
        super().__init__(durations)
        self._context = otel.get_span_context()
        self.trace_id = format_trace_id(self._context.trace_id)
        self.is_sampled = bool(self._context.trace_flags.sampled)

    def child(self, name: str, kind: Kind) -> Span:
        """Begin a span below this one."""
        parent = set_span_in_context(self._otel, Context())
        child = self._tracer.start_span(name, parent, _KINDS[kind])
        if kind == "client":
            child.set_attribute("peer.service", name.partition(" ")[0])
        return TracedSpan(self._tracer, child, self.durations)

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        if self._otel.is_recording():
            self._otel.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        """Set ``error.type`` and the status Error, without a description."""
        if self._otel.is_recording():
            self._otel.set_attribute("error.type", error_type)
            self._otel.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """End the span."""
        self._otel.end()

    def traceparent(self) -> str:
        """Return the header of version 00, with the flag that it defines."""
        flags = self._context.trace_flags & _SAMPLED
        return f"00-{self.trace_id}-{format_span_id(self._context.span_id)}-{flags:02x}"


class OpenTelemetryTracing(Tracing):
    """Begin the span of each request. ``export`` takes those that are sampled.

    ``ratio`` is the share of traces that are sampled, also of those that the caller samples. Traces
    that the caller does not sample are not sampled. With ``joins`` an incoming ``traceparent`` is
    the parent.
    """

    def __init__(
        self,
        export: SpanExport,
        *,
        service_name: str,
        version: str,
        ratio: float,
        joins: bool = True,
    ) -> None:
        sampler = TraceIdRatioBased(ratio)
        attributes = {
            "service.name": service_name,
            "service.version": version,
            "service.instance.id": secrets.token_hex(8),
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
        }
        provider = TracerProvider(
            ParentBased(sampler, remote_parent_sampled=sampler),
            Resource(attributes),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(export.processor)
        self._tracer = provider.get_tracer("smart-imaging-sidecar", version)
        self._propagator = TraceContextTextMapPropagator()
        self._joins = joins

    def request(self, method: str, route: str | None, traceparents: Sequence[str]) -> Span:
        """Begin the span of a request.

        ``route`` is a template. ``traceparents`` are the lines of that header.
        """
        if isinstance(self._tracer, NoOpTracer):  # OTEL_SDK_DISABLED in the environment.
            return super().request(method, route, traceparents)
        known = method in _METHODS
        attributes: dict[str, Value] = {"http.request.method": method if known else "_OTHER"}
        if route is not None:
            attributes["http.route"] = route
        name = f"{method if known else 'HTTP'} {route or ''}".rstrip()
        begun = self._tracer.start_span(
            name, self._parent(traceparents), SpanKind.SERVER, attributes
        )
        return TracedSpan(self._tracer, begun, {})

    def _parent(self, traceparents: Sequence[str]) -> Context:
        """Return the caller's span, if there is exactly one that is well-formed (W3C 3.2.2)."""
        carrier: Mapping[str, str] = MappingProxyType({})
        if (
            self._joins
            and len(traceparents) == 1
            and len(traceparents[0]) <= _TRACEPARENT_CHARACTERS
        ):
            carrier = {"traceparent": traceparents[0]}
        return self._propagator.extract(carrier, Context())

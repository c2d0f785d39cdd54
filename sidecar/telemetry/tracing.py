"""Tracing by OpenTelemetry (extra ``tracing``): the spans of ``common/spans.py``, sent to a collector by OTLP.

Nothing of OpenTelemetry's global state is used, no baggage, and no automatic recording of
exceptions: their texts may quote what a peer sent. Of an incoming context only ``traceparent`` is
taken (W3C Trace Context 3.2); ``tracestate`` is free text from strangers, which may be left out for
privacy (there, "Privacy of the tracestate field").
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
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

from sidecar.common.spans import Durations, Kind, NoTracing, Span, Value, within
from sidecar.telemetry.span_export import SpanExport

_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_TRACEPARENT_CHARACTERS = 512
_SAMPLED = 1


class TracedSpan:
    """A span of OpenTelemetry, as the rooms see it. ``durations`` are those of its request."""

    def __init__(self, tracer: Tracer, otel: OtelSpan, durations: Durations) -> None:
        self._tracer = tracer
        self._otel = otel
        self.durations = durations
        self._context = otel.get_span_context()

    @property
    def trace_id(self) -> str:
        """Of the whole trace."""
        return format_trace_id(self._context.trace_id)

    @property
    def is_sampled(self) -> bool:
        """Whether it is exported."""
        return bool(self._context.trace_flags.sampled)

    def child(self, name: str, kind: Kind) -> Span:
        """Begin a span below this one; below one that nobody will see it is that one again."""
        if not self.is_sampled:
            return self
        parent = set_span_in_context(self._otel, Context())
        child = self._tracer.start_span(name, parent, _KINDS[kind])
        if kind == "client":
            child.set_attribute("peer.service", name.partition(" ")[0])
        return TracedSpan(self._tracer, child, self.durations)

    def set(self, name: str, value: Value) -> None:
        """Write an attribute."""
        if self._otel.is_recording():
            self._otel.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        """Write ``error.type`` and the status Error, without a description."""
        if self._otel.is_recording():
            self._otel.set_attribute("error.type", error_type)
            self._otel.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """It is over."""
        self._otel.end()

    def traceparent(self) -> str:
        """Version 00; of the flags only what that defines."""
        flags = self._context.trace_flags & _SAMPLED
        return f"00-{self.trace_id}-{format_span_id(self._context.span_id)}-{flags:02x}"


class OpenTelemetryTracing:
    """Begins the span of each request; ``export`` takes those that are sampled.

    ``ratio``: of all traces so many are sampled, at most as many of those that the caller samples;
    those that it does not are not. ``joins``: an incoming ``traceparent`` is the parent.
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

    def request(
        self, method: str, route: str | None, traceparents: Sequence[str]
    ) -> AbstractContextManager[Span]:
        """The block is one request of ``method`` to a ``route`` (its template), with these ``traceparent`` lines."""
        if isinstance(self._tracer, NoOpTracer):  # OTEL_SDK_DISABLED in the environment.
            return NoTracing().request(method, route, traceparents)
        known = method in _METHODS
        attributes: dict[str, Value] = {"http.request.method": method if known else "_OTHER"}
        if route is not None:
            attributes["http.route"] = route
        name = f"{method if known else 'HTTP'} {route or ''}".rstrip()
        begun = self._tracer.start_span(
            name, self._parent(traceparents), SpanKind.SERVER, attributes
        )
        return within(TracedSpan(self._tracer, begun, {}))

    def _parent(self, traceparents: Sequence[str]) -> Context:
        """The caller's span; nothing when there is none, several, or one that is malformed (W3C 3.2.2)."""
        carrier: Mapping[str, str] = MappingProxyType({})
        if (
            self._joins
            and len(traceparents) == 1
            and len(traceparents[0]) <= _TRACEPARENT_CHARACTERS
        ):
            carrier = {"traceparent": traceparents[0]}
        return self._propagator.extract(carrier, Context())

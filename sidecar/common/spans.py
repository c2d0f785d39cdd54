"""Spans and durations: what a request spends its time on, step by step.

Every room opens its spans here and knows nothing of who collects them (``telemetry/tracing.py``).
While tracing is off, a request has one span without children, which holds its durations alone.
Names and attributes are constants, statuses and sizes, never what a request or a peer said.
"""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, Self

from sidecar.common.errors import Problem

Kind = Literal["internal", "client"]
Value = str | int | float | bool

REASON = "smart_imaging.reason"
OUTCOME = "smart_imaging.outcome"
KIND = "smart_imaging.kind"
STATUS = "http.response.status_code"

Durations = dict[str, float]
"""Seconds that a request has spent, by step (a constant such as ``token``)."""


class Span:
    """A span that has begun; this base class is that of a request while tracing is off.

    As a context manager it is the current span while the block runs, and ends then. An exception is
    recorded with its class, and a ``Problem`` also with its reason. ``durations``: those of its
    request, ``None``: it belongs to none.
    """

    trace_id: str | None = None
    """The id of the trace, 32 hexadecimal digits, or ``None`` without tracing."""
    is_sampled = False
    """Whether the span will be exported."""

    def __init__(self, durations: Durations | None) -> None:
        self.durations = durations

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            if isinstance(error, Problem):
                self.set(REASON, error.reason)
            self.fail(kind.__name__)
        _CURRENT.reset(self._token)
        self.end()

    def child(self, name: str, kind: Kind) -> "Span":
        """Begin a span below this one. Here, where nothing is sampled, it is ``NO_SPAN``."""
        return NO_SPAN

    def set(self, name: str, value: Value) -> None:
        """Set an attribute: a constant, a status or a size."""

    def fail(self, error_type: str) -> None:
        """Set ``error.type``: the class of an exception, a status or another constant."""

    def end(self) -> None:
        """End the span."""

    def traceparent(self) -> str | None:
        """Return the header of requests below this span (W3C Trace Context 3.2), if any."""
        return None


class Tracing:
    """Begin the span of each request; in this base class tracing is off."""

    def request(self, method: str, route: str | None, traceparents: Sequence[str]) -> Span:
        """Begin the span of a request.

        ``route`` is a template. ``traceparents`` are the lines of that header.
        """
        return Span({})


class _NoSpan(Span):
    """A span that records nothing, and is never the current one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass


NO_SPAN = _NoSpan(None)
_CURRENT: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current_span() -> Span:
    """Return the innermost open span. A task begins with that of the task that started it."""
    return _CURRENT.get()


def span(name: str, kind: Kind = "internal") -> Span:
    """Begin a span below the current one, for a block that it measures.

    ``kind`` is ``client`` for a request to a peer, whose name comes first.
    """
    here = _CURRENT.get()
    return here.child(name, kind) if here.is_sampled else NO_SPAN


def trace_headers() -> dict[str, str]:
    """Return the headers by which a peer's spans join ours: ``traceparent``, or none."""
    traceparent = _CURRENT.get().traceparent()
    return {} if traceparent is None else {"traceparent": traceparent}


def exemplar() -> dict[str, str] | None:
    """Return the exemplar (OpenMetrics) of the current trace, if that is exported."""
    here = _CURRENT.get()
    return {"trace_id": here.trace_id} if here.is_sampled and here.trace_id is not None else None


def add_duration(step: str, seconds: float) -> None:
    """Add ``seconds`` to ``step`` of the current request; outside of a request do nothing."""
    durations = _CURRENT.get().durations
    if durations is not None:
        durations[step] = durations.get(step, 0) + seconds


class measure:  # noqa: N801 - a generator would cost 3 µs more, and a request has six
    """Run the block as a span named ``step``, and add its seconds to that step's duration."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        here = _CURRENT.get()
        self._span = here.child(self._step, "internal") if here.is_sampled else None
        if self._span is not None:
            self._span.__enter__()

    def __exit__(self, *raised: Any) -> None:
        if self._span is not None:
            self._span.__exit__(*raised)
        add_duration(self._step, time.perf_counter() - self._started)

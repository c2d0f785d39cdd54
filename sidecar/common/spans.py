"""Spans: the steps of a request with their durations, if tracing is on (``telemetry/tracing.py``).

Each package opens its spans here, whoever collects them. Without tracing that costs the look-up of
a context variable. Names and attributes are constants, statuses and sizes, and no text of a request
or a peer.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal, Protocol

from sidecar.common.errors import Problem

Kind = Literal["internal", "client"]
Value = str | int | float | bool

REASON = "smart_imaging.reason"
OUTCOME = "smart_imaging.outcome"
KIND = "smart_imaging.kind"
STATUS = "http.response.status_code"


class Span(Protocol):
    """A span that has begun."""

    @property
    def trace_id(self) -> str | None:
        """The id of the trace, 32 hexadecimal digits, or ``None`` without tracing."""

    @property
    def is_sampled(self) -> bool:
        """Whether the span will be exported."""

    def child(self, name: str, kind: Kind) -> "Span":
        """Begin a span below this one."""

    def set(self, name: str, value: Value) -> None:
        """Set an attribute: a constant, a status or a size."""

    def fail(self, error_type: str) -> None:
        """Set ``error.type``: the class of an exception, a status or another constant."""

    def end(self) -> None:
        """End the span."""

    def traceparent(self) -> str | None:
        """Return the header of requests below this span (W3C Trace Context 3.2), if any."""


class NoSpan:
    """The span without tracing, which does nothing."""

    trace_id = None
    is_sampled = False

    def child(self, name: str, kind: Kind) -> Span:
        """Return this span."""
        return self

    def set(self, name: str, value: Value) -> None:
        """Do nothing."""

    def fail(self, error_type: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def traceparent(self) -> None:
        """Do nothing."""


class Tracing(Protocol):
    """Begin the span of each request."""

    def request(
        self, method: str, route: str | None, traceparents: Sequence[str]
    ) -> AbstractContextManager[Span]:
        """Open the span of a request while the block runs.

        ``route`` is a template. ``traceparents`` are the lines of that header.
        """


NO_SPAN: Span = NoSpan()
_NOTHING = nullcontext(NO_SPAN)
_CURRENT: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


class NoTracing:
    """Begin no spans."""

    def request(
        self, method: str, route: str | None, traceparents: Sequence[str]
    ) -> AbstractContextManager[Span]:
        """Return the span that does nothing."""
        return _NOTHING


def current_span() -> Span:
    """Return the innermost open span. A task begins with that of the task that started it."""
    return _CURRENT.get()


def span(name: str, kind: Kind = "internal") -> AbstractContextManager[Span]:
    """Open a span below the current one while the block runs.

    ``kind`` is ``client`` for a request to a peer, whose name comes first.
    """
    parent = _CURRENT.get()
    return _NOTHING if parent is NO_SPAN else within(parent.child(name, kind))


@contextmanager
def within(begun: Span) -> Iterator[Span]:
    """Make ``begun`` the current span while the block runs, then end it.

    An exception is recorded with its class, and a ``Problem`` also with its reason.
    """
    token = _CURRENT.set(begun)
    try:
        yield begun
    except BaseException as error:
        if isinstance(error, Problem):
            begun.set(REASON, error.reason)
        begun.fail(type(error).__name__)
        raise
    finally:
        _CURRENT.reset(token)
        begun.end()


def trace_headers() -> dict[str, str]:
    """Return the headers by which a peer's spans join ours: ``traceparent``, or none."""
    traceparent = _CURRENT.get().traceparent()
    return {} if traceparent is None else {"traceparent": traceparent}


def exemplar() -> dict[str, str] | None:
    """Return the exemplar (OpenMetrics) of the current trace, if that is exported."""
    here = _CURRENT.get()
    return {"trace_id": here.trace_id} if here.is_sampled and here.trace_id is not None else None


_DURATIONS: ContextVar[dict[str, float] | None] = ContextVar("durations", default=None)


def start_durations() -> dict[str, float]:
    """Return a new table of seconds by step, which this task and its children fill."""
    durations: dict[str, float] = {}
    _DURATIONS.set(durations)
    return durations


def add_duration(step: str, seconds: float) -> None:
    """Add ``seconds`` to a ``step`` of the request, if there is one. Steps are constants."""
    durations = _DURATIONS.get()
    if durations is not None:
        durations[step] = durations.get(step, 0) + seconds


@contextmanager
def measure(step: str) -> Iterator[None]:
    """Open a span ``step`` while the block runs, and add the seconds to that step."""
    started = time.perf_counter()
    try:
        with span(step):
            yield
    finally:
        add_duration(step, time.perf_counter() - started)

"""Spans and durations: what a request spends its time on, step by step.

Every room opens its spans here and knows nothing of who collects them (``telemetry/tracing.py``).
While tracing is off, a request has one span without children, which holds its durations alone.
Names and attributes are constants, statuses and sizes, never what a request or a peer said.
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


Durations = dict[str, float]
"""Seconds that a request has spent, by step (a constant such as ``token``)."""


class Span(Protocol):
    """One span, begun. ``trace_id``: 32 hexadecimal digits; ``is_sampled``: it will be exported."""

    @property
    def durations(self) -> Durations | None:
        """The durations of the request that the span belongs to; ``None``: it belongs to none."""

    @property
    def trace_id(self) -> str | None:
        """Of the whole trace; ``None``: tracing is off."""

    @property
    def is_sampled(self) -> bool:
        """Whether it is exported."""

    def child(self, name: str, kind: Kind) -> "Span":
        """Begin a span below this one."""

    def set(self, name: str, value: Value) -> None:
        """Write an attribute: a constant, a status or a size."""

    def fail(self, error_type: str) -> None:
        """It failed (``error.type``): the name of an exception's class, a status, or another constant."""

    def end(self) -> None:
        """It is over."""

    def traceparent(self) -> str | None:
        """What a request below this span carries (W3C Trace Context 3.2); ``None``: nothing."""


class NoSpan:
    """The span of a request while tracing is off, and (without ``durations``) of no request."""

    trace_id = None
    is_sampled = False

    def __init__(self, durations: Durations | None) -> None:
        self.durations = durations

    def child(self, name: str, kind: Kind) -> Span:
        """Return this span: it is the request's only one."""
        return self

    def set(self, name: str, value: Value) -> None:
        """Nothing."""

    def fail(self, error_type: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def traceparent(self) -> None:
        """Nothing."""


class Tracing(Protocol):
    """Begins the span of each request."""

    def request(
        self, method: str, route: str | None, traceparents: Sequence[str]
    ) -> AbstractContextManager[Span]:
        """The block is one request of ``method`` to a ``route`` (its template), with these ``traceparent`` lines."""


NO_SPAN = NoSpan(None)
_CURRENT: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


class NoTracing:
    """Tracing is off: a request has durations and nothing else."""

    def request(
        self, method: str, route: str | None, traceparents: Sequence[str]
    ) -> AbstractContextManager[Span]:
        """Begin a request that measures its durations."""
        return within(NoSpan({}))


def current_span() -> Span:
    """The innermost span that is open here; tasks begin with that of whoever started them."""
    return _CURRENT.get()


def span(name: str, kind: Kind = "internal") -> AbstractContextManager[Span]:
    """The block is a span below the current one.

    ``kind`` ``client``: a request to a peer, whose name comes first.
    """
    parent = _CURRENT.get()
    if isinstance(parent, NoSpan):
        return nullcontext(parent)
    return within(parent.child(name, kind))


@contextmanager
def within(begun: Span) -> Iterator[Span]:
    """The block is ``begun``, which ends with it.

    Of an exception its class is told, of a ``Problem`` its reason.
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
    """The header lines by which a peer's spans join ours: ``traceparent`` alone, and nothing when tracing is off."""
    traceparent = _CURRENT.get().traceparent()
    return {} if traceparent is None else {"traceparent": traceparent}


def exemplar() -> dict[str, str] | None:
    """What joins an observation of a histogram to the trace here (OpenMetrics exemplars), if that is exported."""
    here = _CURRENT.get()
    return {"trace_id": here.trace_id} if here.is_sampled and here.trace_id is not None else None


def add_duration(step: str, seconds: float) -> None:
    """Add ``seconds`` to ``step`` of the current request; outside of a request do nothing."""
    durations = _CURRENT.get().durations
    if durations is not None:
        durations[step] = durations.get(step, 0) + seconds


@contextmanager
def measure(step: str) -> Iterator[None]:
    """Run the block as a span named ``step``, and add its seconds to that step's duration."""
    started = time.perf_counter()
    try:
        with span(step):
            yield
    finally:
        add_duration(step, time.perf_counter() - started)

"""How long the steps of one request took, for its line in the log; with tracing on each is a span, too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sidecar.common.spans import span

_DURATIONS: ContextVar[dict[str, float] | None] = ContextVar("durations", default=None)


def start_durations() -> dict[str, float]:
    """Begin a request: return the table (step -> seconds) that is filled from now on in this task and its children."""
    durations: dict[str, float] = {}
    _DURATIONS.set(durations)
    return durations


def add_duration(step: str, seconds: float) -> None:
    """Add ``seconds`` to ``step`` (a constant such as ``token``) of the request; nothing outside a request."""
    durations = _DURATIONS.get()
    if durations is not None:
        durations[step] = durations.get(step, 0) + seconds


@contextmanager
def measure(step: str) -> Iterator[None]:
    """Add the block's seconds to ``step``; it is a span of that name."""
    started = time.perf_counter()
    try:
        with span(step):
            yield
    finally:
        add_duration(step, time.perf_counter() - started)

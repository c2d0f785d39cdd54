"""The spans of a step, and what is written into them."""

from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.common.spans import Durations, Kind, Value, within

Recorded = list[tuple[str, dict[str, Value]]]


class _RecordedSpan:
    """Adds itself, and each span below it, to ``recorded`` when it begins."""

    trace_id = None
    is_sampled = False

    def __init__(self, name: str, recorded: Recorded) -> None:
        self.durations: Durations = {}
        self._recorded = recorded
        self._attributes: dict[str, Value] = {}
        recorded.append((name, self._attributes))

    def child(self, name: str, kind: Kind) -> "_RecordedSpan":
        """Begin a span below this one."""
        return _RecordedSpan(name, self._recorded)

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        self._attributes[name] = value

    def fail(self, error_type: str) -> None:
        """Record the class of an exception."""
        self._attributes["error"] = error_type

    def end(self) -> None:
        """Nothing is kept open."""

    def traceparent(self) -> None:
        """No peer is asked below it."""


@contextmanager
def recorded_spans() -> Iterator[Recorded]:
    """Run the block in a span; return name and attributes of those that begin below it."""
    recorded: Recorded = []
    with within(_RecordedSpan("request", recorded)):
        recorded.clear()
        yield recorded

"""The spans of a step, and what is written into them."""

from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.common.spans import Kind, Span, Value

Recorded = list[tuple[str, dict[str, Value]]]


class _RecordedSpan(Span):
    """Adds itself, and each span below it, to ``recorded`` when it begins."""

    is_sampled = True

    def __init__(self, name: str, recorded: Recorded) -> None:
        super().__init__({})
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


@contextmanager
def recorded_spans() -> Iterator[Recorded]:
    """Run the block in a span; return name and attributes of those that begin below it."""
    recorded: Recorded = []
    with _RecordedSpan("request", recorded):
        recorded.clear()
        yield recorded

"""The spans of a step, and what is written into them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sidecar.common.spans import Kind, Span, Value, within

Recorded = list[tuple[str, dict[str, Value]]]


class _RecordedSpan(Span):
    """Adds itself, and each span below it, to ``recorded`` when it begins."""

    def __init__(self, name: str, recorded: Recorded) -> None:
        super().__init__({})
        self._recorded = recorded
        self._attributes: dict[str, Value] = {}
        recorded.append((name, self._attributes))

    def child(self, name: str, kind: Kind) -> AbstractContextManager[Span]:
        """Open a span below this one while the block runs."""
        return within(_RecordedSpan(name, self._recorded))

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
    with within(_RecordedSpan("request", recorded)):
        recorded.clear()
        yield recorded

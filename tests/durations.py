"""The durations of a request that is none of HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.common.spans import Durations, Tracing


@contextmanager
def durations_of_a_request() -> Iterator[Durations]:
    """Run the block as a request; return the table of its durations, which fills as it runs."""
    with Tracing().request("GET", None, ()) as step:
        assert step.durations is not None
        yield step.durations

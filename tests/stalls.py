"""The longest stall of an event loop: its thread's CPU time between two looks at the network.

Not wall time: on a busy machine that says how long others ran. CPU time, too, grows there (two
threads share one core and its caches, a machine its memory), so it is counted in that of a small
reference work, which is done before, and right after what took long.

All that is ready runs between two looks (asyncio's ``_run_once``), so this is what a request waits
for at least while another one is worked on.

Under a tracer (``make coverage``, a debugger) the time is not the product's: nothing is compared.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

BOUND_SECONDS = 0.05
"""Nothing that a client or a peer sends may hold the loop for longer."""
PROPERTY = "longest_stall"
REFERENCE_SECONDS = 0.013
"""CPU time of the reference work on an idle machine of 2026: one that takes twice as long is half
as fast just now."""


@dataclass
class Stalls:
    """What was seen so far: seconds of CPU time of the ``longest`` one."""

    longest: float = 0.0


def slowness() -> float:
    """How many times as long as usual work takes just now, at least 1: numbers,
    and rows in memory.
    """
    began = time.thread_time()
    sum(number * number for number in range(100_000))
    rows = [{"vr": "LO", "Value": [str(number)]} for number in range(10_000)]
    del rows
    return max(1.0, (time.thread_time() - began) / REFERENCE_SECONDS)


_last_slowness = 1.0, float("-inf")
"""The last result of ``recent_slowness``, and when it was measured."""


def recent_slowness() -> float:
    """Return ``slowness``, at most a second old:
    small tests would be nothing but reference work.
    """
    global _last_slowness  # noqa: PLW0603
    if time.monotonic() - _last_slowness[1] > 1:
        _last_slowness = slowness(), time.monotonic()
    return _last_slowness[0]


@contextlib.contextmanager
def measured(request: pytest.FixtureRequest, *, bound: float = BOUND_SECONDS) -> Iterator[Stalls]:
    """Measure the running loop while the block runs, for the run's summary, too; fail over the
    bound.

    What earlier tests left is collected before. What the tests' modules have in memory is kept from
    the garbage collector for the whole run (``tests.conftest``): neither is the product's.
    """
    seen, loop, before = Stalls(), asyncio.get_running_loop(), recent_slowness()
    run_once = loop._run_once  # type: ignore[attr-defined]

    def timed() -> None:
        began = time.thread_time()
        run_once()
        held = time.thread_time() - began
        if held > BOUND_SECONDS / 2:
            held /= max(before, slowness())
        seen.longest = max(seen.longest, held)

    gc.collect()
    gc.freeze()  # What the test has made is not ours to look through.
    loop._run_once = timed  # type: ignore[attr-defined]
    try:
        yield seen
    finally:
        del loop._run_once  # type: ignore[attr-defined]
        request.node.user_properties.append((PROPERTY, seen.longest))
    if sys.gettrace() is not None:
        return
    assert seen.longest <= bound, f"the loop was held for {seen.longest * 1_000:.0f} ms of CPU time"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The longest stall of all tests that measured one."""
    found = [
        (value, report.nodeid)
        for outcome in ("passed", "failed", "error", "")
        for report in terminalreporter.stats.get(outcome, ())
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and report.when == "teardown"
    ]
    if found:
        longest, where = max(found)
        terminalreporter.write_line(
            f"longest stall of the event loop in {len(found)} measured tests: "
            f"{longest * 1_000:.1f} ms of CPU time ({where})"
        )

"""Run a coroutine as a process does: on uvloop where there is one, until a signal ends it."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sidecar.common.memory import keep_freed_memory, keep_imported

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run ``work`` to its end. Return or raise what it did."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):  # Windows has none.
        from uvloop import new_event_loop as factory  # noqa: PLC0415
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def serve(start: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``start(stop)``. SIGTERM and SIGINT set ``stop``."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await start(stop)

    keep_freed_memory()
    keep_imported()
    run(until_stopped())

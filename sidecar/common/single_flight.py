"""One call at a time per key: whoever asks while it is under way shares its outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from sidecar.common.errors import Unavailable

log = logging.getLogger(__name__)

CALL_SECONDS = 300
"""Longest call. Waits for peers have shorter limits of their own.

This one is for what they do not cover.
"""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Runs ``make`` once for all that ask for one key at the same time.

    The call is a task of its own: a client that leaves cancels only its own waiting, never the call
    that others wait for. ``limit`` bounds the calls under way (not the waiters, who are bounded by
    the server's connections). A call that takes longer than ``seconds`` is cancelled: it brings
    nothing late, and whoever asks then starts anew.
    """

    def __init__(self, *, limit: int = 10_000, seconds: float = CALL_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._running: dict[Key, asyncio.Task[Value]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        """Return what ``make()`` returns, or raise what it raises.

        Raises ``Unavailable`` when ``limit`` calls are under way already, or the call takes longer
        than ``seconds``.
        """
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= self._limit:
                raise Unavailable(
                    "The server is busy; try again.", reason="too_many_calls", retry_after=2
                )
            task = asyncio.ensure_future(self._call(make))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def _call(self, make: Callable[[], Awaitable[Value]]) -> Value:
        end = asyncio.timeout(self._seconds)
        try:
            async with end:
                return await make()
        except TimeoutError:
            if not end.expired():  # Its own, of a shorter limit.
                raise
            log.error(
                "a call that is shared by requests did not end", extra={"seconds": self._seconds}
            )
            raise Unavailable(
                "The server is busy; try again.", reason="call_timeout", retry_after=2
            ) from None

    def _finished(self, key: Key, task: asyncio.Task[Value]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # All waiters may have left: nobody else would look at it.

    async def close(self) -> None:
        """Cancel what is still under way and wait for its end."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

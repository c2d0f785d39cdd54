"""Bounds each step of a long transfer, with one timer for all: a timer for each chunk would cost as much as it."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

_LOOKS_A_LIMIT = 4
_LONGEST_TICK_SECONDS = 1.0


class TransferTimeout:
    """An asynchronous context manager: ``begin`` a step before each wait, and ``TimeoutError`` is raised in its time.

    It is noticed up to a quarter of ``shortest_seconds`` (at most a second) late; ``step`` is then
    the one that was under way. ``is_over``: looked at as often, for another end of the step.
    """

    def __init__(
        self, shortest_seconds: float, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._tick = min(shortest_seconds / _LOOKS_A_LIMIT, _LONGEST_TICK_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._until = float("inf")
        self._is_over = is_over
        self._timer: asyncio.TimerHandle | None = None
        self.step = ""

    def begin(self, step: str, seconds: float) -> None:
        """A wait begins that may take ``seconds``."""
        self.step = step
        self._until = self._loop.time() + seconds

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._tick, self._look)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def _look(self) -> None:
        if self._is_over() or self._loop.time() >= self._until:
            self._limit.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._tick, self._look)

"""Slow archives (SIA-44): a client waits for some seconds, then it is told to come back, and the work goes on.

An archive may need minutes to fetch a study from tape. The first request starts that; a repeated one gets its answer.
What is kept is an opened answer, never a permission: the repeated request has been decided anew before it comes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

from sidecar.common.errors import Unavailable

SAY = "The image archive needs more time for this; repeat the same request later."


class Closable(Protocol):
    """What can be opened and has to be closed."""

    def close(self) -> None:
        """Free what it holds."""


Opened = TypeVar("Opened", bound=Closable)


class Patience(Generic[Opened]):
    """Opens things, each wait bounded by ``patience_seconds``.

    What is not there by then goes on for ``warm_seconds`` in all, at most ``limit`` at once, and then waits for
    ``keep_seconds`` to be taken by whoever opens the same ``key`` again; nobody comes: it is closed. ``limit_of_one``:
    of them for one ``owner``, so that nobody takes the places of all.
    """

    def __init__(
        self,
        *,
        patience_seconds: float,
        warm_seconds: float = 600,
        keep_seconds: float = 60,
        limit: int = 16,
        limit_of_one: int = 4,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._warm_seconds = warm_seconds
        self._keep_seconds = keep_seconds
        self._limit = limit
        self._limit_of_one = limit_of_one
        self._warming: dict[Hashable, asyncio.Task[Opened]] = {}
        self._owners: dict[Hashable, Hashable] = {}

    def __len__(self) -> int:
        return len(self._warming)

    async def open(self, key: Hashable, start: Callable[[], Awaitable[Opened]], *, owner: Hashable = None) -> Opened:
        """Return what ``start()`` opens, or what an earlier call for ``key`` has opened meanwhile.

        Raises ``Unavailable`` (503) when it takes longer than the patience, and what ``start`` raises. A caller that
        is cancelled while it waits ends what it started itself, not what was already warming.
        """
        task = self._warming.get(key)
        own = task is None
        if task is None:
            task = asyncio.ensure_future(self._bounded(start))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience_seconds)
        except asyncio.CancelledError:
            if own:
                self._end(task)
            raise
        if not done:
            if own and not self._keep(key, task, owner):
                self._end(task)
            raise Unavailable(SAY, reason="pacs_warming", retry_after=max(1, round(self._patience_seconds)))
        if not own and self._take(key) is not task:
            # Somebody else has taken it in the meantime.
            return await self.open(key, start, owner=owner)
        return task.result()

    async def _bounded(self, start: Callable[[], Awaitable[Opened]]) -> Opened:
        async with asyncio.timeout(self._warm_seconds):
            return await start()

    def _take(self, key: Hashable) -> "asyncio.Task[Opened] | None":
        self._owners.pop(key, None)
        return self._warming.pop(key, None)

    def _keep(self, key: Hashable, task: "asyncio.Task[Opened]", owner: Hashable) -> bool:
        if key in self._warming or len(self._warming) >= self._limit:
            return False
        if sum(one == owner for one in self._owners.values()) >= self._limit_of_one:
            return False
        self._warming[key], self._owners[key] = task, owner
        task.add_done_callback(lambda done: self._arrived(key, done))
        return True

    def _arrived(self, key: Hashable, task: "asyncio.Task[Opened]") -> None:
        # A failure is kept for a while, too: the repeated request shall hear of it instead of starting anew.
        if not task.cancelled():
            task.exception()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._give_up, key, task)

    def _give_up(self, key: Hashable, task: "asyncio.Task[Opened]") -> None:
        if self._warming.get(key) is task:
            self._take(key)
            self._end(task)

    def _end(self, task: "asyncio.Task[Opened]") -> None:
        """Cancel the task, or close what it has opened."""
        task.cancel()
        task.add_done_callback(_close_result)

    async def close(self) -> None:
        """End everything that is warming or waits to be taken."""
        tasks, self._warming = list(self._warming.values()), {}
        for task in tasks:
            self._end(task)
        await asyncio.gather(*tasks, return_exceptions=True)


def _close_result(task: "asyncio.Task[Opened]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()

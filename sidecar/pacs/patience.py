"""Slow archives (SIA-44): a client waits for some seconds, then it is told to come back, and the work goes on.

An archive may need minutes to fetch a study from tape. The first request starts that; a repeated one gets its answer.
What is kept is an opened answer, never a permission: the repeated request has been decided anew before it comes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sidecar.common.errors import Unavailable

SAY = "The image archive needs more time for this; repeat the same request later."


class Closable(Protocol):
    """What can be opened and has to be closed."""

    def close(self) -> None:
        """Free what it holds."""


Opened = TypeVar("Opened", bound=Closable)


@dataclass(eq=False)
class _Opening(Generic[Opened]):
    """Something that is being opened, or was: for ``owner``, about the patients of ``patient_ids`` (``None``: any)."""

    task: asyncio.Task[Opened]
    owner: Hashable
    patient_ids: Collection[str] | None

    def is_about(self, patient_ids: Collection[str] | None) -> bool:
        """Whether one of these patients is concerned, ``None``: all of them are."""
        if patient_ids is None or self.patient_ids is None:
            return True
        return not frozenset(patient_ids).isdisjoint(self.patient_ids)


class Patience(Generic[Opened]):
    """Opens things, each wait bounded by ``patience_seconds``.

    What is not there by then goes on for ``warm_seconds`` in all, at most ``limit`` at once, and then waits for
    ``keep_seconds`` to be taken by whoever opens the same ``key`` again; nobody comes: it is closed. ``limit_of_one``:
    of them for one ``owner``, so that nobody takes the places of all. The key says for whom it is opened: a patient,
    and by what he is known.
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
        self._warming: dict[Hashable, _Opening[Opened]] = {}
        # Waited for by whoever started them. What is forgotten leaves the set, and is not kept.
        self._started: set[_Opening[Opened]] = set()

    def __len__(self) -> int:
        return len(self._warming)

    async def open(
        self,
        key: Hashable,
        start: Callable[[], Awaitable[Opened]],
        *,
        owner: Hashable = None,
        patient_ids: Collection[str] | None = None,
    ) -> Opened:
        """Return what ``start()`` opens, or what an earlier call for ``key`` has opened meanwhile.

        Raises ``Unavailable`` (503) when it takes longer than the patience, and what ``start`` raises. A caller that
        is cancelled while it waits ends what it started itself, not what was already warming. ``patient_ids``: the
        PatientIDs with which it is forgotten, ``None``: with any.
        """
        opening = self._warming.get(key)
        own = opening is None
        if opening is None:
            opening = _Opening(asyncio.ensure_future(self._bounded(start)), owner, patient_ids)
            self._started.add(opening)
        task = opening.task
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience_seconds)
            if not done and own and not self._keep(key, opening):
                self._end(task)
        except asyncio.CancelledError:
            if own:
                self._end(task)
            raise
        finally:
            self._started.discard(opening)
        if not done:
            raise Unavailable(SAY, reason="pacs_warming", retry_after=max(1, round(self._patience_seconds)))
        if not own and self._warming.get(key) is not opening:
            # Somebody else has taken it in the meantime, or it was forgotten.
            return await self.open(key, start, owner=owner, patient_ids=patient_ids)
        if not own:
            del self._warming[key]
        return task.result()

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """End and close what is kept about the patients of these PatientIDs, ``None``: everything.

        Whoever waits for what it started itself still gets that; it asked before the forgetting.
        """
        for key, opening in list(self._warming.items()):
            if opening.is_about(patient_ids):
                del self._warming[key]
                self._end(opening.task)
        self._started = {opening for opening in self._started if not opening.is_about(patient_ids)}

    async def _bounded(self, start: Callable[[], Awaitable[Opened]]) -> Opened:
        async with asyncio.timeout(self._warm_seconds):
            return await start()

    def _keep(self, key: Hashable, opening: _Opening[Opened]) -> bool:
        if opening not in self._started or key in self._warming or len(self._warming) >= self._limit:
            return False
        if sum(one.owner == opening.owner for one in self._warming.values()) >= self._limit_of_one:
            return False
        self._warming[key] = opening
        opening.task.add_done_callback(lambda done: self._arrived(key, opening))
        return True

    def _arrived(self, key: Hashable, opening: _Opening[Opened]) -> None:
        # A failure is kept for a while, too: the repeated request shall hear of it instead of starting anew.
        if not opening.task.cancelled():
            opening.task.exception()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._give_up, key, opening)

    def _give_up(self, key: Hashable, opening: _Opening[Opened]) -> None:
        if self._warming.get(key) is opening:
            del self._warming[key]
            self._end(opening.task)

    def _end(self, task: "asyncio.Task[Opened]") -> None:
        """Cancel the task, or close what it has opened."""
        task.cancel()
        task.add_done_callback(_close_result)

    async def close(self) -> None:
        """End everything that is warming or waits to be taken."""
        tasks = [opening.task for opening in self._warming.values()]
        self.forget(None)
        await asyncio.gather(*tasks, return_exceptions=True)


def _close_result(task: "asyncio.Task[Opened]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()

"""Slow archives (SIA-44): a client waits for some seconds, then it is told to come back, and the work goes on.

An archive may need minutes to fetch a study from tape. The first request starts that; a repeated
one gets its answer. What is kept is an opened answer, never a permission: the repeated request has
been decided anew before it comes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sidecar.common.errors import Unavailable

_KEPT_OF_ONE_KEY = 2
SAY = "The image archive needs more time for this; repeat the same request later."


class Closable(Protocol):
    """What can be opened and has to be closed."""

    def close(self) -> None:
        """Free what it holds."""


Opened = TypeVar("Opened", bound=Closable)


@dataclass(eq=False)
class _Opening(Generic[Opened]):
    """Something that is being opened, or was: for ``owner``, about the patients of ``patient_ids`` (``None``: any).

    ``heard``: when something of it came last, or it began, in seconds of the event loop's clock.
    """

    owner: Hashable
    patient_ids: Collection[str] | None
    heard: float
    task: asyncio.Task[Opened] = field(init=False)

    def is_about(self, patient_ids: Collection[str] | None) -> bool:
        """Whether one of these patients is concerned, ``None``: all of them are."""
        if patient_ids is None or self.patient_ids is None:
            return True
        return not frozenset(patient_ids).isdisjoint(self.patient_ids)

    def note(self) -> None:
        """Something of it has come."""
        self.heard = asyncio.get_running_loop().time()


class DeferredRequests(Generic[Opened]):
    """Opens things, each wait bounded by ``patience_seconds``.

    What is not there by then goes on for ``warm_seconds`` in all, at most ``limit`` at once, and
    then waits for ``keep_seconds`` to be taken by whoever opens the same ``key`` again; nobody
    comes: it is closed. ``limit_of_one``: of them for one ``owner``, so that nobody takes the
    places of all. The key says for whom it is opened: a patient, and by what he is known.

    An answer may be lost while the archive is well. So nobody depends on an opening that has been
    silent for ``silence_seconds``: the next call for its key starts another one beside it, and
    takes what comes first. The archive may also be slow, so the silent one goes on until then. Of
    one key the first and the newest are kept.
    """

    def __init__(
        self,
        *,
        patience_seconds: float,
        warm_seconds: float = 600,
        keep_seconds: float = 60,
        limit: int = 16,
        limit_of_one: int = 4,
        silence_seconds: float = 30,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._warm_seconds = warm_seconds
        self._keep_seconds = keep_seconds
        self._limit = limit
        self._limit_of_one = limit_of_one
        self._silence_seconds = silence_seconds
        # The oldest of a key comes first.
        self._warming: dict[Hashable, list[_Opening[Opened]]] = {}
        # Waited for by whoever started them. What is forgotten leaves the set, and is not kept.
        self._started: set[_Opening[Opened]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._warming.values()))

    async def open(
        self,
        key: Hashable,
        start: Callable[[Callable[[], None]], Awaitable[Opened]],
        *,
        owner: Hashable = None,
        patient_ids: Collection[str] | None = None,
    ) -> Opened:
        """Return what ``start(note)`` opens, or what an earlier call for ``key`` has opened meanwhile.

        ``start`` calls ``note()`` whenever a part has come: it is not silent then. Raises
        ``Unavailable`` (503) when it takes longer than the patience, and what ``start`` raises. A
        caller that is cancelled while it waits ends what it started itself, not what was already
        warming. ``patient_ids``: the PatientIDs with which it is forgotten, ``None``: with any.
        """
        openings = list(self._warming.get(key, ()))
        own = None
        if not openings or self._is_silent(openings[-1]):
            own = self._start(start, owner, patient_ids)
            openings.append(own)
        try:
            found = await self._first(key, openings, own)
            if found is None and openings and own is not None and not self._keep(key, own):
                self._end(own.task)
        except asyncio.CancelledError:
            if own is not None:
                self._end(own.task)
            raise
        finally:
            if own is not None:
                self._started.discard(own)
        if found is not None:
            return self._take(key, found, own)
        if openings:
            raise Unavailable(
                SAY, reason="pacs_warming", retry_after=max(1, round(self._patience_seconds))
            )
        return await self.open(key, start, owner=owner, patient_ids=patient_ids)

    async def _first(
        self, key: Hashable, openings: list[_Opening[Opened]], own: _Opening[Opened] | None
    ) -> _Opening[Opened] | None:
        """Return the first of the ``openings`` that ends and can be had, ``None`` when the patience ends before.

        What somebody else has taken in the meantime, or was forgotten, is removed from the list.
        """
        until = asyncio.get_running_loop().time() + self._patience_seconds
        while openings:
            left = until - asyncio.get_running_loop().time()
            tasks = {one.task for one in openings}
            done, _ = await asyncio.wait(
                tasks, timeout=max(0, left), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return None
            for one in [one for one in openings if one.task in done]:
                if one is own or one in self._warming.get(key, ()):
                    return one
                openings.remove(one)
        return None

    def _take(self, key: Hashable, found: _Opening[Opened], own: _Opening[Opened] | None) -> Opened:
        """Return what was opened, or raise its failure.

        What else there is of the key is older or silent: it ends.
        """
        if own is not None and own is not found:
            self._end(own.task)
        if found is not own:
            self._remove(key, found)
        opened = found.task.result()
        for other in self._warming.pop(key, []):
            self._end(other.task)
        return opened

    def _start(
        self,
        start: Callable[[Callable[[], None]], Awaitable[Opened]],
        owner: Hashable,
        patient_ids: Collection[str] | None,
    ) -> _Opening[Opened]:
        opening: _Opening[Opened] = _Opening(owner, patient_ids, asyncio.get_running_loop().time())
        opening.task = asyncio.ensure_future(self._bounded(lambda: start(opening.note)))
        self._started.add(opening)
        return opening

    def _is_silent(self, opening: _Opening[Opened]) -> bool:
        silence = asyncio.get_running_loop().time() - opening.heard
        return silence >= self._silence_seconds and not opening.task.done()

    def _remove(self, key: Hashable, opening: _Opening[Opened]) -> None:
        left = [one for one in self._warming.pop(key, []) if one is not opening]
        if left:
            self._warming[key] = left

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """End and close what is kept about the patients of these PatientIDs, ``None``: everything.

        Whoever waits for what it started itself still gets that; it asked before the forgetting.
        """
        for key, openings in list(self._warming.items()):
            for opening in openings:
                if opening.is_about(patient_ids):
                    self._remove(key, opening)
                    self._end(opening.task)
        self._started = {opening for opening in self._started if not opening.is_about(patient_ids)}

    async def _bounded(self, start: Callable[[], Awaitable[Opened]]) -> Opened:
        async with asyncio.timeout(self._warm_seconds):
            return await start()

    def _keep(self, key: Hashable, opening: _Opening[Opened]) -> bool:
        if opening not in self._started:
            return False
        openings = self._warming.get(key, [])
        if openings and not self._is_silent(openings[-1]):
            return False  # Somebody else has started one in the meantime.
        kept = [one for some in self._warming.values() for one in some]
        if len(openings) < _KEPT_OF_ONE_KEY:
            if (
                len(kept) >= self._limit
                or sum(one.owner == opening.owner for one in kept) >= self._limit_of_one
            ):
                return False
        else:
            self._end(openings.pop().task)
        self._warming[key] = [*openings, opening]
        opening.task.add_done_callback(lambda done: self._arrived(key, opening))
        return True

    def _arrived(self, key: Hashable, opening: _Opening[Opened]) -> None:
        # A failure is kept for a while, too: the repeated request shall hear of it instead of
        # starting anew.
        if not opening.task.cancelled():
            opening.task.exception()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._give_up, key, opening)

    def _give_up(self, key: Hashable, opening: _Opening[Opened]) -> None:
        if opening in self._warming.get(key, ()):
            self._remove(key, opening)
            self._end(opening.task)

    def _end(self, task: "asyncio.Task[Opened]") -> None:
        """Cancel the task, or close what it has opened."""
        task.cancel()
        task.add_done_callback(_close_result)

    async def close(self) -> None:
        """End everything that is warming or waits to be taken."""
        tasks = [opening.task for openings in self._warming.values() for opening in openings]
        self.forget(None)
        await asyncio.gather(*tasks, return_exceptions=True)


def _close_result(task: "asyncio.Task[Opened]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()

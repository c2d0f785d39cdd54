"""Defer requests that a slow archive does not answer in time (SIA-44).

An archive may need minutes to fetch a study from tape. The first request starts that, waits for
some seconds, and gets 503; the work goes on in the background. A repeated request gets its result.
The result is an opened answer, never a permission: the repeated request is decided anew before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sidecar.common.errors import Unavailable

_OPENINGS_PER_KEY = 2

Opened = TypeVar("Opened")


@dataclass(eq=False)
class _Opening(Generic[Opened]):
    """A request that is being opened, or was, for ``owner``.

    ``patient_ids``: the patients that it concerns (``None``: any). ``heard``: time of its last
    part, or of its beginning, in seconds of the event loop's clock.
    """

    owner: Hashable
    patient_ids: Collection[str] | None
    heard: float
    task: asyncio.Task[Opened] = field(init=False)

    def is_about(self, patient_ids: Collection[str] | None) -> bool:
        """Return whether it concerns one of these patients (``None``: all)."""
        if patient_ids is None or self.patient_ids is None:
            return True
        return not frozenset(patient_ids).isdisjoint(self.patient_ids)

    def note(self) -> None:
        """Record that a part of it has come."""
        self.heard = asyncio.get_running_loop().time()


class DeferredRequests(Generic[Opened]):
    """Open requests with a bounded wait, and continue in the background what takes longer.

    A caller waits for ``patience_seconds``. The work may take ``warm_seconds`` in all. Its result
    waits for ``keep_seconds`` for the next caller with the same ``key``; then it is passed to
    ``close``. The key contains the patient and his identifiers. At most ``limit`` openings run in
    the background, and ``limit_per_owner`` for each ``owner``. Results that wait count, too.

    An answer may be lost while the archive is well. So when an opening has been silent for
    ``silence_seconds``, the next call for its key starts a second one, and takes the first result.
    The silent one continues until then: the archive may be slow. Each key has the first and the
    newest opening.
    """

    def __init__(
        self,
        close: Callable[[Opened], None],
        *,
        patience_seconds: float,
        warm_seconds: float = 600,
        keep_seconds: float = 60,
        limit: int = 16,
        limit_per_owner: int = 4,
        silence_seconds: float = 30,
    ) -> None:
        self._close = close
        self._patience_seconds = patience_seconds
        self._warm_seconds = warm_seconds
        self._keep_seconds = keep_seconds
        self._limit = limit
        self._limit_per_owner = limit_per_owner
        self._silence_seconds = silence_seconds
        # The oldest of each key comes first.
        self._deferred: dict[Hashable, list[_Opening[Opened]]] = {}
        # Their callers wait for them. A forgotten opening leaves the set, and is not deferred.
        self._started: set[_Opening[Opened]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._deferred.values()))

    async def open(
        self,
        key: Hashable,
        start: Callable[[Callable[[], None]], Awaitable[Opened]],
        *,
        owner: Hashable = None,
        patient_ids: Collection[str] | None = None,
    ) -> Opened:
        """Return what ``start(note)`` opens, or what an earlier call for ``key`` has opened.

        ``start`` calls ``note()`` for each part that has come. ``patient_ids``: the PatientIDs with
        which it is forgotten (``None``: with any). Raises ``Unavailable`` (503) after
        ``patience_seconds``, and what ``start`` raises. A caller that is cancelled ends what it
        started itself, not what was already deferred.
        """
        openings = list(self._deferred.get(key, ()))
        own = None
        if not openings or self._is_silent(openings[-1]):
            own = self._start(start, owner, patient_ids)
            openings.append(own)
        try:
            first = await self._first(key, openings, own)
            if first is None and openings and own is not None and not self._defer(key, own):
                self._end(own)
        except asyncio.CancelledError:
            if own is not None:
                self._end(own)
            raise
        finally:
            if own is not None:
                self._started.discard(own)
        if first is not None:
            return self._take(key, first, own)
        if openings:
            raise Unavailable(
                "The image archive needs more time for this; repeat the same request later.",
                reason="pacs_warming",
                retry_after=max(1, round(self._patience_seconds)),
            )
        return await self.open(key, start, owner=owner, patient_ids=patient_ids)

    async def _first(
        self, key: Hashable, openings: list[_Opening[Opened]], own: _Opening[Opened] | None
    ) -> _Opening[Opened] | None:
        """Return the first of the ``openings`` that ends, ``None`` after ``patience_seconds``.

        Openings that another caller took, or that were forgotten, are removed from the list.
        """
        until = asyncio.get_running_loop().time() + self._patience_seconds
        while openings:
            left = until - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait(
                {opening.task for opening in openings},
                timeout=max(0, left),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                return None
            for opening in [opening for opening in openings if opening.task in done]:
                if opening is own or opening in self._deferred.get(key, ()):
                    return opening
                openings.remove(opening)
        return None

    def _take(self, key: Hashable, first: _Opening[Opened], own: _Opening[Opened] | None) -> Opened:
        """Return what was opened, or raise its failure. End the other openings of the key."""
        if own is not None and own is not first:
            self._end(own)
        if first is not own:
            self._remove(key, first)
        opened = first.task.result()
        for other in self._deferred.pop(key, []):
            self._end(other)
        return opened

    def _start(
        self,
        start: Callable[[Callable[[], None]], Awaitable[Opened]],
        owner: Hashable,
        patient_ids: Collection[str] | None,
    ) -> _Opening[Opened]:
        async def bounded() -> Opened:
            async with asyncio.timeout(self._warm_seconds):
                return await start(opening.note)

        opening: _Opening[Opened] = _Opening(owner, patient_ids, asyncio.get_running_loop().time())
        opening.task = asyncio.create_task(bounded())
        self._started.add(opening)
        return opening

    def _is_silent(self, opening: _Opening[Opened]) -> bool:
        silence = asyncio.get_running_loop().time() - opening.heard
        return silence >= self._silence_seconds and not opening.task.done()

    def _defer(self, key: Hashable, opening: _Opening[Opened]) -> bool:
        """Continue ``opening`` in the background; return ``False`` if a limit is reached."""
        if opening not in self._started:
            return False
        openings = self._deferred.get(key, [])
        if openings and not self._is_silent(openings[-1]):
            return False  # Another caller has started one in the meantime.
        if len(openings) == _OPENINGS_PER_KEY:
            self._end(openings.pop())
        elif not self._make_room(opening.owner):
            return False
        self._deferred[key] = [*openings, opening]
        opening.task.add_done_callback(lambda _: self._opened(key, opening))
        return True

    def _make_room(self, owner: Hashable) -> bool:
        """Return whether another opening of ``owner`` may run in the background.

        At a limit the owner's oldest result that nobody has taken makes room. It could stand in the
        way of what its next caller has to ask first, each time until that caller gives up.
        """
        deferred = [(key, other) for key, others in self._deferred.items() for other in others]
        own = [(key, other) for key, other in deferred if other.owner == owner]
        if len(deferred) < self._limit and len(own) < self._limit_per_owner:
            return True
        for key, other in own:
            if other.task.done():
                self._give_up(key, other)
                return True
        return False

    def _opened(self, key: Hashable, opening: _Opening[Opened]) -> None:
        # A failure waits, too: a repeated request gets it instead of starting anew.
        if not opening.task.cancelled():
            opening.task.exception()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._give_up, key, opening)

    def _give_up(self, key: Hashable, opening: _Opening[Opened]) -> None:
        if opening in self._deferred.get(key, ()):
            self._remove(key, opening)
            self._end(opening)

    def _remove(self, key: Hashable, opening: _Opening[Opened]) -> None:
        left = [other for other in self._deferred.pop(key, []) if other is not opening]
        if left:
            self._deferred[key] = left

    def _end(self, opening: _Opening[Opened]) -> None:
        """Cancel the opening, or close what it has opened."""
        opening.task.cancel()
        opening.task.add_done_callback(self._close_result)

    def _close_result(self, task: "asyncio.Task[Opened]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._close(task.result())

    def forget(self, patient_ids: Collection[str] | None) -> None:
        """End and close what concerns the patients of these PatientIDs (``None``: everything).

        A caller that waits for what it started itself still gets that: it asked before.
        """
        for key, openings in list(self._deferred.items()):
            for opening in openings:
                if opening.is_about(patient_ids):
                    self._remove(key, opening)
                    self._end(opening)
        self._started = {opening for opening in self._started if not opening.is_about(patient_ids)}

    async def close(self) -> None:
        """End everything that runs in the background or waits to be taken."""
        tasks = [opening.task for openings in self._deferred.values() for opening in openings]
        self.forget(None)
        await asyncio.gather(*tasks, return_exceptions=True)

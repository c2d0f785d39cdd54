"""From the spool to the repository: in order, again and again until it is taken, never faster than it takes them."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime

from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.repository import MOST_BATCH_BYTES, Outcome, Repository, Undelivered
from sidecar.telemetry.spool_reader import SpoolReader, Waiting

log = logging.getLogger(__name__)

FINISH_SECONDS = 5
"""How long the end of the process may wait for what is left; it stays on disk."""
LONGEST_PAUSE_SECONDS = 60
_FIRST_PAUSE_SECONDS = 0.5
_TRIES_ALONE = 5  # Before newer ones are sent with it.
_MOST_DELIVERED = 50_000  # Newer ones that may be ahead of one that fails; they are remembered.
_MOST_TRIES = 20  # With the pauses: a quarter of an hour.
_LOOK_SECONDS = 1
_COUNT_SECONDS = 1


class Delivery:
    """Delivers what waits, up to ``batch`` events a request."""

    def __init__(self, reader: SpoolReader, repository: Repository, metrics: Metrics, *, batch: int) -> None:
        self._reader = reader
        self._repository = repository
        self._metrics = metrics
        self._batch = self._most = batch
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._failures = 0
        self._holds = self._retired = False
        # Taken already, but for one before them that was not; and how often an event failed.
        self._delivered: dict[tuple[str, int], Waiting] = {}
        self._tries: dict[tuple[str, int], int] = {}
        self._counted = -float(_COUNT_SECONDS)

    def retire(self) -> None:
        """Another generation delivers from now on: begin no further request."""
        self._retired = True
        self._ending.set()
        self._wake.set()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs, and for a few seconds what is left then."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._ending.set()
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task, FINISH_SECONDS)

    async def _run(self) -> None:
        try:
            await self._deliver()
        finally:
            self._reader.close()

    async def _deliver(self) -> None:
        while not self._retired:
            self._wake.clear()
            try:
                pause = await self._step() if self._has_lock() else _LOOK_SECONDS
            except OSError as error:
                pause = self._failed(error.strerror or "spool", None)
            except Exception:  # Whatever it is: what waits must not wait for a restart.
                log.exception("audit events wait: an internal error")
                pause = self._failed("internal_error", None)
            if self._ending.is_set() and pause:
                return  # All is told, or it cannot be told now.
            if pause and self._failures:
                await self._pause(pause)
            elif pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)

    def _has_lock(self) -> bool:
        """Whether this one delivers, and no other generation or process."""
        self._holds = self._holds or self._reader.lock()
        return self._holds

    async def _step(self) -> float:
        """Deliver one batch; return for how many seconds there is nothing to do."""
        self._count()
        untold = self._untold()
        if not untold:
            self._settle()
            self._tries.clear()
            self._reader.tidy()
            return _LOOK_SECONDS
        try:
            outcomes = await self._repository.deliver(untold)
        except Undelivered as failure:
            self._note_try(untold[0], others_taken=False)
            if failure.may_be_there:  # A server that is slow with many stores them each time anew.
                self._most = max(1, self._most // 2)
            return self._failed(failure.reason, failure.retry_after)
        again = self._take(untold, outcomes)
        self._settle()
        if again:
            return self._failed("some of a batch", None)
        if self._failures:
            log.warning("the audit repository takes events again")
        self._failures = 0
        self._most = min(self._batch, self._most * 2)
        return 0

    def _untold(self) -> list[Waiting]:
        """Return the next ones to tell: nothing newer before one that fails, unless it fails long."""
        window = self._reader.next(self._most, MOST_BATCH_BYTES)
        untold = [one for one in window if one.place not in self._delivered]
        holds_up = not untold or self._tries.get(untold[0].place, 0) >= _TRIES_ALONE
        if window and holds_up and len(self._delivered) < _MOST_DELIVERED:
            # With company it shows whether the repository takes nothing, or not these events.
            most = max(self._most, min(2, self._batch))
            untold = self._reader.next(max(1, most // 2), MOST_BATCH_BYTES // 2, excluding=self._delivered)
            known = self._delivered.keys() | self._tries.keys() | {one.place for one in untold}
            if company := most - len(untold):
                untold += self._reader.next(company, MOST_BATCH_BYTES // 2, excluding=known)
        return untold

    def _settle(self) -> None:
        """Need no more know of what was delivered before the oldest one that was not."""
        left = self._reader.next(1, 1, excluding=self._delivered)
        told = sorted(place for place in self._delivered if not left or place < left[0].place)
        if told:
            self._reader.done(self._delivered[place] for place in told)
            for place in told:
                del self._delivered[place]

    def _take(self, events: Sequence[Waiting], outcomes: Sequence[Outcome]) -> bool:
        """Note what became of each; return whether some must be tried again."""
        again, others_taken = False, Outcome.DELIVERED in outcomes
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome is Outcome.AGAIN and self._note_try(event, others_taken=others_taken) >= _MOST_TRIES:
                outcome = Outcome.REJECTED  # noqa: PLW2901
            if outcome is Outcome.REJECTED:
                try:
                    self._reader.reject(event)
                except OSError as error:  # It alone is tried again.
                    log.error("rejected.jsonl cannot be written", extra={"detail": error.strerror})
                    outcome = Outcome.AGAIN  # noqa: PLW2901
                else:
                    log.error("the audit repository will not take an event: it is kept in rejected.jsonl")
            if outcome is Outcome.AGAIN:
                again = True
                continue
            self._delivered[event.place] = replace(event, line=b"")
            self._tries.pop(event.place, None)
            self._metrics.observe_audit(outcome.value)
        return again

    def _note_try(self, event: Waiting, *, others_taken: bool) -> int:
        """Return how often it failed; while no others are taken that says little of it, and counts up to a few only."""
        tries = self._tries.get(event.place, 0)
        if others_taken or tries < _TRIES_ALONE:
            tries += 1
        self._tries[event.place] = tries
        return tries

    def _failed(self, reason: str, retry_after: float | None) -> float:
        """Return after how many seconds to try again: longer each time, and not all replicas at once."""
        if not self._failures:
            log.error("audit events wait: the repository does not take them", extra={"detail": reason})
        self._failures += 1
        self._metrics.observe_audit("undelivered")
        pause = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10))
        if retry_after is not None:
            pause = max(pause, min(retry_after, LONGEST_PAUSE_SECONDS))
        return pause * random.uniform(0.75, 1)  # noqa: S311

    async def _pause(self, seconds: float) -> None:
        """Wait, but not behind the end; those who watch the queue see it meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._ending.is_set() and (left := until - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), min(left, max(_COUNT_SECONDS, 0.01)))
            with contextlib.suppress(OSError):
                self._count()

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._holds and now - self._counted >= _COUNT_SECONDS:
            self._counted = now
            self._metrics.audit_queue_length.set(self._reader.waiting())
            self._metrics.audit_queue_age.set(_age(self._reader.next(1, 1)))


def _age(waiting: Sequence[Waiting]) -> float:
    """How long the oldest has been waiting, in seconds."""
    if not waiting:
        return 0
    try:
        recorded = datetime.fromisoformat(json.loads(waiting[0].line)["recorded"])
        return max(0.0, (datetime.now(recorded.tzinfo) - recorded).total_seconds())
    except (ValueError, KeyError, TypeError):
        return 0

"""From the spool to the repository: in order, again and again until it is taken, never faster than it takes them.

One that fails while others are taken is put aside (``retry_queue.py``): it is tried by itself and
holds nothing up. Whether others are taken shows in the answer to a batch; where whole requests
fail, they get smaller until the oldest event is alone, and then another one is tried beside it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Sequence

from sidecar.audit.repository import Outcome, Refused, Repository, Undelivered
from sidecar.audit.retry_queue import MOST_BYTES as MOST_ASIDE_BYTES
from sidecar.audit.retry_queue import RetryEntry, RetryQueue
from sidecar.audit.spool_reader import SpoolReader, Waiting
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FINISH_SECONDS = 5
"""How long the end of the process may wait for what is left; it stays on disk."""
LONGEST_PAUSE_SECONDS = 60
MOST_BATCH_BYTES = 2**20
_FIRST_PAUSE_SECONDS = 0.5
_TRIES_ALONE = 1  # Before another one shows whether it is this one, or the server.
_MOST_TRIES = 20  # Of one that is aside. With the pauses: a quarter of an hour.
_ASIDE_SECONDS = 1  # How long those may have between two batches.
_GROW_AFTER = 4  # Requests that succeeded in a row.
_LOOK_SECONDS = 1
_COUNT_SECONDS = 1


class Delivery:
    """Delivers what waits, up to ``batch`` events a request.

    Of those aside at most ``aside_bytes``.
    """

    def __init__(
        self,
        reader: SpoolReader,
        repository: Repository,
        metrics: Metrics,
        *,
        batch: int,
        aside_bytes: int = MOST_ASIDE_BYTES,
    ) -> None:
        self._reader = reader
        self._aside = RetryQueue(reader.folder, _pause_seconds, most_bytes=aside_bytes)
        self._repository = repository
        self._metrics = metrics
        self._batch = self._most = batch
        self._successes = 0
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._failures = self._failures_alone = self._in_a_row = 0
        self._taken = 0
        self._reason = ""
        self._holds = self._retired = self._is_unkept = self._is_barred = False
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
            if not self._retired:
                self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        with contextlib.suppress(OSError):
            if self._holds and (left := self._reader.waiting() + len(self._aside)):
                detail = f"{left} in {self._reader.folder}"
                log.warning(
                    "audit events are left for the next process that uses their folder",
                    extra={"detail": detail},
                )
        self._metrics.observe_queue(0, 0)  # The next generation may have none that would say it.

    async def _run(self) -> None:
        try:
            await self._deliver()
        finally:
            if self._holds:
                self._keep()
            self._reader.close()

    async def _deliver(self) -> None:
        while not self._retired:
            self._wake.clear()
            try:
                pause = await self._step() if self._has_lock() else _LOOK_SECONDS
            except OSError as error:
                self._is_barred = not self._holds  # What waits must be seen all the same.
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
        if not self._holds and self._reader.lock():
            self._aside.load()
            self._holds = True
        return self._holds

    async def _step(self) -> float:
        """Deliver one batch; return for how many seconds there is nothing to do."""
        self._count()
        if not self._failures:
            await self._try_aside()
        # No more than may be put aside, should they all but one fail.
        events = self._reader.next(max(1, min(self._most, self._aside.room)), MOST_BATCH_BYTES)
        if not events or self._retired:
            return self._nothing_waits()
        try:
            outcomes = await self._repository.deliver(events)
        except Refused:  # Which of them, or whether it is their number, shows in each half.
            self._get_smaller(events)
            return 0
        except Undelivered as failure:
            if await self._goes_on(events, failure.retry_after):
                return 0
            return self._failed(failure.reason, failure.retry_after)
        if Outcome.AGAIN in outcomes and Outcome.DELIVERED not in outcomes:
            self._get_smaller(events)
            return self._failed("all of a batch", None)
        self._take(events, outcomes)
        return 0

    def _nothing_waits(self) -> float:
        self._failures = 0
        self._keep()
        self._reader.tidy(needed=self._aside.unsaved)
        self._keep()
        return min(_LOOK_SECONDS, max(self._aside.wait_seconds(), 0.001))

    def _get_smaller(self, events: Sequence[Waiting]) -> None:
        """The server may store what it does not answer for, be slow with many, or fail with one of them."""
        self._most = max(1, len(events) // 2)
        self._successes = 0

    def _take(self, events: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
        """Note what became of each: some at least were taken, or will never be."""
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome is Outcome.AGAIN or (
                outcome is Outcome.REJECTED and not self._reject(event)
            ):
                self._put_aside(event)
            else:
                self._taken += outcome is Outcome.DELIVERED
                self._metrics.observe_audit(outcome.value)
        self._reader.done(events)
        self._keep()
        if self._failures:
            log.warning("the audit repository takes events again")
        self._failures = self._failures_alone = self._in_a_row = 0
        self._successes += 1
        if self._successes >= _GROW_AFTER:
            self._most, self._successes = min(self._batch, self._most * 2), 0

    async def _goes_on(self, events: Sequence[Waiting], retry_after: float | None) -> bool:
        """Whether to go on at once behind a request that failed."""
        self._in_a_row += 1
        # One of several servers behind one address may be down.
        if retry_after is None and self._in_a_row == 1:
            self._metrics.observe_audit("undelivered")
            return True
        self._get_smaller(events)
        if len(events) == 1:
            return await self._another_is_taken()
        # Until one is alone: if it is one of them, it must not take long to find which, and they
        # are few requests.
        self._metrics.observe_audit("undelivered")
        return retry_after is None and not self._failures

    async def _another_is_taken(self) -> bool:
        """Whether the server takes one of those behind the oldest.

        Then the oldest, which it did not, is put aside.
        """
        self._failures_alone += 1
        if self._failures_alone <= _TRIES_ALONE or self._retired:
            return False
        # The next one first, so that nothing is between them; but that may fail as well, and those
        # behind it.
        distance = 2 ** min(self._failures_alone - _TRIES_ALONE - 1, 10)
        events = self._reader.next(1 + min(distance, max(1, self._aside.room)), MOST_BATCH_BYTES)
        if len(events) < 2:  # Then one of those aside may show it.
            taken = self._taken
            await self._try_aside()
            outcomes = [Outcome.AGAIN] if self._taken > taken else []
        else:
            try:
                outcomes = [Outcome.AGAIN] * (len(events) - 1) + await self._repository.deliver(
                    events[-1:]
                )
            except Undelivered:
                return False
            # That it will never have one says nothing of the others.
            if outcomes[-1] is not Outcome.DELIVERED:
                return False
        if not outcomes:
            return False
        if not self._aside.room:
            self._give_up(self._aside.most_tried)
        self._take(events, outcomes)
        return True

    def _put_aside(self, event: Waiting) -> None:
        if not event.is_json and self._reject(event):  # It could not be read from the file again.
            self._metrics.observe_audit(Outcome.REJECTED.value)
            return
        if not len(self._aside):
            log.warning(
                "the audit repository takes other events, but not some: each of those is tried alone"
            )
        self._aside.add(event)

    async def _try_aside(self) -> None:
        """Tell those that are due, each alone; they must not take all the time."""
        clock = asyncio.get_running_loop().time
        until = clock() + _ASIDE_SECONDS
        for one in self._aside.due():
            if self._retired or clock() >= until:
                break
            began, wait = clock(), 0.0
            try:
                (outcome,) = await self._repository.deliver([one.event])
            except Undelivered as failure:
                self._metrics.observe_audit("undelivered")
                outcome, wait = Outcome.AGAIN, min(failure.retry_after or 0, LONGEST_PAUSE_SECONDS)
            if outcome is Outcome.DELIVERED:
                self._aside.remove(one)
                self._taken += 1
                self._metrics.observe_audit(outcome.value)
                continue
            tries = self._aside.failed(one, taken=self._taken, wait=wait, seconds=clock() - began)
            if outcome is Outcome.REJECTED or tries >= _MOST_TRIES:
                self._give_up(one)
        self._keep()

    def _give_up(self, one: RetryEntry) -> None:
        """It stays aside when it cannot be kept for people to look at."""
        if self._reject(one.event):
            self._aside.remove(one)
            self._metrics.observe_audit(Outcome.REJECTED.value)

    def _reject(self, event: Waiting) -> bool:
        try:
            self._reader.reject(event)
        except OSError as error:
            log.error("rejected.jsonl cannot be written", extra={"detail": error.strerror})
            return False
        detail = self._repository.refusal or "not in many tries"
        log.error(
            "the audit repository will not take an event: it is kept in rejected.jsonl",
            extra={"detail": detail},
        )
        return True

    def _keep(self) -> None:
        """Have what was delivered outlive this process.

        On a full disk that must wait, and is known here alone.
        """
        try:
            try:
                self._aside.save()
            finally:
                self._reader.keep(needed=self._aside.unsaved)
        except OSError as error:
            if not self._is_unkept:
                log.error(
                    "what the audit repository took cannot be noted",
                    extra={"detail": error.strerror},
                )
            self._is_unkept = True
        else:
            self._is_unkept = False

    def _failed(self, reason: str, retry_after: float | None) -> float:
        """Return after how many seconds to try again: longer each time, and not all replicas at once."""
        if not self._failures or reason != self._reason:
            log.error(
                "audit events wait: the repository does not take them", extra={"detail": reason}
            )
        self._reason = reason
        self._failures += 1
        self._metrics.observe_audit("undelivered")
        pause = _pause_seconds(self._failures)
        return pause if retry_after is None else max(pause, min(retry_after, LONGEST_PAUSE_SECONDS))

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
        if (self._holds or self._is_barred) and now - self._counted >= _COUNT_SECONDS:
            self._counted = now
            oldest = (self._aside.oldest, *self._reader.next(1, 1))
            age = max((one.age_seconds() for one in oldest if one is not None), default=0.0)
            self._metrics.observe_queue(self._reader.waiting() + len(self._aside), age)


def _pause_seconds(failures: int) -> float:
    """How long to wait after so many in a row: longer each time, and not all replicas alike."""
    pause = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return pause * random.uniform(0.75, 1)  # noqa: S311

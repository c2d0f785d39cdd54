"""Deliver events from the spool to the repository, in order, until they are taken.

An event that fails while others are taken is put aside (``retry_queue.py``) and tried alone. The
response to a batch shows whether others are taken. When whole requests fail, batches get smaller
until the oldest event is alone; then another event is tried beside it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Sequence

from sidecar.audit.repository import DeliveryOutcome, Refused, Repository, Undelivered
from sidecar.audit.retry_queue import MOST_BYTES as MOST_ASIDE_BYTES
from sidecar.audit.retry_queue import RetryEntry, RetryQueue
from sidecar.audit.spool_reader import SpoolReader, Waiting
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FINISH_SECONDS = 5
"""Seconds that the end of the process may wait for events, which stay on disk."""
LONGEST_PAUSE_SECONDS = 60
MOST_BATCH_BYTES = 2**20
_FIRST_PAUSE_SECONDS = 0.5
_TRIES_ALONE = 1  # Tries before another event shows whether the event or the server fails.
_MOST_TRIES = 20  # Of an event in the retry queue: a quarter of an hour with the pauses.
_ASIDE_SECONDS = 1  # For the retry queue between two batches.
_GROW_AFTER = 4  # Successful requests in a row, before batches grow.
_LOOK_SECONDS = 1
_COUNT_SECONDS = 1


class Delivery:
    """Deliver up to ``batch`` events a request. The retry queue has at most ``aside_bytes``."""

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
        """Begin no further request, because another generation delivers."""
        self._retired = True
        self._ending.set()
        self._wake.set()

    def wake(self) -> None:
        """Look for new events."""
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs, and afterwards for ``FINISH_SECONDS``."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._ending.set()
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task, FINISH_SECONDS)
            if not self._retired:
                self._log_what_is_left()

    def _log_what_is_left(self) -> None:
        with contextlib.suppress(OSError):
            if self._holds and (left := self._reader.waiting() + len(self._aside)):
                detail = f"{left} in {self._reader.folder}"
                log.warning(
                    "audit events are left for the next process that uses their folder",
                    extra={"detail": detail},
                )
        self._metrics.observe_queue(0, 0)  # The next generation may have no delivery.

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
                self._is_barred = not self._holds  # The metrics must show the queue all the same.
                pause = self._failed(error.strerror or "spool", None)
            except Exception:  # Events must not wait for a restart.
                log.exception("audit events wait: an internal error")
                pause = self._failed("internal_error", None)
            if self._ending.is_set() and pause:
                return  # Nothing is left, or nothing can be delivered now.
            if pause and self._failures:
                await self._pause(pause)
            elif pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)

    def _has_lock(self) -> bool:
        """Return whether this delivery, and no other generation or process, has the lock."""
        if not self._holds and self._reader.lock():
            self._aside.load()
            self._holds = True
        return self._holds

    async def _step(self) -> float:
        """Deliver a batch. Return for how many seconds there is nothing to do."""
        self._count()
        if not self._failures:
            await self._try_aside()
        # All but one may fail and be put aside.
        events = self._reader.next(max(1, min(self._most, self._aside.room)), MOST_BATCH_BYTES)
        if not events or self._retired:
            return self._nothing_waits()
        try:
            outcomes = await self._repository.deliver(events)
        except Refused:  # Each half shows which events, or whether their number.
            self._get_smaller(events)
            return 0
        except Undelivered as failure:
            if await self._goes_on(events, failure.retry_after):
                return 0
            return self._failed(failure.reason, failure.retry_after)
        if DeliveryOutcome.AGAIN in outcomes and DeliveryOutcome.DELIVERED not in outcomes:
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
        """Halve the batch: the server may be slow with many events, or fail with one of them."""
        self._most = max(1, len(events) // 2)
        self._successes = 0

    def _take(self, events: Sequence[Waiting], outcomes: Sequence[DeliveryOutcome]) -> None:
        """Record the outcomes of a batch, of which some events were taken or rejected."""
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome is DeliveryOutcome.AGAIN or (
                outcome is DeliveryOutcome.REJECTED and not self._reject(event)
            ):
                self._put_aside(event)
            else:
                self._taken += outcome is DeliveryOutcome.DELIVERED
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
        """Return whether to go on at once after a failed request."""
        self._in_a_row += 1
        # One of several servers behind one address may be down.
        if retry_after is None and self._in_a_row == 1:
            self._metrics.observe_audit("undelivered")
            return True
        self._get_smaller(events)
        if len(events) == 1:
            return await self._another_is_taken()
        # Halving needs few requests, and must not take long if one of the events is the cause.
        self._metrics.observe_audit("undelivered")
        return retry_after is None and not self._failures

    async def _another_is_taken(self) -> bool:
        """Return whether the server takes a later event. Then put the oldest one aside."""
        self._failures_alone += 1
        if self._failures_alone <= _TRIES_ALONE or self._retired:
            return False
        # The next one first. It may fail as well, so the distance doubles.
        distance = 2 ** min(self._failures_alone - _TRIES_ALONE - 1, 10)
        events = self._reader.next(1 + min(distance, max(1, self._aside.room)), MOST_BATCH_BYTES)
        if len(events) < 2:  # An event of the retry queue may show it.
            taken = self._taken
            await self._try_aside()
            outcomes = [DeliveryOutcome.AGAIN] if self._taken > taken else []
        else:
            try:
                outcomes = [DeliveryOutcome.AGAIN] * (
                    len(events) - 1
                ) + await self._repository.deliver(events[-1:])
            except Undelivered:
                return False
            # A rejected event shows nothing of the others.
            if outcomes[-1] is not DeliveryOutcome.DELIVERED:
                return False
        if not outcomes:
            return False
        if not self._aside.room:
            self._give_up(self._aside.most_tried)
        self._take(events, outcomes)
        return True

    def _put_aside(self, event: Waiting) -> None:
        if not event.is_json and self._reject(event):  # The retry queue's file cannot hold it.
            self._metrics.observe_audit(DeliveryOutcome.REJECTED.value)
            return
        if not len(self._aside):
            log.warning(
                "the audit repository takes other events, but not some: "
                "each of those is tried alone"
            )
        self._aside.add(event)

    async def _try_aside(self) -> None:
        """Deliver the due events of the retry queue, each alone, for ``_ASIDE_SECONDS``."""
        clock = asyncio.get_running_loop().time
        until = clock() + _ASIDE_SECONDS
        for entry in self._aside.due():
            if self._retired or clock() >= until:
                break
            began, wait = clock(), 0.0
            try:
                (outcome,) = await self._repository.deliver([entry.event])
            except Undelivered as failure:
                self._metrics.observe_audit("undelivered")
                outcome, wait = (
                    DeliveryOutcome.AGAIN,
                    min(failure.retry_after or 0, LONGEST_PAUSE_SECONDS),
                )
            if outcome is DeliveryOutcome.DELIVERED:
                self._aside.remove(entry)
                self._taken += 1
                self._metrics.observe_audit(outcome.value)
                continue
            tries = self._aside.failed(entry, taken=self._taken, wait=wait, seconds=clock() - began)
            if outcome is DeliveryOutcome.REJECTED or tries >= _MOST_TRIES:
                self._give_up(entry)
        self._keep()

    def _give_up(self, entry: RetryEntry) -> None:
        """Reject an event of the retry queue, where it stays if ``rejected.jsonl`` fails."""
        if self._reject(entry.event):
            self._aside.remove(entry)
            self._metrics.observe_audit(DeliveryOutcome.REJECTED.value)

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
        """Save what was delivered. On a full disk it is saved later."""
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
        """Record a failure. Return after how many seconds to try again."""
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
        """Wait, at most until the end, and update the metrics of the queue."""
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
            age = max((event.age_seconds() for event in oldest if event is not None), default=0.0)
            self._metrics.observe_queue(self._reader.waiting() + len(self._aside), age)


def _pause_seconds(failures: int) -> float:
    """Return the pause after so many failures in a row, with jitter between replicas."""
    pause = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return pause * random.uniform(0.75, 1)  # noqa: S311

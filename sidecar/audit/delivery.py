"""Deliver events from the spool to the repository, in order, until they are taken.

One process of all that share the folder delivers: the one that has the lock. Where a request fails,
``TRANSITIONS`` says what is tried next. An event that fails while others are taken becomes a retry,
so that those behind it go on.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sidecar.audit.backlog import Backlog, SpooledEvent
from sidecar.audit.delivery_states import TRANSITIONS, DeliveryState, StepResult
from sidecar.audit.repository import DeliveryOutcome, Refused, Repository, Undelivered
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FINISH_SECONDS = 5
"""Seconds that the end of the process may wait for events, which stay on disk."""
LONGEST_PAUSE_SECONDS = 60
MOST_BATCH_BYTES = 2**20
_FIRST_PAUSE_SECONDS = 0.5
_MOST_TRIES = 20  # Of a retry: a quarter of an hour with the pauses.
_RETRY_SECONDS = 1  # For retries between two batches.
_SLOW = 10  # After a failed retry, wait this many times its duration before the next.
_GROW_AFTER = 4  # Successful requests in a row, before batches grow.
_LOOK_SECONDS = 1
_YIELD_SECONDS = 3  # While a process drains, the others may take the lock for so long.
_COUNT_SECONDS = 1

T = TypeVar("T")


class Delivery:
    """Deliver the ``backlog``, up to ``batch`` events in a request."""

    def __init__(
        self, backlog: Backlog, repository: Repository, metrics: Metrics, *, batch: int
    ) -> None:
        self.state = DeliveryState.STANDBY
        self._backlog = backlog
        self._repository = repository
        self._metrics = metrics
        self._batch = self._size = batch
        self._sent = 0  # Events in the last request.
        self._taken = 0  # Events that were delivered.
        self._successes = 0  # Requests in a row since the size changed.
        self._pauses = self._probes = 0  # Since events were taken.
        self._reason = self._logged_reason = ""
        self._retry_after = 0.0
        self._is_unsaved = False
        self._measured = -float(_COUNT_SECONDS)
        self._wake = asyncio.Event()
        self._is_ending = self._is_draining = self._lets_go = False
        # All use of the folder is there: a slow disk must not hold up the event loop.
        self._thread = ThreadPoolExecutor(1, "audit-delivery")

    def wake(self) -> None:
        """Look for new events, unless a failure needs a pause."""
        if self.state is DeliveryState.SENDING:
            self._wake.set()

    def hand_over(self) -> None:
        """Leave the delivery to other processes, because this one drains.

        It goes on where no other takes the lock, and lets go of it at each pause.
        """
        self._is_draining = self._lets_go = True
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs, and afterwards for ``FINISH_SECONDS``."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._is_ending, self._lets_go = True, False
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task, FINISH_SECONDS)

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                pause = 0.0 if self._lets_go else await self.step()
                if pause and self._is_ending:
                    return  # Nothing is left, or nothing can be delivered now.
                if self._lets_go or (pause and self._is_draining):
                    self._wake.clear()
                    self._lets_go, pause = False, _YIELD_SECONDS
                    await self._release()
                await self._wait(pause)
        finally:
            if self.state is not DeliveryState.STANDBY:
                await self._in_thread(self._log_what_is_left)
            await self._release()
            self._thread.shutdown()

    async def step(self) -> float:
        """Try what the state says. Return for how many seconds there is nothing to do."""
        await self._measure()
        before = self.state
        try:
            result = await self._try()
        except Refused:
            result = StepResult.TOO_MUCH
        except Undelivered as failure:
            result = self._failed(failure.reason, failure.retry_after)
        except OSError as error:
            result = self._failed(error.strerror or "spool", 0, is_ours=True)
        except Exception:  # Events must not wait for a restart.
            log.exception("audit events wait: an internal error")
            result = self._failed("internal_error", 0, is_ours=True)
        self.state = TRANSITIONS[before][result]
        if self.state is DeliveryState.RETRYING or (before, result) == (
            DeliveryState.STANDBY,
            StepResult.BARRED,
        ):
            return self._pause()
        if self.state is DeliveryState.NARROWING:
            self._size, self._successes = max(1, self._sent // 2), 0
        elif self.state is DeliveryState.SENDING and before is not DeliveryState.STANDBY:
            self._go_on(result)
        elif self.state is DeliveryState.STANDBY and self._pauses:
            await self._release()  # Another process could take the lock, and has the metrics.
        if result is not StepResult.NOTHING:
            return 0
        due = min((event.due for event in self._backlog.retries), default=float("inf"))
        return min(_LOOK_SECONDS, max(due - asyncio.get_running_loop().time(), 0.001))

    async def _try(self) -> StepResult:
        if self.state is DeliveryState.STANDBY:
            is_locked = await self._in_thread(self._backlog.lock)
            return StepResult.TAKEN if is_locked else StepResult.NOTHING
        if self.state is DeliveryState.PROBING:
            return await self._probe()
        if self.state is DeliveryState.SENDING:
            await self._send_retries()
        # All but one may fail, and become retries.
        events = await self._next(min(self._size, self._backlog.room))
        if not events:
            await self._in_thread(self._save)
            return StepResult.NOTHING
        self._sent = len(events)
        outcomes = await self._repository.deliver(events)
        if DeliveryOutcome.AGAIN in outcomes and DeliveryOutcome.DELIVERED not in outcomes:
            raise Undelivered("all of a batch")
        await self._in_thread(self._record, events, outcomes)
        return StepResult.TAKEN

    async def _probe(self) -> StepResult:
        """Send a later event. If it is delivered, those before it become retries.

        It may fail as well, so the distance doubles.
        """
        self._probes += 1
        events = await self._next(1 + min(2 ** min(self._probes - 1, 10), self._backlog.room or 1))
        if not events:
            return StepResult.NOTHING
        outcomes = [DeliveryOutcome.AGAIN] * max(1, len(events) - 1)
        before = self._taken
        if len(events) > 1:
            outcomes += await self._repository.deliver(events[-1:])
        else:
            await self._send_retries()
        # A rejected event shows nothing of the others.
        if outcomes[-1] is not DeliveryOutcome.DELIVERED and self._taken == before:
            return StepResult.FAILED
        if not self._backlog.room:
            await self._in_thread(self._give_up_oldest)
        await self._in_thread(self._record, events, outcomes)
        return StepResult.TAKEN

    async def _send_retries(self) -> None:
        """Send the retries that are due, each alone, for ``_RETRY_SECONDS``."""
        clock = asyncio.get_running_loop().time
        until = clock() + _RETRY_SECONDS
        if self._backlog.holds_too_much:
            await self._in_thread(self._give_up_oldest)
        for event in sorted(self._backlog.retries, key=lambda event: event.due):
            if self._lets_go or not event.due <= (began := clock()) < until:
                break
            wait = 0.0
            try:
                (outcome,) = await self._repository.deliver([event])
            except Undelivered as failure:
                self._metrics.observe_audit("undelivered")
                outcome = DeliveryOutcome.AGAIN
                wait = min(failure.retry_after or 0, LONGEST_PAUSE_SECONDS)
            if outcome is not DeliveryOutcome.DELIVERED:
                event.requests += 1
                # A failure counts if others were taken meanwhile.
                event.tries += self._taken != event.taken_before
                event.taken_before = self._taken
                pause = _pause_seconds(max(event.requests, event.tries))
                event.due = clock() + max(pause, wait, (clock() - began) * _SLOW)
            await self._in_thread(self._record_retry, event, outcome)

    def _record(self, events: Sequence[SpooledEvent], outcomes: Sequence[DeliveryOutcome]) -> None:
        for event, outcome in zip(events, outcomes, strict=True):
            if not self._is_settled(event, outcome):
                if not self._backlog.retries:
                    log.warning(
                        "the audit repository takes other events, but not some: "
                        "each of those is tried alone"
                    )
                self._backlog.retries.append(event)
        self._backlog.done(events)
        self._save()

    def _record_retry(self, event: SpooledEvent, outcome: DeliveryOutcome) -> None:
        if self._is_settled(event, outcome):
            with contextlib.suppress(ValueError):  # It was dropped for room.
                self._backlog.retries.remove(event)
        self._save()

    def _is_settled(self, event: SpooledEvent, outcome: DeliveryOutcome) -> bool:
        """Return whether the event was delivered, or is hopeless and now in ``rejected.jsonl``."""
        if outcome is DeliveryOutcome.DELIVERED:
            self._taken += 1
            self._metrics.observe_audit(outcome.value)
            return True
        is_rejected = outcome is DeliveryOutcome.REJECTED
        return (is_rejected or event.tries >= _MOST_TRIES or not event.is_json) and self._reject(
            event
        )

    def _give_up_oldest(self) -> None:
        """Reject the oldest retry, which was tried most."""
        if self._reject(self._backlog.retries[0]):
            del self._backlog.retries[0]

    def _reject(self, event: SpooledEvent) -> bool:
        """Keep an event for people, and return whether the disk has it."""
        try:
            self._backlog.reject(event)
        except OSError as error:
            _error("rejected.jsonl cannot be written", error.strerror)
            return False
        self._metrics.observe_audit(DeliveryOutcome.REJECTED.value)
        detail = self._repository.refusal or "not in many tries"
        _error("the audit repository will not take an event: it is kept in rejected.jsonl", detail)
        return True

    def _save(self) -> None:
        """Save what was delivered. On a full disk it is saved later."""
        try:
            self._backlog.save()
            self._is_unsaved = False
        except OSError as error:
            if not self._is_unsaved:
                _error("what the audit repository took cannot be noted", error.strerror)
            self._is_unsaved = True

    def _log_what_is_left(self) -> None:
        self._save()
        with contextlib.suppress(OSError):
            if left := self._backlog.measure()[0]:
                message = "audit events are left for the next process that uses their folder"
                log.warning(message, extra={"detail": f"{left} in {self._backlog.folder}"})

    def _failed(
        self, reason: str, retry_after: float | None, *, is_ours: bool = False
    ) -> StepResult:
        self._metrics.observe_audit("undelivered")
        self._reason = reason
        self._retry_after = max(self._retry_after, retry_after or 0)
        # Retry-After may be for the oldest event alone.
        if is_ours or (retry_after is not None and self.state is not DeliveryState.RETRYING):
            return StepResult.BARRED
        return StepResult.FAILED_ALONE if self._sent == 1 else StepResult.FAILED

    def _pause(self) -> float:
        """Return the seconds of the pause before the oldest event is sent alone."""
        if not self._pauses or self._reason != self._logged_reason:
            _error("audit events wait: the repository does not take them", self._reason)
        self._logged_reason = self._reason
        wait, self._retry_after = min(self._retry_after, LONGEST_PAUSE_SECONDS), 0.0
        self._pauses += 1
        self._size, self._successes = 1, 0
        return max(_pause_seconds(self._pauses), wait)

    def _go_on(self, result: StepResult) -> None:
        if result is StepResult.TAKEN:
            if self._pauses:
                log.warning("the audit repository takes events again")
            self._successes += 1
            if self._successes >= _GROW_AFTER:
                self._size, self._successes = min(self._batch, self._size * 2), 0
        self._pauses = self._probes = 0

    async def _next(self, most: int) -> list[SpooledEvent]:
        return await self._in_thread(self._backlog.next, max(1, most), MOST_BATCH_BYTES)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _release(self) -> None:
        """Give the lock up, and leave the metrics of the queue to the process that has it."""
        self.state, self._pauses = DeliveryState.STANDBY, 0
        await self._in_thread(self._backlog.close)
        self._metrics.observe_queue(0, 0)

    async def _wait(self, seconds: float) -> None:
        """Wait, at most until something happens, and go on to measure the queue."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while not self._wake.is_set() and (left := until - clock()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, _COUNT_SECONDS))
            await self._measure()

    async def _measure(self) -> None:
        """Set the metrics of the queue where this process delivers.

        Where the lock cannot be used, each process has them: somebody must look at it.
        """
        now = asyncio.get_running_loop().time()
        is_ours = self.state is not DeliveryState.STANDBY or self._pauses
        if is_ours and now - self._measured >= _COUNT_SECONDS:
            self._measured = now
            with contextlib.suppress(OSError):
                self._metrics.observe_queue(*await self._in_thread(self._backlog.measure))


def _error(message: str, detail: str | None) -> None:
    log.error(message, extra={"detail": detail})


def _pause_seconds(failures: int) -> float:
    """Return the pause after so many failures in a row, with jitter between replicas."""
    pause = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return pause * random.uniform(0.75, 1)  # noqa: S311

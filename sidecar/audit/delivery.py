"""Deliver events from the spool to the repository, in order, until they are taken.

One process of all that share the folder delivers: the one that has the lock. Where a request fails,
``TRANSITIONS`` says what is tried next. An event that fails while others are taken becomes a retry
(``backlog.py``), so that those behind it go on.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

from sidecar.audit.backlog import Backlog, SpooledEvent
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
_YIELD_SECONDS = 3
_COUNT_SECONDS = 1

T = TypeVar("T")


class State(Enum):
    """What is tried next."""

    STANDBY = "take the lock, which another process may have"
    SENDING = "send the oldest events"
    REPEATING = "send them once more: one of several servers may be down"
    NARROWING = "send half of them: one of them, or their number, may be the cause"
    RETRYING = "pause, then send the oldest event alone"
    PROBING = "send a later event: does the server fail, or does it fail with the oldest alone?"


class Result(Enum):
    """How the try of a state ended."""

    NOTHING = "no event waits, or another process has the lock"
    TAKEN = "events were taken, or rejected for good; or the lock is ours"
    TOO_MUCH = "the batch was rejected as a whole"
    FAILED = "no event of several is known to be taken"
    FAILED_ALONE = "the one event is not known to be taken"
    BARRED = "nothing can be taken now: Retry-After, the disk, an error of ours"


def _row(*states: State) -> dict[Result, State]:
    return dict(zip(Result, states, strict=True))


_S = State
TRANSITIONS = {  # NOTHING    TAKEN       TOO_MUCH      FAILED        FAILED_ALONE  BARRED
    _S.STANDBY: _row(_S.STANDBY, _S.SENDING, _S.STANDBY, _S.STANDBY, _S.STANDBY, _S.STANDBY),
    _S.SENDING: _row(_S.SENDING, _S.SENDING, _S.NARROWING, _S.REPEATING, _S.REPEATING, _S.RETRYING),
    _S.REPEATING: _row(
        _S.SENDING, _S.SENDING, _S.NARROWING, _S.NARROWING, _S.RETRYING, _S.RETRYING
    ),
    _S.NARROWING: _row(
        _S.SENDING, _S.SENDING, _S.NARROWING, _S.NARROWING, _S.RETRYING, _S.RETRYING
    ),
    _S.RETRYING: _row(_S.SENDING, _S.SENDING, _S.PROBING, _S.PROBING, _S.PROBING, _S.PROBING),
    _S.PROBING: _row(_S.SENDING, _S.SENDING, _S.RETRYING, _S.RETRYING, _S.RETRYING, _S.RETRYING),
}
"""The next state, by state and result. Whoever comes to ``RETRYING`` pauses first."""


class Delivery:
    """Deliver the ``backlog``, up to ``batch`` events in a request."""

    def __init__(
        self, backlog: Backlog, repository: Repository, metrics: Metrics, *, batch: int
    ) -> None:
        self.state = State.STANDBY
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
        self._measured: float | None = None
        self._wake = asyncio.Event()
        self._is_ending = self._is_draining = self._lets_go = False
        # The backlog's thread: a slow disk must not hold up the event loop.
        self._thread = ThreadPoolExecutor(1, "audit-delivery")

    def wake(self) -> None:
        """Look for new events, unless a failure needs a pause."""
        if self.state is State.SENDING:
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
            if self.state is not State.STANDBY:
                await self._in_thread(self._log_what_is_left)
            await self._release()
            self._thread.shutdown()

    async def step(self) -> float:
        """Try what the state says. Return for how many seconds there is nothing to do."""
        before = self.state
        try:
            await self._measure()
            result = await self._try()
        except Refused:
            result = Result.TOO_MUCH
        except Undelivered as failure:
            result = self._failed(failure.reason, failure.retry_after)
        except OSError as error:
            result = self._failed(error.strerror or "spool", 0)
        except Exception:  # Events must not wait for a restart.
            log.exception("audit events wait: an internal error")
            result = self._failed("internal_error", 0)
        self.state = TRANSITIONS[before][result]
        if before is State.STANDBY and result is Result.BARRED:
            return self._pause()
        if before is State.STANDBY:
            self._pauses = 0
            return self._idle(result)
        if self.state is State.SENDING:
            return self._succeeded(result)
        if self.state is State.NARROWING:
            self._size, self._successes = max(1, self._sent // 2), 0
        return self._pause() if self.state is State.RETRYING else 0

    async def _try(self) -> Result:
        if self.state is State.STANDBY:
            return Result.TAKEN if await self._in_thread(self._backlog.lock) else Result.NOTHING
        if self.state is State.PROBING:
            return await self._probe()
        if self.state is State.SENDING:
            await self._send_retries()
        # All but one may fail, and be tried again.
        most = max(1, min(self._size, self._backlog.room))
        events = await self._in_thread(self._backlog.next, most, MOST_BATCH_BYTES)
        if not events:
            await self._in_thread(self._save)
            return Result.NOTHING
        self._sent = len(events)
        outcomes = await self._repository.deliver(events)
        if DeliveryOutcome.AGAIN in outcomes and DeliveryOutcome.DELIVERED not in outcomes:
            raise Undelivered("all of a batch")
        await self._in_thread(self._record, events, outcomes)
        return Result.TAKEN

    async def _probe(self) -> Result:
        """Send a later event. If it is delivered, those before it become retries.

        It may fail as well, so the distance doubles.
        """
        distance = min(2 ** min(self._probes, 10), max(1, self._backlog.room))
        self._probes += 1
        events = await self._in_thread(self._backlog.next, 1 + distance, MOST_BATCH_BYTES)
        if not events:
            return Result.NOTHING
        outcomes = [DeliveryOutcome.AGAIN] * max(1, len(events) - 1)
        if len(events) > 1:
            outcomes += await self._repository.deliver(events[-1:])
            # A rejected event shows nothing of the others.
            is_taken = outcomes[-1] is DeliveryOutcome.DELIVERED
        else:  # A retry may show it.
            before = self._taken
            await self._send_retries()
            is_taken = self._taken > before
        if not is_taken:
            return Result.FAILED
        if not self._backlog.room:
            await self._in_thread(self._give_up, self._backlog.retries[0])
        await self._in_thread(self._record, events, outcomes)
        return Result.TAKEN

    async def _send_retries(self) -> None:
        """Send the retries that are due, each alone, for ``_RETRY_SECONDS``."""
        clock = asyncio.get_running_loop().time
        until = clock() + _RETRY_SECONDS
        if self._backlog.holds_too_much:
            await self._in_thread(self._give_up, self._backlog.retries[0])
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
            wait = max(wait, (clock() - began) * _SLOW)
            await self._in_thread(self._record_retry, event, outcome, wait, clock())

    def _record(self, events: Sequence[SpooledEvent], outcomes: Sequence[DeliveryOutcome]) -> None:
        for event, outcome in zip(events, outcomes, strict=True):
            is_hopeless = outcome is DeliveryOutcome.REJECTED or not event.is_json
            if outcome is DeliveryOutcome.DELIVERED:
                self._taken += 1
                self._metrics.observe_audit(outcome.value)
            elif not (is_hopeless and self._reject(event)):
                if not self._backlog.retries:
                    log.warning(
                        "the audit repository takes other events, but not some: "
                        "each of those is tried alone"
                    )
                self._backlog.retry(event)
        self._backlog.done(events)
        self._save()

    def _record_retry(
        self, event: SpooledEvent, outcome: DeliveryOutcome, wait: float, now: float
    ) -> None:
        if outcome is DeliveryOutcome.DELIVERED:
            self._taken += 1
            self._metrics.observe_audit(outcome.value)
            self._backlog.resolve(event)
        else:
            # A failure counts if others were taken meanwhile.
            event.tries += self._taken != event.taken_before
            event.taken_before = self._taken
            event.requests += 1
            event.due = now + max(_pause_seconds(max(event.requests, event.tries)), wait)
            if outcome is DeliveryOutcome.REJECTED or event.tries >= _MOST_TRIES:
                self._give_up(event)
        self._save()

    def _give_up(self, event: SpooledEvent) -> None:
        """Reject a retry, which stays one if ``rejected.jsonl`` fails."""
        if self._reject(event):
            self._backlog.resolve(event)

    def _reject(self, event: SpooledEvent) -> bool:
        try:
            self._backlog.reject(event)
        except OSError as error:
            log.error("rejected.jsonl cannot be written", extra={"detail": error.strerror})
            return False
        log.error(
            "the audit repository will not take an event: it is kept in rejected.jsonl",
            extra={"detail": self._repository.refusal or "not in many tries"},
        )
        self._metrics.observe_audit(DeliveryOutcome.REJECTED.value)
        return True

    def _save(self) -> None:
        """Save what was delivered. On a full disk it is saved later."""
        try:
            self._backlog.save()
        except OSError as error:
            if not self._is_unsaved:
                log.error(
                    "what the audit repository took cannot be noted",
                    extra={"detail": error.strerror},
                )
            self._is_unsaved = True
        else:
            self._is_unsaved = False

    def _log_what_is_left(self) -> None:
        self._save()
        with contextlib.suppress(OSError):
            if left := self._backlog.waiting():
                log.warning(
                    "audit events are left for the next process that uses their folder",
                    extra={"detail": f"{left} in {self._backlog.folder}"},
                )

    def _failed(self, reason: str, retry_after: float | None) -> Result:
        self._metrics.observe_audit("undelivered")
        self._reason = reason
        self._retry_after = max(self._retry_after, retry_after or 0)
        if retry_after is not None:
            return Result.BARRED
        return Result.FAILED_ALONE if self._sent == 1 else Result.FAILED

    def _pause(self) -> float:
        """Return the seconds of the pause before the oldest event is sent alone."""
        if not self._pauses or self._reason != self._logged_reason:
            log.error(
                "audit events wait: the repository does not take them",
                extra={"detail": self._reason},
            )
        wait, self._retry_after = min(self._retry_after, LONGEST_PAUSE_SECONDS), 0.0
        self._logged_reason = self._reason
        self._pauses += 1
        self._size, self._successes = 1, 0
        return max(_pause_seconds(self._pauses), wait)

    def _succeeded(self, result: Result) -> float:
        if self._pauses and result is Result.TAKEN:
            log.warning("the audit repository takes events again")
        self._pauses = self._probes = 0
        self._successes += 1
        if self._successes >= _GROW_AFTER:
            self._size, self._successes = min(self._batch, self._size * 2), 0
        return self._idle(result)

    def _idle(self, result: Result) -> float:
        if result is not Result.NOTHING:
            return 0
        due = min((event.due for event in self._backlog.retries), default=float("inf"))
        return min(_LOOK_SECONDS, max(due - asyncio.get_running_loop().time(), 0.001))

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _release(self) -> None:
        self.state, self._pauses = State.STANDBY, 0
        await self._in_thread(self._backlog.close)
        await self._measure()

    async def _wait(self, seconds: float) -> None:
        """Wait, at most until something happens, and go on to measure the queue."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while not self._wake.is_set() and (left := until - clock()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, _COUNT_SECONDS))
            await self._measure()

    async def _measure(self) -> None:
        """Set the metrics of the queue, which the process that delivers has alone.

        Where nobody can take the lock, all have them: somebody must look at it.
        """
        now = asyncio.get_running_loop().time()
        if self.state is State.STANDBY and not self._pauses:
            if self._measured is not None:
                self._metrics.observe_queue(0, 0)
            self._measured = None
        elif self._measured is None or now - self._measured >= _COUNT_SECONDS:
            self._measured = now
            with contextlib.suppress(OSError):
                length = await self._in_thread(self._backlog.waiting)
                age = await self._in_thread(self._backlog.age_seconds)
                self._metrics.observe_queue(length, age)


def _pause_seconds(failures: int) -> float:
    """Return the pause after so many failures in a row, with jitter between replicas."""
    pause = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return pause * random.uniform(0.75, 1)  # noqa: S311

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
from sidecar.audit.spool import MOST_SEGMENTS
from sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FINISH_SECONDS = 5
"""Seconds that the end of the process may wait for events, which stay on disk."""
LONGEST_PAUSE_SECONDS = 60
_FIRST_PAUSE_SECONDS = 0.5
_MOST_RETRIES = MOST_SEGMENTS // 8  # Each may keep a segment: an eighth of the spool at most.
_MOST_TRIES, _RETRY_PAUSE_SECONDS = 20, 45  # Of a retry: a quarter of an hour.
_SLOW = 10  # After a failed retry, wait this many times its duration before the next.
_RETRY_SECONDS = 1  # For retries between two batches, unless one fails.
_LOOK_SECONDS = 1  # For new events and the lock, and to measure the queue.
_YIELD_SECONDS = 3  # While a process drains, the others may take the lock for so long.

T = TypeVar("T")


class Delivery:
    """Deliver the ``backlog``, up to ``batch`` events in a request."""

    def __init__(
        self, backlog: Backlog, repository: Repository, metrics: Metrics, *, batch: int
    ) -> None:
        self.state = DeliveryState.SENDING
        self._backlog = backlog
        self._repository = repository
        self._metrics = metrics
        self._batch = self._size = batch
        self._sent = 0  # Events in the last batch.
        self._taken = 0  # Events that were delivered.
        self._pauses = 0  # Since events were taken.
        self._failure = Undelivered("")  # The last one.
        self._logged = ""  # Its reason, once the log has it.
        self._retries_until = 0.0  # And then a batch.
        self._is_unsaved = False
        self._wake = asyncio.Event()  # Ends a pause.
        self._is_ending = self._is_draining = self._lets_go = False
        # All use of the folder is there: a slow disk must not hold up the event loop.
        self._thread = ThreadPoolExecutor(1, "audit-delivery")

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
            self._is_ending = True
            self._wake.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task, FINISH_SECONDS)

    async def _run(self) -> None:
        measuring = asyncio.create_task(self._measure())
        try:
            while True:
                self._wake.clear()
                is_ending = self._is_ending  # An event may come last while the step goes on.
                lets_go, self._lets_go = self._lets_go and not is_ending, False
                pause = _YIELD_SECONDS if lets_go else await self.step()
                if pause and is_ending:
                    return  # Nothing is left, or nothing can be delivered now.
                if pause and self._is_draining:
                    pause = _YIELD_SECONDS
                    await self._release()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
        finally:
            measuring.cancel()
            with contextlib.suppress(OSError):
                if self._backlog.is_locked and (
                    left := (await self._in_thread(self._backlog.measure))[0]
                ):
                    log.warning(
                        "audit events are left for the next process that uses their folder",
                        extra={"detail": f"{left} bytes in {self._backlog.folder}"},
                    )
            await self._release()
            self._thread.shutdown()

    async def step(self) -> float:
        """Make one request, as the state says. Return the seconds of the pause after it."""
        clock = asyncio.get_running_loop().time
        try:
            if not self._backlog.is_locked:
                await self._in_thread(self._backlog.lock)
            retry = self._due_retry() if clock() < self._retries_until else None
            if retry and self.state is DeliveryState.SENDING:
                await self._retry(retry)
                return 0
            result = await self._send()
            self._retries_until = clock() + _RETRY_SECONDS
        except BlockingIOError:
            await self._release()  # The process that has the lock has the metrics, too.
            return _LOOK_SECONDS
        except Refused:
            result = StepResult.TOO_MUCH
        except Exception as error:  # Events must not wait for a restart.
            result = self._failed(error)
        self.state = TRANSITIONS[self.state][result]
        if self.state is DeliveryState.RETRYING:
            return self._pause()
        if self.state is DeliveryState.NARROWING:
            self._size = max(1, self._sent // 2)
        if result is StepResult.TAKEN and self._logged:
            log.warning("the audit repository takes events again")
        if self.state is DeliveryState.SENDING:
            self._pauses, self._logged = 0, ""
        return _LOOK_SECONDS if result is StepResult.NOTHING and not self._due_retry() else 0

    async def _send(self) -> StepResult:
        """Send the oldest events, or a later one in order to probe the server."""
        room = max(1, _MOST_RETRIES - len(self._backlog.retries))
        is_probe = self.state is DeliveryState.PROBING
        # All but one of them may become retries. A probe is twice as far behind the oldest each
        # time, because it may fail as well.
        most = 1 + min(2 ** min(self._pauses - 1, 10), room) if is_probe else min(self._size, room)
        events = await self._in_thread(self._backlog.next, most)
        if not events:
            await self._in_thread(self._settle, [], [])
            return StepResult.NOTHING
        if is_probe and len(events) == 1:
            if (retry := self._due_retry()) is None:
                return StepResult.FAILED
            events.append(retry)
        passed = len(events) - 1 if is_probe else 0
        self._sent = len(events) - passed
        outcomes = [DeliveryOutcome.AGAIN] * passed
        outcomes += await self._repository.deliver(events[passed:])
        # Only an event that is delivered shows something of the others.
        if DeliveryOutcome.AGAIN in outcomes and DeliveryOutcome.DELIVERED not in outcomes:
            raise Undelivered("all of a batch")
        await self._in_thread(self._settle, events, outcomes)
        if not passed:
            self._size = min(self._batch, self._size + max(1, self._size // 4))
        return StepResult.TAKEN

    def _due_retry(self) -> SpooledEvent | None:
        now = asyncio.get_running_loop().time()
        due = (event for event in self._backlog.retries if event.due <= now)
        return min(due, key=lambda event: event.due, default=None)

    async def _retry(self, event: SpooledEvent) -> None:
        """Send a retry alone. If it fails, a batch is next."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            (outcome,) = await self._repository.deliver([event])
        except Undelivered:
            self._metrics.observe_audit("undelivered")
            outcome = DeliveryOutcome.AGAIN
        if outcome is not DeliveryOutcome.DELIVERED:
            # A failure counts if others were taken meanwhile.
            event.tries += self._taken != event.taken_before
            event.taken_before = self._taken
            event.due = clock() + max(_RETRY_PAUSE_SECONDS, _SLOW * (clock() - begun))
            self._retries_until = 0.0
        await self._in_thread(self._settle, [event], [outcome])

    def _settle(self, events: Sequence[SpooledEvent], outcomes: Sequence[DeliveryOutcome]) -> None:
        """Go on behind the events. Those that are neither delivered nor rejected become retries."""
        again = []
        for event, outcome in zip(events, outcomes, strict=True):
            is_rejected = outcome is DeliveryOutcome.REJECTED or event.tries >= _MOST_TRIES
            if outcome is DeliveryOutcome.DELIVERED:
                self._taken += 1
                self._metrics.observe_audit(outcome.value)
            elif not is_rejected or not self._reject(event):
                again.append(event)
        self._backlog.done(events, again)
        while len(self._backlog.retries) > _MOST_RETRIES and self._reject(self._backlog.retries[0]):
            self._backlog.done(self._backlog.retries[:1])
        try:
            self._backlog.save()
            self._is_unsaved = False
        except OSError as error:  # A full disk: it is saved later.
            if not self._is_unsaved:
                _error("what the audit repository took cannot be noted", error.strerror)
            self._is_unsaved = True

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

    def _failed(self, error: Exception) -> StepResult:
        self._metrics.observe_audit("undelivered")
        if isinstance(error, Undelivered):
            self._failure = error
            # Retry-After may be for the oldest event alone.
            if not error.retry_after or self.state is DeliveryState.RETRYING:
                return StepResult.FAILED_ALONE if self._sent == 1 else StepResult.FAILED
        elif isinstance(error, OSError):
            self._failure = Undelivered(error.strerror or "spool")
        else:
            log.error("audit events wait: an internal error", exc_info=error)
            self._failure = Undelivered("internal_error")
        return StepResult.BARRED

    def _pause(self) -> float:
        """Return the seconds of the pause before the oldest event is sent alone."""
        if self._failure.reason != self._logged:
            self._logged = self._failure.reason
            _error("audit events wait: the repository does not take them", self._logged)
        self._pauses, self._size = self._pauses + 1, 1
        pause = _FIRST_PAUSE_SECONDS * 2.0 ** min(self._pauses - 1, 10)
        # Replicas must not all ask at once.
        pause = min(pause, LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1)  # noqa: S311
        return max(pause, min(self._failure.retry_after, LONGEST_PAUSE_SECONDS))

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _release(self) -> None:
        """Give the lock up, and leave the metrics of the queue to the process that has it."""
        self.state, self._pauses = DeliveryState.SENDING, 0
        await self._in_thread(self._backlog.close)

    async def _measure(self) -> None:
        """Set the metrics of the queue each second where this process delivers."""
        while True:
            with contextlib.suppress(OSError):
                # Where the lock cannot be used, each process has them: somebody must look at it.
                is_ours = self._backlog.is_locked or self._pauses
                queue = await self._in_thread(self._backlog.measure) if is_ours else (0, 0)
                self._metrics.observe_queue(*queue)
            await asyncio.sleep(_LOOK_SECONDS)


def _error(message: str, detail: str | None) -> None:
    log.error(message, extra={"detail": detail})

"""The delivery against a repository that fails in every way, processes that are killed and a disk
that is full, in any order: nothing is lost, order is kept, repeats are bounded (SIA-60).
"""

import asyncio
import errno
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sidecar.audit import backlog as backlog_module
from sidecar.audit import delivery as module
from sidecar.audit.backlog import Backlog, SpooledEvent
from sidecar.audit.delivery import Delivery
from sidecar.audit.delivery_states import TRANSITIONS, DeliveryState, StepResult
from sidecar.audit.repository import DeliveryOutcome, Repository, Undelivered
from sidecar.audit.spool import Spool
from sidecar.telemetry.metrics import Metrics
from tests.audit.deliveries import rejected
from tests.waiting import forever

T = TypeVar("T")

WRITERS, DELIVERERS, BATCH = 3, 2, 4
FAULTS = [
    "500",
    "401",
    "429",
    "413",
    "html",
    "cut",
    "silent",
    "reset",
    "stored, silent",
    "stored, reset",
]
POISONS = [422, 400, 500, 503, "spoils the request", "is silent"]


class FailingRepository:
    """A FHIR server that fails as it is told: with the next requests, or with some events."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.ids: dict[int, set[str]] = defaultdict(set)
        self.faults: list[str] = []
        self.poison: dict[int, int | str] = {}
        self.asked, self.silence = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        is_batch = body["resourceType"] == "Bundle"
        events = [entry["resource"] for entry in body["entry"]] if is_batch else [body]
        kinds = [self.poison.get(event["number"]) for event in events]
        fault = self._fault(kinds, is_batch=is_batch)
        if fault.isdecimal():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            return web.Response(status=int(fault), headers=headers)
        if fault == "html":
            return web.Response(text="<html>Please log in</html>")
        statuses = [kind if isinstance(kind, int) else 201 for kind in kinds]
        if fault in ("", "cut", "stored, silent", "stored, reset", "stored, hangs"):
            for event, status in zip(events, statuses, strict=True):
                if status == 201:
                    self.stored.append(event["number"])
                    self.ids[event["number"]].add(event["id"])
        self.asked.set()
        if "silent" in fault:
            self.silence.set()
        if "silent" in fault or fault == "stored, hangs":
            await forever()
        if "reset" in fault:
            assert request.transport is not None
            request.transport.abort()
        if not is_batch:
            return web.Response(status=statuses[0])
        entries = [{"response": {"status": f"{status}"}} for status in statuses]
        return web.json_response({"entry": entries[:-1] if fault == "cut" else entries})

    def _fault(self, kinds: list[int | str | None], *, is_batch: bool) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        if "spoils the request" in kinds or (fault == "413" and not is_batch):
            return "500"  # The status 413 of a single event would mean that event.
        return "silent" if "is silent" in kinds else fault


class Deliveries(RuleBasedStateMachine):
    """Some writers and deliverers on one folder, as processes of one host."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.runner.run(self._begin())
        self.number = 0
        self.writer_of: dict[int, int] = {}
        """The events whose writer was told that they are written."""
        self.aside: set[int] = set()
        self.is_full = False
        self.confirmed = self.saved = 0
        """Deliveries of which the answer came, and which of those were noted on the disk."""
        self.repeatable = 0
        """Deliveries that were not noted before their process ended."""

    async def _begin(self) -> None:
        self.repository = FailingRepository()
        app = web.Application()
        app.router.add_route("*", "/fhir{path:.*}", self.repository.handle)
        self.server = TestServer(app)
        await self.server.start_server()
        self.session = aiohttp.ClientSession()
        self.spools = [self._spool() for _ in range(WRITERS)]
        self.deliverers = [self._deliverer() for _ in range(DELIVERERS)]

    def _spool(self) -> Spool:
        spool = Spool(self.folder, max_bytes=8_000)
        spool._segment_bytes = 200  # Three events.
        return spool

    def _deliverer(self) -> Delivery:
        url = str(self.server.make_url("/fhir"))
        repository = Repository(self.session, url, timeout_seconds=60, update=True)
        backlog = Backlog(self.folder)
        delivery = Delivery(backlog, repository, Metrics("0"), batch=BATCH)
        write, send = backlog._write_progress, repository.deliver

        def write_progress(progress: bytes) -> None:
            write(progress)
            self.saved = self.confirmed

        async def deliver(events: Sequence[SpooledEvent]) -> list[DeliveryOutcome]:
            if delivery.state is DeliveryState.PROBING:  # It passes those that fail.
                self.aside |= {json.loads(event.line)["number"] for event in events}
            outcomes = await self._unless_silent(send(events))
            self.confirmed += outcomes.count(DeliveryOutcome.DELIVERED)
            return outcomes

        backlog._write_progress = write_progress  # type: ignore[method-assign]
        repository.deliver = deliver  # type: ignore[method-assign]
        return delivery

    async def _unless_silent(self, sent: Coroutine[Any, Any, T]) -> T:
        """Time out at once where the repository is silent, and not where it is slow to run."""
        self.repository.silence.clear()
        answer = asyncio.create_task(sent)
        silence = asyncio.create_task(self.repository.silence.wait())
        try:
            await asyncio.wait([answer, silence], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Undelivered("timeout")
            return answer.result()
        finally:
            for task in (answer, silence):
                task.cancel()
            await asyncio.gather(answer, silence, return_exceptions=True)

    @rule(writer=st.integers(0, WRITERS - 1), count=st.integers(1, 6))
    def write(self, writer: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            try:
                self.spools[writer].write(self._line(self.number))
            except OSError:  # It is full: the request is refused.
                continue
            self.writer_of[self.number] = writer

    def _line(self, number: int) -> bytes:
        return b'{"resourceType":"AuditEvent","number":%d}\n' % number

    @rule(writer=st.integers(0, WRITERS - 1), kind=st.sampled_from(POISONS))
    def write_poison(self, writer: int, kind: int | str) -> None:
        self.repository.poison[self.number + 1] = kind
        self.aside.add(self.number + 1)
        self.write(writer, 1)

    @rule(writer=st.integers(0, WRITERS - 1), written=st.integers(0, 30))
    def write_on_a_full_disk(self, writer: int, written: int) -> None:
        write = os.write
        self.number += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", lambda file, data: write(file, data[:written]))
            with pytest.raises(OSError, match=r"whole|full"):
                self.spools[writer].write(self._line(self.number))

    @rule(writer=st.integers(0, WRITERS - 1), torn=st.booleans())
    def kill_writer(self, writer: int, torn: bool) -> None:
        spool = self.spools[writer]
        if torn and spool._descriptor >= 0:
            os.write(spool._descriptor, self._line(0)[:20])
        spool.close()
        self.spools[writer] = self._spool()

    @rule(kinds=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=12))
    def fail(self, kinds: list[str]) -> None:
        self.repository.faults = kinds

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.is_full = full

    @rule(deliverer=st.integers(0, DELIVERERS - 1), count=st.integers(1, 12))
    def deliver(self, deliverer: int, count: int) -> None:
        for _ in range(count):
            self._step(deliverer)

    def _step(self, deliverer: int) -> float:
        def full(descriptor: int, line: bytes) -> NoReturn:
            raise OSError(errno.ENOSPC, "no space left on device")

        with pytest.MonkeyPatch.context() as patch:
            if self.is_full:
                patch.setattr(backlog_module, "write_whole", full)
            try:
                return self.runner.run(self.deliverers[deliverer].step())
            finally:
                retries = self.deliverers[deliverer]._backlog.retries
                self.aside |= {json.loads(event.line)["number"] for event in retries}

    @rule(deliverer=st.integers(0, DELIVERERS - 1), at_once=st.booleans())
    def kill_deliverer(self, deliverer: int, at_once: bool) -> None:
        """At once, or when the repository has stored an event, and its answer comes too late."""
        self.runner.run(self._kill(self.deliverers[deliverer], at_once))
        self.deliverers[deliverer] = self._deliverer()

    async def _kill(self, delivery: Delivery, at_once: bool) -> None:
        if not at_once:
            self.repository.asked.clear()
            self.repository.faults.insert(0, "stored, hangs")
            step = asyncio.create_task(delivery.step())
            asked = asyncio.create_task(self.repository.asked.wait())
            await asyncio.wait([step, asked], return_when=asyncio.FIRST_COMPLETED)
            for task in (step, asked):
                task.cancel()
            await asyncio.gather(step, asked, return_exceptions=True)
            self.repository.faults = []
        if delivery._backlog.is_locked:
            self.repeatable += self.confirmed - self.saved
            self.saved = self.confirmed
        delivery._thread.shutdown()
        delivery._backlog.close()

    @rule(deliverer=st.integers(0, DELIVERERS - 1))
    def hand_over(self, deliverer: int) -> None:
        delivery = self.deliverers[deliverer]
        if delivery._backlog.is_locked:
            self.repeatable += self.confirmed - self.saved
            self.saved = self.confirmed
        self.runner.run(delivery._release())

    @invariant()
    @precondition(lambda self: hasattr(self, "folder"))
    def one_delivers(self) -> None:
        assert sum(one._backlog.is_locked for one in self.deliverers) <= 1

    @invariant()
    @precondition(lambda self: hasattr(self, "folder"))
    def nothing_is_lost(self) -> None:
        """Not even if all processes were killed now."""
        backlog = Backlog(self.folder)
        backlog.load()
        waiting = [*backlog.retries, *backlog.next(10_000)]
        there = {json.loads(event.line)["number"] for event in waiting}
        assert self.writer_of.keys() <= there | set(self.repository.stored) | set(
            rejected(self.folder)
        )

    @invariant()
    @precondition(lambda self: hasattr(self, "folder"))
    def order_is_kept(self) -> None:
        """Of each writer, but for events that failed while others were taken, and probes."""
        firsts = list(dict.fromkeys(self.repository.stored))
        for writer in range(WRITERS):
            mine = [n for n in firsts if self.writer_of.get(n) == writer and n not in self.aside]
            assert mine == sorted(mine)

    @invariant()
    @precondition(lambda self: hasattr(self, "folder"))
    def repeats_are_bounded(self) -> None:
        """They are those whose answer was lost, or which were not noted before a kill."""
        stored = self.repository.stored
        unanswered = len(stored) - self.confirmed
        assert len(stored) - len(set(stored)) <= unanswered + self.repeatable
        assert all(len(ids) == 1 for ids in self.repository.ids.values())

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            self.is_full, self.repository.faults = False, []
            spoilers = ("spoils the request", "is silent", 500, 503)
            poison = self.repository.poison
            self.repository.poison = {n: kind for n, kind in poison.items() if kind not in spoilers}
            for spool in self.spools:
                spool.close()
            for number in range(2_000):
                pause = self._step(number % DELIVERERS)
                ready = next((one for one in self.deliverers if one._backlog.is_locked), None)
                if pause and ready and not ready._backlog.measure()[0]:
                    break
            self.nothing_is_lost()
            self.order_is_kept()
            self.repeats_are_bounded()
            kept = set(rejected(self.folder))
            assert self.writer_of.keys() <= set(self.repository.stored) | kept
            assert kept <= poison.keys()
        finally:
            self.runner.run(self._end())
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _end(self) -> None:
        for spool in self.spools:
            spool.close()
        for delivery in self.deliverers:
            delivery._thread.shutdown()
            delivery._backlog.close()
        await self.session.close()
        await self.server.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(module, "_RETRY_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(module, "_SLOW", 0)


def _run(examples: int) -> None:
    run_state_machine_as_test(
        Deliveries,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_fails_nothing_is_lost() -> None:
    _run(30)


@pytest.mark.exhaustive
def test_whatever_fails_nothing_is_lost_however_often() -> None:
    _run(300)


def test_each_state_has_an_answer_to_each_result() -> None:
    for state in DeliveryState:
        assert set(TRANSITIONS[state]) == set(StepResult)


def test_each_state_is_reached_and_left() -> None:
    reached: Any = {follower for row in TRANSITIONS.values() for follower in row.values()}
    assert reached == set(DeliveryState)
    for state, row in TRANSITIONS.items():
        assert set(row.values()) != {state}

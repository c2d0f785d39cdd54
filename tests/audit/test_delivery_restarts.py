"""Audit events outlive a process, and a reload's two generations share them (SIA-60)."""

import asyncio
import sys
import threading
from pathlib import Path

import aiohttp
import pytest

from sidecar.audit import delivery as module
from sidecar.audit.backlog import SpooledEvent
from sidecar.audit.spool import Spool
from tests.audit.deliveries import Line, line_to, line_with_lock, numbers, size_of, soon
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import WAIT_SECONDS, wait_until_async

__all__ = ["soon"]


@pytest.fixture
def long_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take the lock in time, however slow the machine is."""
    monkeypatch.setattr(module, "_YIELD_SECONDS", WAIT_SECONDS)


async def test_what_is_left_at_the_end_is_told_by_the_next_process(tmp_path: Path) -> None:
    repository = FhirRepository()
    repository.status = 500
    async with line_to(tmp_path, repository) as line:
        line.tell(range(30))
    repository.status = None
    async with line_to(tmp_path, repository) as line:
        line.tell(range(30, 31))
        await wait_until_async("events", lambda: len(repository.events), lambda found: found == 31)
    assert numbers(repository) == list(range(31))


async def test_the_end_waits_for_what_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few seconds: a pod's disk may go with it."""
    monkeypatch.setattr(module, "FINISH_SECONDS", 30)
    repository = FhirRepository()
    repository.seconds = 0.1
    async with line_to(tmp_path, repository, batch=10) as line:
        line.tell(range(50))
    assert numbers(repository) == list(range(50))


async def test_what_is_told_last_is_delivered_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the delivery reads that nothing is there."""
    repository, has_read, goes_on = FhirRepository(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    async with line_to(tmp_path, repository) as line:
        read = line.backlog.next

        def read_before_the_end(most: int) -> list[SpooledEvent]:
            events = read(most)
            if most > 1:  # Else the queue is measured.
                loop.call_soon_threadsafe(has_read.set)
                goes_on.wait()
            return events

        monkeypatch.setattr(line.backlog, "next", read_before_the_end)
        await has_read.wait()
        line.tell(range(1))
        loop.call_soon(goes_on.set)
    assert numbers(repository) == [0]


async def test_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINISH_SECONDS", 1)
    repository = FhirRepository()
    repository.seconds = 3_600
    async with asyncio.timeout(WAIT_SECONDS), line_to(tmp_path, repository) as line:
        line.tell(range(2))
        await wait_until_async("a request", lambda: repository.requests)


async def test_ids_of_ours_are_the_same_after_a_crash(tmp_path: Path) -> None:
    """The answer got lost with the process, or the position did."""
    repository = FhirRepository()
    for times in (1, 2):
        async with line_to(tmp_path, repository, update=True, batch=3) as line:
            line.tell(range(10 if times == 1 else 0))
            await wait_until_async(
                "delivered", lambda: line.outcome("delivered"), lambda found: found == 10
            )
            (tmp_path / "progress.json").unlink()
    assert len(repository.requests) == 8
    assert numbers(repository) == list(range(10))


async def test_two_generations_share_a_folder(tmp_path: Path) -> None:
    """A reload: the old one still writes while the new one already does."""
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as old, line_to(tmp_path, repository) as new:
        for number in range(0, 40, 2):
            old.tell(range(number, number + 1))
            new.tell(range(number + 1, number + 2))
        await wait_until_async(
            "deliveries",
            lambda: old.outcome("delivered") + new.outcome("delivered"),
            lambda found: found == 40,
        )
    assert sorted(numbers(repository)) == list(range(40))
    for begin in (0, 1):  # Of each the order is kept.
        mine = [number for number in numbers(repository) if number % 2 == begin]
        assert mine == sorted(mine)


@pytest.mark.usefixtures("long_yield")
async def test_the_next_generation_delivers_at_once(tmp_path: Path) -> None:
    """Records that the old generation still writes go to the new address too."""
    before, after = FhirRepository(), FhirRepository()
    before.status = 500
    async with line_with_lock(tmp_path, before) as old, line_to(tmp_path, after) as new:
        old.tell(range(5))
        await wait_until_async("before.requests", lambda: before.requests)
        old.delivery.hand_over()
        await wait_until_async("events", lambda: len(after.events), lambda found: found == 5)
        asked = len(before.requests)
        old.tell(range(5, 7))
        await wait_until_async(
            "delivered", lambda: new.outcome("delivered"), lambda found: found == 7
        )
        assert len(before.requests) == asked
    assert numbers(after) == list(range(7))
    assert before.events == []


@pytest.mark.usefixtures("long_yield")
async def test_a_process_that_drains_ends_with_the_request_under_way(tmp_path: Path) -> None:
    """And nothing is told twice."""
    repository = FhirRepository()
    repository.most, repository.seconds = 1, 0.02
    async with line_with_lock(tmp_path, repository) as old, line_to(tmp_path, repository) as new:
        old.tell(range(100))
        await wait_until_async(
            "delivered", lambda: old.outcome("delivered"), lambda found: found >= 3
        )
        old.delivery.hand_over()
        await wait_until_async(
            "the rest", lambda: new.outcome("delivered") + old.outcome("delivered"), (100.0).__eq__
        )
        assert new.outcome("delivered") > 50
        await wait_until_async(
            "the queues' lengths",
            lambda: (old.value("audit_queue_bytes"), new.value("audit_queue_bytes")),
            (0.0, 0.0).__eq__,
        )
    assert numbers(repository) == list(range(100))


async def test_where_nobody_takes_over_a_process_that_drains_goes_on(tmp_path: Path) -> None:
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as line:
        line.tell(range(5))
        line.delivery.hand_over()
        for number in range(5, 8):  # Again after each pause.
            await wait_until_async("events", lambda: len(repository.events), number.__eq__)
            line.tell(range(number, number + 1))
    assert numbers(repository) == list(range(8))


async def test_a_process_that_drains_lets_go_at_pauses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that goes, whose disk goes with it, has much to deliver and nobody to take over."""
    repository, locks = FhirRepository(), 0
    repository.status = 503
    async with line_to(tmp_path, repository, batch=1) as line:
        lock = line.backlog.lock

        def counted() -> None:
            nonlocal locks
            locks += 1
            lock()

        monkeypatch.setattr(line.backlog, "lock", counted)
        line.tell(range(50))
        line.delivery.hand_over()
        repository.recover_with(0)
        await wait_until_async("events", lambda: len(repository.events), (50).__eq__)
        assert locks < 10
    assert numbers(repository) == list(range(50))


async def test_one_process_of_several_counts_what_waits(tmp_path: Path) -> None:
    """So that the sum over all is right."""
    repository = FhirRepository()
    repository.status = 503
    async with line_to(tmp_path, repository) as first, line_to(tmp_path, repository) as second:
        for line in (first, second):
            line.tell(range(10))
        both = lambda: sum(line.value("audit_queue_bytes") for line in (first, second))  # noqa: E731
        await wait_until_async("what waits", both, float(2 * size_of(range(10))).__eq__)
        assert 0 in [line.value("audit_queue_bytes") for line in (first, second)]
        repository.status = None
        await wait_until_async("nothing", both, (0.0).__eq__)


KILLED = """
import asyncio, sys
from pathlib import Path
import aiohttp
from sidecar.audit import delivery
from sidecar.audit.backlog import Backlog
from sidecar.audit.repository import Repository
from sidecar.telemetry.metrics import Metrics
async def main():
    async with aiohttp.ClientSession() as session:
        repository = Repository(session, sys.argv[2], timeout_seconds=100)
        line = delivery.Delivery(Backlog(Path(sys.argv[1])), repository, Metrics("0"), batch=5)
        async with line.running():
            await asyncio.sleep(1_000)
asyncio.run(main())
"""


async def test_another_process_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    """What it had sent and did not note is told again: a batch at most."""
    repository = FhirRepository()
    repository.seconds = 0.02
    async with repository.running() as url, aiohttp.ClientSession() as session:
        spool = Spool(tmp_path, max_bytes=2**30)
        for number in range(200):
            spool.write(b'{"resourceType":"AuditEvent","number":%d}\n' % number)
        command = [sys.executable, "-c", KILLED, str(tmp_path), url]
        process = await asyncio.create_subprocess_exec(*command)
        line = Line(tmp_path, url, session, batch=5)
        await wait_until_async("some", lambda: len(repository.events), lambda found: found >= 20)
        async with line.delivery.running():
            process.kill()
            assert await process.wait() == -9
            await wait_until_async("all", lambda: set(numbers(repository)), set(range(200)).__eq__)
        spool.close()
    found = numbers(repository)
    assert len(found) <= 205
    firsts = sorted(range(200), key=found.index)
    assert firsts == list(range(200))

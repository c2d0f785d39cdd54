"""Delivery of audit events on a disk that is full or cannot be read (SIA-60)."""

import errno
import json
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import web

from sidecar.audit import backlog as backlog_module
from sidecar.audit import delivery as module
from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import LOCK, PROGRESS, REJECTED, segments
from tests.audit.deliveries import line_to, numbers, rejected, size_of, soon
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import WAIT_SECONDS, wait_until_async

__all__ = ["soon"]


async def test_a_full_disk_and_a_server_that_fails_recover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be written, not even what is given up; then the server takes all, and that makes
    the room.
    """
    monkeypatch.setattr(module, "_MOST_RETRIES", 10)
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] % 2 else 201

    def full(descriptor: int, line: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left on device")

    async with line_to(tmp_path, repository, batch=10) as line:
        for begin in range(0, 100, 10):
            line.tell(range(begin, begin + 10))
            line.spool.close()
        monkeypatch.setattr(backlog_module, "write_whole", full)
        await wait_until_async(
            "a full disk", lambda: "rejected.jsonl cannot be written" in caplog.text
        )
        repository.of_event = lambda event: 201
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 100
        )
        await wait_until_async("not segments(tmp_path)", lambda: not segments(tmp_path))
    assert set(numbers(repository)) == set(range(100))
    assert not (tmp_path / (PROGRESS + ".new")).exists()


@pytest.mark.parametrize("what", [LOCK, PROGRESS])
async def test_a_spool_that_cannot_be_read_is_seen_to_wait(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / what).mkdir()
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as line:
        line.tell(range(3))
        await wait_until_async(
            "audit_queue_bytes",
            lambda: line.value("audit_queue_bytes"),
            float(size_of(range(3))).__eq__,
        )
        assert line.value("audit_queue_age_seconds") > 1_000_000
        (tmp_path / what).rmdir()
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 3
        )
    assert "audit events wait" in caplog.text


async def test_one_that_is_no_json_is_kept_where_people_look(tmp_path: Path) -> None:
    repository = FhirRepository()
    handle = repository.handle

    async def strict(request: web.Request) -> web.Response:
        try:
            json.loads(await request.read())
        except ValueError:
            return web.Response(status=500)
        return await handle(request)

    repository.handle = strict  # type: ignore[method-assign]
    async with line_to(tmp_path, repository, batch=10) as line:
        line.tell(range(2))
        line.spool.write(b'{"resourceType":"Aud\n')
        number = 2

        def one_more() -> float:
            nonlocal number
            line.tell(range(number, number + 1))
            number += 1
            return line.outcome("rejected")

        await wait_until_async("rejected", one_more, lambda found: found == 1)
        await wait_until_async("delivered", lambda: line.outcome("delivered") == number)
    assert numbers(repository) == list(range(number))
    assert (tmp_path / REJECTED).read_bytes() == b'{"resourceType":"Aud\n'


async def test_too_many_make_room_in_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_RETRIES", 5)
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] % 2 else 201
    async with line_to(tmp_path, repository, batch=4) as line:
        line.tell(range(60))
        await wait_until_async(
            "delivered", lambda: line.outcome("delivered"), lambda found: found == 30
        )
        repository.of_event = lambda event: 201
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
    assert sorted([*numbers(repository), *rejected(tmp_path)]) == list(range(60))


async def test_on_a_full_disk_delivery_goes_on_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is aside cannot be written down: its segment stays, and no position says that it is done
    with.
    """
    repository = FhirRepository()
    repository.of_event = lambda event: 500 if event["number"] == 0 else 201

    def full(descriptor: int, line: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        async with line_to(tmp_path, repository, batch=10) as line:
            for begin in range(0, 40, 10):
                line.tell(range(begin, begin + 10))
                line.spool.close()
            patch.setattr(backlog_module, "write_whole", full)
            await wait_until_async(
                "delivered", lambda: line.outcome("delivered"), lambda found: found == 39
            )
            await wait_until_async(
                "audit_queue_bytes",
                lambda: line.value("audit_queue_bytes"),
                float(size_of([0])).__eq__,
            )
            await wait_until_async(
                "segments", lambda: len(segments(tmp_path)), lambda found: found == 1
            )
    assert numbers(repository) == list(range(1, 40))
    repository.of_event = lambda event: 201
    async with line_to(tmp_path, repository, batch=10, update=False) as line:
        await wait_until_async(
            'line.value("audit_queue_bytes") == 0 and 0 in numbers(repository)',
            lambda: line.value("audit_queue_bytes") == 0 and 0 in numbers(repository),
        )
    # Nobody could write down that of its segment the others were told.
    assert numbers(repository) == [*range(1, 40), *range(10)]


async def test_positions_that_cannot_be_written_count_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repository = FhirRepository()

    def full(descriptor: int, line: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left on device")

    async with line_to(tmp_path, repository, batch=10) as line:
        with monkeypatch.context() as patch:
            patch.setattr(backlog_module, "write_whole", full)
            line.tell(range(30))
            await wait_until_async(
                "delivered", lambda: line.outcome("delivered"), lambda found: found == 30
            )
            await wait_until_async("a full disk", lambda: "took cannot be noted" in caplog.text)
        repository.status = 503
        line.tell(range(30, 50))
        await wait_until_async(
            "audit_queue_bytes",
            lambda: line.value("audit_queue_bytes"),
            float(size_of(range(30, 50))).__eq__,
        )
        repository.recover_with(30)
        await wait_until_async(
            "audit_queue_bytes", lambda: line.value("audit_queue_bytes"), lambda found: found == 0
        )
    assert numbers(repository) == list(range(50))


async def test_a_disk_that_is_slow_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes on while the delivery waits for its disk."""
    waits, goes_on = threading.Event(), threading.Event()

    def slow(descriptor: int, line: bytes) -> None:
        waits.set()
        assert goes_on.wait(WAIT_SECONDS)
        write_whole(descriptor, line)

    repository = FhirRepository()
    async with line_to(tmp_path, repository) as line:
        monkeypatch.setattr(backlog_module, "write_whole", slow)
        line.tell(range(3))
        await wait_until_async("the disk", waits.is_set)
        line.tell(range(3, 5))
        goes_on.set()
        await wait_until_async("delivered", lambda: line.outcome("delivered"), (5.0).__eq__)

"""Audit events outlive a process, and a reload's two generations share them (SIA-60)."""

import asyncio
from pathlib import Path

import pytest

from sidecar.audit import delivery as module
from tests.audit.deliveries import line_to, numbers, soon
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import WAIT_SECONDS, wait_until_async

__all__ = ["soon"]


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
            (tmp_path / "positions.json").unlink()
    assert len(repository.requests) == 8
    assert numbers(repository) == list(range(10))


async def test_two_generations_share_a_folder(tmp_path: Path) -> None:
    """A reload: the old one still writes while the new one already does."""
    repository = FhirRepository()
    async with line_to(tmp_path, repository) as old, line_to(tmp_path, repository) as new:
        for number in range(0, 40, 2):
            old.tell(range(number, number + 1))
            new.tell(range(number + 1, number + 2))
        await wait_until_async("events", lambda: len(repository.events), lambda found: found == 40)
        assert old.outcome("delivered") + new.outcome("delivered") == 40
    assert sorted(numbers(repository)) == list(range(40))
    for begin in (0, 1):  # Of each the order is kept.
        mine = [number for number in numbers(repository) if number % 2 == begin]
        assert mine == sorted(mine)


async def test_the_next_generation_delivers_at_once(tmp_path: Path) -> None:
    """Records that the old generation still writes go to the new address too."""
    before, after = FhirRepository(), FhirRepository()
    before.status = 500
    async with line_to(tmp_path, before) as old, line_to(tmp_path, after) as new:
        old.tell(range(5))
        await wait_until_async("before.requests", lambda: before.requests)
        old.delivery.retire()
        await wait_until_async("events", lambda: len(after.events), lambda found: found == 5)
        asked = len(before.requests)
        old.tell(range(5, 7))
        await wait_until_async(
            "delivered", lambda: new.outcome("delivered"), lambda found: found == 7
        )
        assert len(before.requests) == asked
    assert numbers(after) == list(range(7))
    assert before.events == []

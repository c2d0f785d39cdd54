"""Deliveries from a spool, and what came in which order."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.audit import delivery as module
from sidecar.audit.backlog import Backlog
from sidecar.audit.delivery import Delivery
from sidecar.audit.repository import Repository
from sidecar.audit.spool import REJECTED, Spool
from sidecar.telemetry.metrics import Metrics
from tests.audit.fhir_repository import FhirRepository
from tests.waiting import wait_until_async


class Line:
    """A spool and what delivers from it."""

    def __init__(
        self,
        folder: Path,
        url: str,
        session: aiohttp.ClientSession,
        *,
        batch: int = 100,
        **how: Any,
    ) -> None:
        self.metrics = Metrics("0")
        self.metrics.begin_audit("fhir")
        self.repository = Repository(session, url, **how)
        self.backlog = Backlog(folder)
        self.delivery = Delivery(self.backlog, self.repository, self.metrics, batch=batch)
        self.spool = Spool(folder, max_bytes=2**30, observe=self.metrics.observe_audit)

    def tell(self, numbers: range) -> None:
        for number in numbers:
            self.spool.write(event_line(number))

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value("smart_imaging_" + name, labels) or 0.0

    def outcome(self, outcome: str) -> float:
        return self.value("audit_events_total", sink="fhir", outcome=outcome)


def event_line(number: int) -> bytes:
    event = {
        "resourceType": "AuditEvent",
        "recorded": "2026-01-01T00:00:00.000+00:00",
        "number": number,
    }
    return json.dumps(event).encode() + b"\n"


def size_of(numbers: Iterable[int]) -> int:
    """How many bytes these events have in the spool."""
    return sum(len(event_line(number)) for number in numbers)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "_RETRY_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_YIELD_SECONDS", 0.2)
    monkeypatch.setattr(module, "FINISH_SECONDS", 60)


@asynccontextmanager
async def line_to(
    folder: Path, repository: FhirRepository, *, port: int = 0, **how: Any
) -> AsyncIterator[Line]:
    async with repository.running(port) as url, aiohttp.ClientSession() as session:
        line = Line(folder, url, session, **how)
        async with line.delivery.running():
            yield line
        line.spool.close()


@asynccontextmanager
async def line_with_lock(folder: Path, repository: FhirRepository) -> AsyncIterator[Line]:
    """A line that delivers: those that come later are the ones that wait for the lock."""
    async with line_to(folder, repository) as line:
        await wait_until_async("the lock", lambda: line.backlog.is_locked)
        yield line


def numbers(repository: FhirRepository) -> list[int]:
    return [event["number"] for event in repository.events]


def out_of_order(found: list[int]) -> int:
    """How many must be left out for the others to be in order."""
    longest: list[int] = []
    for at, number in enumerate(found):
        longest.append(
            1 + max((longest[before] for before in range(at) if found[before] < number), default=0)
        )
    return len(found) - max(longest, default=0)


def rejected(folder: Path) -> list[int]:
    """Return the numbers of the events that the repository has rejected for good."""
    try:
        return sorted(
            json.loads(line)["number"] for line in (folder / REJECTED).read_text().splitlines()
        )
    except FileNotFoundError:
        return []

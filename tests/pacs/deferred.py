"""A slow archive, and the requests to it that are deferred."""

import asyncio
from collections.abc import Callable

from sidecar.pacs.deferred_requests import DeferredRequests


class Door:
    """Something opened; ``closed`` says that it was let go."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Archive:
    """Opens a door when told to; counts how often it was asked."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.asked = 0
        self.cancelled = 0
        self.failing: Exception | None = None
        self.doors: list[Door] = []

    async def open(self, note: Callable[[], None] = lambda: None) -> Door:
        self.asked += 1
        self.note = note
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failing is not None:
            raise self.failing
        self.doors.append(Door())
        return self.doors[-1]


def deferred_requests(**changes: float) -> DeferredRequests[Door]:
    given = {"patience_seconds": 0.05, "warm_seconds": 60, "keep_seconds": 60, "limit": 2} | changes
    return DeferredRequests(Door.close, **given)  # type: ignore[arg-type]

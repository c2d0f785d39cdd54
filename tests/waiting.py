"""Waiting in tests for what becomes true later: one helper, with a generous end that says what it
waited for.
"""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from time import monotonic, sleep
from typing import Any, NoReturn, TypeVar, overload

Seen = TypeVar("Seen")

WAIT_SECONDS = float(os.environ.get("TEST_WAIT_SECONDS", "120"))
"""The end of every wait: it is for what never comes, on a machine as busy as may be. Nothing waits
for it in vain.
"""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.1


class _Wait:
    """What was looked at last, and how long until the next look."""

    def __init__(self, what: str, seconds: float, explain: Callable[[], str] | None) -> None:
        self._what, self._seconds, self._explain = what, seconds, explain
        self._until = monotonic() + seconds
        self._pause = _FIRST_PAUSE_SECONDS
        self.last: object = "nothing"

    def next_pause(self) -> float:
        """Return the seconds until the next look. Raises ``AssertionError`` when the wait is
        over.
        """
        if monotonic() > self._until:
            more = f"\n{self._explain()}" if self._explain else ""
            raise AssertionError(
                f"{self._what}: not within {self._seconds:g} s; seen last: {self.last!r}{more}"
            )
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE_SECONDS)
        return self._pause


def wait_until(
    what: str,
    look: Callable[[], Seen],
    holds: Callable[[Seen], object] = bool,
    *,
    not_yet: tuple[type[Exception], ...] = (),
    seconds: float = WAIT_SECONDS,
    explain: Callable[[], str] | None = None,
) -> Seen:
    """Look again and again until ``holds`` is true of what is seen, and return that.

    An exception of ``not_yet`` counts as seen and not held; any other ends the wait. Raises
    ``AssertionError`` after ``seconds`` with ``what``, what was seen last, and what ``explain``
    returns (a log, say).
    """
    wait = _Wait(what, seconds, explain)
    while True:
        try:
            wait.last = seen = look()
            if holds(seen):
                return seen
        except not_yet as error:
            wait.last = error
        sleep(wait.next_pause())


@overload
async def wait_until_async(
    what: str,
    look: Callable[[], Awaitable[Seen]],
    holds: Callable[[Seen], object] = bool,
    *,
    seconds: float = WAIT_SECONDS,
) -> Seen: ...


@overload
async def wait_until_async(
    what: str,
    look: Callable[[], Seen],
    holds: Callable[[Seen], object] = bool,
    *,
    seconds: float = WAIT_SECONDS,
) -> Seen: ...


async def wait_until_async(
    what: str,
    look: Callable[[], Any],
    holds: Callable[[Any], object] = bool,
    *,
    seconds: float = WAIT_SECONDS,
) -> Any:
    """Do as ``wait_until`` while the event loop goes on; ``look`` may be a coroutine function."""
    wait = _Wait(what, seconds, None)
    while True:
        seen = look()
        wait.last = seen = await seen if inspect.isawaitable(seen) else seen
        if holds(seen):
            return seen
        await asyncio.sleep(wait.next_pause())


async def forever() -> NoReturn:
    """Never return: for a peer that is silent until it is left or cancelled."""
    while True:
        await asyncio.sleep(3_600)


def pass_time(seconds: float) -> None:
    """Let so many seconds have passed for the timers of the event loop.

    So a client's time-out ends when its peer has been asked, and not before, however busy the
    machine is.
    """
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


async def outlast(seconds: float) -> NoReturn:
    """Never return, with ``seconds`` that have passed: for a peer that is silent until then."""
    pass_time(seconds)
    await forever()

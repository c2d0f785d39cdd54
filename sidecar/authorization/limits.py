"""Limit what runs at once for one app, for one patient and in all.

What is more waits in a fair queue for seconds before it is refused: viewers do not repeat a 429 or
a 503.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn, Self, TypeAlias

from sidecar.access.facts import Token
from sidecar.common.errors import Problem, Unavailable
from sidecar.common.fair_queue import UNLIMITED, FairQueue, Key, QueueFull, WaitTooLong
from sidecar.common.spans import measure
from sidecar.dicomweb.paths import Kind, Retrieval

RETRY_AFTER_SECONDS = 2
WAIT_SECONDS = 20
"""Longest wait for a place.

With ``limits.defer_after_seconds`` it stays below the 60 seconds after which nginx gives up.
"""
SEARCHES_AT_ONCE = (32, 6, 4)
"""Searches and reads of lists at once: in all, for one patient, for one app.

Each may have megabytes in memory.
"""
QUERIES_AT_ONCE, QUERIES_WAITING, QUERY_WAIT_SECONDS = (32, 8), 500, 30
"""In all, and for one caller: of the 32 connections that queries have at the PACS."""

Caller: TypeAlias = tuple[Hashable, Hashable]
"""Who holds a place: the patient in context (without one: the client and its user), and the app."""

_SMALL = frozenset({Kind.METADATA, Kind.THUMBNAIL})


class TooManyRequests(Problem):
    """The client has enough under way: 429, with ``Retry-After`` in seconds."""

    status = 429
    code = "throttled"


def caller_of(token: Token) -> Caller:
    """Return who asks: all apps of one patient are one caller, with one part for each app."""
    app = (token.client_id, token.subject)
    return ("client", *app) if token.patient is None else ("patient", token.patient), app


def most_waiting(connections: int) -> tuple[int, int, int]:
    """Return how many requests may wait in a queue: in all, for one patient, for one of its apps.

    ``connections``: how many clients may have at once. Nobody's waiting keeps others from
    connecting.
    """
    return max(1, connections // 4), max(1, connections // 8), max(1, connections // 8)


class RequestLimits:
    """Places for transfers and for searches.

    ``transfers`` places in all, half of them for one patient, ``transfers_of_app`` for one app of
    the patient. Whole studies and series have at most half of each, so that they leave places to
    what a viewer shows. ``connections``: see ``most_waiting``.
    """

    def __init__(self, *, transfers: int, transfers_of_app: int, connections: int) -> None:
        at_once = (transfers, _half(transfers), transfers_of_app)
        waiting = most_waiting(connections)
        self.transfers = FairQueue(at_once, waiting=waiting, seconds=WAIT_SECONDS)
        self.whole_transfers = FairQueue(
            [_half(limit) for limit in at_once], waiting=waiting, seconds=WAIT_SECONDS
        )
        self.searches = FairQueue(SEARCHES_AT_ONCE, waiting=waiting, seconds=WAIT_SECONDS)

    def transfer(self, token: Token, retrieval: Retrieval) -> "HeldPlaces":
        """Wait for the places of ``retrieval``, and hold them while the block runs.

        Entering it raises ``TooManyRequests`` or ``Unavailable``.
        """
        is_whole = retrieval.part.instance is None and retrieval.kind not in _SMALL
        # In this order alone: whoever holds the last place waits for none.
        queues = [self.whole_transfers, self.transfers] if is_whole else [self.transfers]
        return HeldPlaces(queues, token, "streams")

    def search(self, token: Token) -> "HeldPlaces":
        """Wait for a place for a search, and hold it as ``transfer`` does."""
        return HeldPlaces([self.searches], token, "searches")


class QueryLimits:
    """Places for questions to the PACS, so that one caller's do not keep others from theirs."""

    def __init__(self) -> None:
        self._queue = FairQueue(
            QUERIES_AT_ONCE, waiting=(UNLIMITED, QUERIES_WAITING), seconds=QUERY_WAIT_SECONDS
        )

    @asynccontextmanager
    async def place(self, token: Token) -> AsyncIterator[None]:
        """Wait for one of the places of the token's patient, and hold it while the block runs.

        Raises ``TooManyRequests`` or ``Unavailable``.
        """
        key = caller_of(token)[:1]
        await _enter(self._queue, key, "queries")
        try:
            yield
        finally:
            self._queue.leave(key)


class HeldPlaces:
    """Hold a place in each of the queues; all of them are waited for ``WAIT_SECONDS`` at most."""

    def __init__(self, queues: Sequence[FairQueue], token: Token, what: str) -> None:
        self._queues = queues
        self._key = caller_of(token)
        self._what = what
        self._held: list[FairQueue] = []

    def is_wanted(self) -> bool:
        """Return whether another caller waits who could go on if these places became free."""
        return any(queue.would_serve_another(self._key) for queue in self._queues)

    async def __aenter__(self) -> Self:
        clock = asyncio.get_running_loop().time
        until = clock() + WAIT_SECONDS
        try:
            with measure("queue"):
                for queue in self._queues:
                    await _enter(queue, self._key, self._what, until - clock())
                    self._held.append(queue)
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for queue in reversed(self._held):
            queue.leave(self._key)


async def _enter(queue: FairQueue, key: Key, what: str, seconds: float | None = None) -> None:
    """Wait for a place in the queue. A refusal says that there are too many of ``what``."""
    try:
        await queue.enter(key, seconds)
    except QueueFull as full:
        _refuse(full.level, what)
    except WaitTooLong:
        raise Unavailable(
            "The server is busy; try again.",
            reason=f"{what}_queue_timeout",
            retry_after=RETRY_AFTER_SECONDS,
        ) from None


def _refuse(level: int, what: str) -> NoReturn:
    if level == 0:
        raise Unavailable(
            "Too many requests wait at the server; try again.",
            reason=f"too_many_{what}",
            retry_after=RETRY_AFTER_SECONDS,
        ) from None
    whose = ("patient", "client")[level - 1]
    raise TooManyRequests(
        f"Too many requests of this {whose} wait; wait for some to end.",
        reason=f"too_many_{what}_of_{whose}",
        retry_after=RETRY_AFTER_SECONDS,
    ) from None


def _half(limit: int) -> int:
    return max(1, limit // 2)

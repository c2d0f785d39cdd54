"""How many transfers and queries run at once: overall, and for one client, so that no app takes all (429, 503)."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator

from sidecar.common.errors import Problem, Unavailable
from sidecar.common.turns import Busy, FairTurns

RETRY_AFTER_SECONDS = 2
QUERIES_AT_ONCE, QUERIES_WAITING, QUERY_WAIT_SECONDS = 8, 500, 30
"""For one patient: of the 32 connections that queries have at the PACS."""


class TooManyRequests(Problem):
    """The client has enough under way: 429, with ``Retry-After`` in seconds."""

    status = 429
    code = "throttled"


class StreamLimits:
    """At most ``overall`` transfers, and ``per_client`` for one client, at the same time."""

    def __init__(self, *, overall: int, per_client: int) -> None:
        self._overall = overall
        self._per_client = per_client
        self._running: Counter[Hashable] = Counter()

    @contextlib.contextmanager
    def slot(self, client: Hashable) -> Iterator[None]:
        """Count one transfer of ``client`` while the block runs. Raises ``TooManyRequests`` or ``Unavailable``."""
        if self._running[client] >= self._per_client:
            raise TooManyRequests(
                "This app has too many transfers under way; wait for one to end.",
                reason="too_many_streams_of_client", retry_after=RETRY_AFTER_SECONDS,
            )  # fmt: skip
        if self._running.total() >= self._overall:
            raise Unavailable(
                "The server has too many transfers under way; try again.",
                reason="too_many_streams", retry_after=RETRY_AFTER_SECONDS,
            )  # fmt: skip
        self._running[client] += 1
        try:
            yield
        finally:
            self._running[client] -= 1
            if not self._running[client]:
                del self._running[client]


class QueryLimits:
    """So that nobody's questions to the PACS, about studies that are not there, keep others from theirs."""

    def __init__(self) -> None:
        self._turns = FairTurns(QUERIES_AT_ONCE, waiting=QUERIES_WAITING, seconds=QUERY_WAIT_SECONDS)

    @contextlib.asynccontextmanager
    async def turn(self, patient: str) -> AsyncIterator[None]:
        """Hold one of the patient's turns while the block runs. Raises ``TooManyRequests``."""
        try:
            async with self._turns.turn(patient):
                yield
        except Busy:
            raise TooManyRequests(
                "Too many requests for this patient are under way; wait for some to end.",
                reason="too_many_queries_of_patient", retry_after=RETRY_AFTER_SECONDS,
            ) from None  # fmt: skip

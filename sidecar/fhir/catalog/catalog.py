"""Catalog of when a study was first seen as it is: ``meta.lastUpdated`` (SIA-20, decision 0008).

A PACS's own clocks and dates do not show what changed. The catalog keeps a fingerprint of each
study's row and the time at which that fingerprint was first seen. ``_lastUpdated=gt<my last sync>``
may then bring a study too often (first sight, a restart, another replica) and misses no change.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from cachetools import LRUCache

from sidecar.common.errors import Unavailable
from sidecar.common.slices import for_each, in_slices
from sidecar.dicom.json_model import CompactRow, Row, tag, text
from sidecar.fhir.imaging_study import study_uid

log = logging.getLogger(__name__)

# The URL by which we queried may change without the study changing.
_VOLATILE = frozenset({tag("RetrieveURL")})

LOOK_SECONDS = 15
"""Longest wait of a request for its exchange with the store, in seconds."""
CLOSE_SECONDS = 5

Seen = dict[str, tuple[bytes, int]]
"""StudyInstanceUID -> fingerprint and its first sight, in milliseconds since 1970."""


class Store(Protocol):
    """Store of what was seen of each patient.

    ``threads``: maximum concurrent exchanges, each in a thread; 0 if the store waits for no disk
    and no network.
    """

    threads: int

    def exchange(
        self, patient: str, fingerprints: Mapping[str, bytes], moment: int
    ) -> dict[str, int]:
        """Store a patient's whole list; return when each study was first seen like this.

        A study that is new or has changed is seen at ``moment``. One that is not in the list is
        deleted, so that it is new when it comes back. The exchange is atomic.
        """

    def close(self) -> None:
        """Free the store's resources."""


def merge(known: Seen, fingerprints: Mapping[str, bytes], moment: int) -> Seen:
    """Return what is known of a patient after this list."""
    return {
        uid: known[uid] if uid in known and known[uid][0] == fingerprint else (fingerprint, moment)
        for uid, fingerprint in fingerprints.items()
    }


class MemoryStore:
    """Store in this process, of at most ``max_entries`` studies.

    The studies of a patient who was evicted count as new.
    """

    threads = 0

    def __init__(self, max_entries: int = 200_000) -> None:
        self._seen: LRUCache[str, Seen] = LRUCache(
            max_entries, getsizeof=lambda seen: len(seen) + 1
        )

    def exchange(
        self, patient: str, fingerprints: Mapping[str, bytes], moment: int
    ) -> dict[str, int]:
        """As ``Store``. A list that is longer than ``max_entries`` is not stored."""
        seen = merge(self._seen.get(patient, {}), fingerprints, moment)
        try:
            self._seen[patient] = seen
        except ValueError:
            self._seen.pop(patient, None)
        return {uid: first for uid, (_, first) in seen.items()}

    def close(self) -> None:
        """As ``Store``; there is nothing to free."""


class Catalog:
    """Observations in ``store``.

    Times are whole milliseconds and never go back, even if the clock does. An observation is later
    than every ``now()`` before it. ``skew_seconds``: largest difference between the clocks of the
    processes that share the store.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        clock: Callable[[], float] = time.time,
        skew_seconds: float = 0,
    ) -> None:
        self._store = store or MemoryStore()
        self._clock = clock
        self._skew = timedelta(seconds=skew_seconds)
        self._latest = 0
        # A store that hangs must not take the default threads, which resolve names and read JSON.
        self._threads = (
            ThreadPoolExecutor(self._store.threads, "catalog") if self._store.threads else None
        )

    def now(self) -> datetime:
        """Return the time before which everything has been observed, whoever observed it (UTC).

        Taken before the PACS is asked for a list, it is that list's ``meta.lastUpdated``.
        """
        self._latest = max(self._latest, int(self._clock() * 1_000))
        return _moment(self._latest) - self._skew

    def _next(self) -> int:
        """Return a time in milliseconds that is later than every ``now()`` before."""
        self.now()
        return self._latest + 1

    async def look(self, patient: str, fingerprints: Mapping[str, bytes]) -> dict[str, datetime]:
        """Observe all studies of a patient; return when each was first seen like this, by UID.

        The work is done in a thread where the store waits for a disk or a network.

        Raises ``Unavailable`` (503) when the store does not work, or does not answer within
        ``LOOK_SECONDS``. No request waits for another one's exchange beyond that.
        """
        moment = self._next()
        if self._threads is None:
            return _moments(self._store.exchange(patient, fingerprints, moment))
        exchange = partial(self._store.exchange, patient, fingerprints, moment)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return _moments(
                    await asyncio.get_running_loop().run_in_executor(self._threads, exchange)
                )
        except OSError as error:
            # A time that was not stored must not be sent: a later sync would rest on it.
            detail = "timeout" if isinstance(error, TimeoutError) else error.strerror
            log.error("the catalog does not work", extra={"detail": detail})
            raise Unavailable(
                "This server cannot keep its records now; try again.", reason="catalog"
            ) from None

    def close(self) -> None:
        """Close the store after the exchanges under way; wait ``CLOSE_SECONDS`` at most."""
        if self._threads is None:
            self._store.close()
            return
        closing = self._threads.submit(self._store.close)
        self._threads.shutdown(wait=False)
        wait([closing], timeout=CLOSE_SECONDS)


def _moments(first: Mapping[str, int]) -> dict[str, datetime]:
    # Most studies of a list were first seen with others: they share the time.
    moments = {milliseconds: _moment(milliseconds) for milliseconds in set(first.values())}
    return {uid: moments[milliseconds] for uid, milliseconds in first.items()}


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


async def fingerprints(
    rows: Sequence[Row], series: Mapping[str, Sequence[Row]] | None = None
) -> dict[str, bytes]:
    """Return StudyInstanceUID -> fingerprint of the study's row and those of its series, in slices.

    ``series``: all series rows of each study, where they are known: a change in them changes the
    study.
    """
    uids = await in_slices(map(study_uid, rows))
    below = series or {}
    found = await for_each(
        list(zip(uids, rows, strict=True)),
        lambda item: _fingerprint([item[1], *sorted(below.get(item[0], ()), key=_series_uid)]),
        lambda item: len(below.get(item[0], ())),
    )
    return dict(zip(uids, found, strict=True))


def _series_uid(row: Row) -> str:
    return text(row, "SeriesInstanceUID") or ""


def _fingerprint(rows: Sequence[Row]) -> bytes:
    """Return the fingerprint of a study's row and those of its series."""
    try:
        stable = [
            (row if isinstance(row, CompactRow) else CompactRow(row)).sorted_text(without=_VOLATILE)
            for row in rows
        ]
    except TypeError:  # Nested too deep: such a row counts as changed each time.
        stable = [secrets.token_bytes(16)]
    return hashlib.blake2b(b"\n".join(stable), digest_size=16).digest()

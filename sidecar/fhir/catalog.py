"""When we first saw a study as it is now: ``meta.lastUpdated`` (SIA-20, docs/architecture.md).

A PACS's own clocks and dates do not tell what changed. The catalog keeps a fingerprint of each study's row and the
time at which that fingerprint was first seen; ``_lastUpdated=gt<my last sync>`` may then bring a study too often (first
sight, a restart, another replica) and does not miss a change.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson
from cachetools import LRUCache

from sidecar.common.dicom_json import Row, tag, text
from sidecar.common.errors import Unavailable
from sidecar.common.slices import in_slices
from sidecar.fhir.imaging_study import study_uid

log = logging.getLogger(__name__)

# What may change without the study changing: the URL by which we asked.
_VOLATILE = frozenset({tag("RetrieveURL")})

Seen = dict[str, tuple[bytes, int]]
"""StudyInstanceUID -> fingerprint, and when it was first seen, in milliseconds since 1970."""


class Store(Protocol):
    """Keeps what was seen of each patient. ``blocks``: it waits for a disk or a network."""

    blocks: bool

    def exchange(self, patient: str, fingerprints: Mapping[str, bytes], moment: int) -> dict[str, int]:
        """Remember a patient's whole list; return when each study was first seen like this.

        A study that is new or looks otherwise is seen at ``moment``; one that is not in the list is forgotten, so that
        it is new when it comes back. All at once, for whoever else exchanges the same patient.
        """

    def close(self) -> None:
        """Free what it holds."""


def merge(known: Seen, fingerprints: Mapping[str, bytes], moment: int) -> Seen:
    """What is known of a patient after this list."""
    return {
        uid: known[uid] if uid in known and known[uid][0] == fingerprint else (fingerprint, moment)
        for uid, fingerprint in fingerprints.items()
    }


class MemoryStore:
    """In this process, at most ``max_entries`` studies; those of a patient who is forgotten count as new."""

    blocks = False

    def __init__(self, max_entries: int = 200_000) -> None:
        self._seen: LRUCache[str, Seen] = LRUCache(max_entries, getsizeof=lambda seen: len(seen) + 1)

    def exchange(self, patient: str, fingerprints: Mapping[str, bytes], moment: int) -> dict[str, int]:
        """As ``Store``. A list that is longer than ``max_entries`` is not kept at all."""
        seen = merge(self._seen.get(patient, {}), fingerprints, moment)
        try:
            self._seen[patient] = seen
        except ValueError:
            self._seen.pop(patient, None)
        return {uid: first for uid, (_, first) in seen.items()}

    def close(self) -> None:
        """Nothing is held."""


class Catalog:
    """Observations in ``store``.

    Times are whole milliseconds and never go back, even if the clock does; an observation is always later than every
    ``now()`` before it. ``skew_seconds``: most by which the clocks of those who share the store differ.
    """

    def __init__(
        self, store: Store | None = None, *, clock: Callable[[], float] = time.time, skew_seconds: float = 0
    ) -> None:
        self._store = store or MemoryStore()
        self._clock = clock
        self._skew = timedelta(seconds=skew_seconds)
        self._latest = 0
        self._turn = asyncio.Lock()

    def now(self) -> datetime:
        """Return the time before which everything has been observed, whoever observed it (UTC).

        Taken before the PACS is asked for a list, it is that list's ``meta.lastUpdated``.
        """
        self._latest = max(self._latest, int(self._clock() * 1_000))
        return _moment(self._latest) - self._skew

    def observe(
        self, patient: str, rows: Sequence[Row], series: Mapping[str, Sequence[Row]] | None = None
    ) -> dict[str, datetime]:
        """Take a look at all study rows of a patient; return when each was first seen like this (UTC), by UID.

        ``series``: all series rows of each study, where they are known: what changes in them changes the study.
        """
        return self._exchange(patient, dict(_fingerprints(rows, series)))

    def _exchange(self, patient: str, fingerprints: Mapping[str, bytes]) -> dict[str, datetime]:
        self.now()
        found = self._store.exchange(patient, fingerprints, self._latest + 1)
        return {uid: _moment(first) for uid, first in found.items()}

    async def look(
        self, patient: str, rows: Sequence[Row], series: Mapping[str, Sequence[Row]] | None = None
    ) -> dict[str, datetime]:
        """The same, for an event loop: in slices; a store that blocks is asked in a thread, one exchange at a time.

        Raises ``Unavailable`` (503) when it does not work.
        """
        fingerprints = dict(await in_slices(_fingerprints(rows, series)))
        if not self._store.blocks:
            return self._exchange(patient, fingerprints)
        async with self._turn:
            try:
                return await asyncio.to_thread(self._exchange, patient, fingerprints)
            except OSError as error:
                # What cannot be remembered must not be given out: a later sync would rest on it.
                log.error("the catalog does not work", extra={"detail": error.strerror})
                raise Unavailable("This server cannot keep its records now; try again.", reason="catalog") from None

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def _fingerprints(rows: Sequence[Row], series: Mapping[str, Sequence[Row]] | None) -> Iterator[tuple[str, bytes]]:
    for row in rows:
        uid = study_uid(row)
        yield uid, _fingerprint([row] if series is None else [row, *sorted(series.get(uid, ()), key=_series_uid)])


def _series_uid(row: Row) -> str:
    return text(row, "SeriesInstanceUID") or ""


def _fingerprint(rows: Sequence[Row]) -> bytes:
    """Of a study's row, and those of its series."""
    stable = [{name: element for name, element in row.items() if name not in _VOLATILE} for row in rows]
    try:
        written = orjson.dumps(stable, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # Nested too deep: such a row counts as changed each time, and costs nobody anything else.
        written = secrets.token_bytes(16)
    return hashlib.blake2b(written, digest_size=16).digest()

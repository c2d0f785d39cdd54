"""When we first saw a study as it is now: ``meta.lastUpdated`` (SIA-20, docs/architecture.md).

A PACS's own clocks and dates do not tell what changed. The catalog keeps a fingerprint of each study's row and the
time at which that fingerprint was first seen; ``_lastUpdated=gt<my last sync>`` may then bring a study too often (first
sight, a restart, another replica) and does not miss a change.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import orjson
from cachetools import LRUCache

from sidecar.common.dicom_json import Row, tag

# What may change without the study changing: the URL by which we asked.
_VOLATILE = frozenset({tag("RetrieveURL")})


class Catalog:
    """Observations in memory, at most ``max_entries`` studies; a forgotten study counts as new.

    Times are whole milliseconds and never go back, even if the clock does; an observation is always later than every
    ``now()`` before it.
    """

    def __init__(self, *, max_entries: int = 200_000, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._latest = 0
        self._seen: LRUCache[tuple[str, str], tuple[bytes, int]] = LRUCache(max_entries)

    def now(self) -> datetime:
        """Return the time before which everything has been observed: a Bundle's ``meta.lastUpdated`` (UTC)."""
        self._latest = max(self._latest, int(self._clock() * 1_000))
        return _moment(self._latest)

    def observe(self, patient: str, uid: str, row: Row) -> datetime:
        """Take a look at a study's row; return when it was first seen like this (UTC)."""
        fingerprint = _fingerprint(row)
        known = self._seen.get((patient, uid))
        if known is None or known[0] != fingerprint:
            self.now()
            known = (fingerprint, self._latest + 1)
            self._seen[patient, uid] = known
        return _moment(known[1])


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def _fingerprint(row: Mapping[str, object]) -> bytes:
    stable = {name: element for name, element in row.items() if name not in _VOLATILE}
    try:
        written = orjson.dumps(stable, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # Nested too deep: such a row counts as changed each time, and costs nobody anything else.
        written = secrets.token_bytes(16)
    return hashlib.blake2b(written, digest_size=16).digest()

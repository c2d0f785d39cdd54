"""When we first saw a study as it is now: ``meta.lastUpdated`` (SIA-20, docs/architecture.md).

A PACS's own clocks and dates do not tell what changed. The catalog keeps a fingerprint of each study's row and the
time at which that fingerprint was first seen; ``_lastUpdated=gt<my last sync>`` may then bring a study too often (first
sight, a restart, another replica) and does not miss a change.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson
from cachetools import LRUCache

from sidecar.common.dicom_json import Row, tag

# What may change without the study changing: the URL by which we asked.
_VOLATILE = frozenset({tag("RetrieveURL")})


class Catalog:
    """Observations in memory, at most ``max_entries`` studies; a forgotten study counts as new."""

    def __init__(self, *, max_entries: int = 200_000, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: LRUCache[tuple[str, str], tuple[bytes, float]] = LRUCache(max_entries)

    def observe(self, patient: str, uid: str, row: Row) -> datetime:
        """Take a look at a study's row; return when it was first seen like this (UTC)."""
        fingerprint = _fingerprint(row)
        known = self._seen.get((patient, uid))
        if known is None or known[0] != fingerprint:
            known = (fingerprint, self._clock())
            self._seen[patient, uid] = known
        return datetime.fromtimestamp(known[1], UTC)


def _fingerprint(row: Mapping[str, object]) -> bytes:
    stable = {name: element for name, element in row.items() if name not in _VOLATILE}
    return hashlib.blake2b(orjson.dumps(stable, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

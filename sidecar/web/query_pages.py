"""Make the pages of a client's QIDO-RS query, each row once (PS3.18 8.3.4.4).

The archive's own ``offset`` counts every row that it has. It is passed on where the patient has one
identifier and nothing is left out, so that the archive's rows are the client's. Where a row before
a page may have been left out, the archive's ``offset`` would lose or double a row. There the list
is read once, and its rows are cached for the pages that follow. What is cached is rows, never a
permission: each page is decided anew.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache, Stamp
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import CompactRow, Row
from sidecar.dicomweb.paths import Query
from sidecar.pacs.query_rows import identity_of

CACHED_SECONDS = 60
"""Seconds for which rows, and where pages begin, are cached for the pages that follow."""
CACHED_BYTES = 64 * 2**20
"""Limit in bytes of all cached rows, with their queries; a longer list is not cached."""
CACHED_QUERIES = 2_000
"""Limit of queries for which the beginnings of pages are cached."""
CACHED_STARTS = 100
"""Limit of cached beginnings in one query; the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class QueryKey:
    """A query of a caller: the token (as a hash), the patient, and what the archive is asked."""

    token_hash: str | None
    patient: str
    known_as: frozenset[PatientIdentifier]
    query: Query
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RowPage:
    """The ``rows`` of a page, and whether ``more`` follow.

    ``False`` where nobody asked for one more.
    """

    rows: list[Row]
    more: bool = False


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where the rows of a query come from.

    ``read(offset, limit)`` returns how many rows the archive gave, and those of them that are the
    patient's. ``decide(rows)`` returns those that may be seen now, each with the row that is shown
    of it. ``decide_cached``: the same of rows that were read a while ago, and say whose they were
    then. ``takes_limit``: a limit cuts nothing but rows that may be seen, as a rule.
    ``takes_offset``: the same of an offset.
    """

    read: Callable[[int, int | None], Awaitable[tuple[int, list[Row]]]]
    decide: Callable[[list[Row]], Awaitable[list[tuple[Row, Row]]]]
    decide_cached: Callable[[list[Row]], Awaitable[list[tuple[Row, Row]]]]
    takes_limit: bool
    takes_offset: bool


@dataclass(frozen=True, slots=True)
class _CachedRows:
    rows: Sequence[Row]
    size: int


class QueryPages:
    """Make the pages, and keep rows for those that follow. ``clock``: monotonic, in seconds."""

    def __init__(
        self, invalidation: Invalidation, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rows: LoadingCache[QueryKey, _CachedRows] = LoadingCache(
            invalidation,
            _patient_ids,
            max_entries=CACHED_BYTES,
            ttl_seconds=CACHED_SECONDS,
            study=_study,
            weight=lambda cached: cached.size,
            clock=clock,
        )
        # By how many rows come before: the hash of the last of them. All of them were seen.
        self._starts: LoadingCache[QueryKey, dict[int, int]] = LoadingCache(
            invalidation,
            _patient_ids,
            max_entries=CACHED_QUERIES,
            ttl_seconds=CACHED_SECONDS,
            study=_study,
            clock=clock,
        )

    async def page(
        self,
        key: QueryKey,
        source: RowSource,
        *,
        offset: int,
        limit: int | None,
        peek: bool = False,
    ) -> RowPage:
        """Return the rows from ``offset``, at most ``limit`` or all.

        ``peek``: one more row is asked for, to know whether there is one. Raises what the source
        raises.
        """
        if limit is None:
            return RowPage(await self._whole(key, source, offset, None))
        last = offset + limit + peek
        rows = await self._cached(key, source, offset, last)
        if rows is None and source.takes_limit and (source.takes_offset or offset == 0):
            rows = await self._passed_on(key, source, offset, last, end=offset + limit)
        if rows is None:
            rows = await self._whole(key, source, offset, last)
        return RowPage(rows[:limit], len(rows) > limit)

    async def _cached(
        self, key: QueryKey, source: RowSource, offset: int, last: int
    ) -> list[Row] | None:
        """Return a page of a list that was read.

        ``None``: there is none, or it is decided otherwise now.
        """
        cached = self._rows.peek(key) if offset else None
        if cached is not None:
            wanted = list(cached.rows[offset:last])
            decided = await source.decide_cached(wanted)
            if len(decided) == len(wanted):
                return [shown for _, shown in decided]
        self._rows.discard(key)  # Who begins anew wants what the archive has now.
        return None

    async def _passed_on(
        self, key: QueryKey, source: RowSource, offset: int, last: int, *, end: int
    ) -> list[Row] | None:
        """Return a page as the archive cuts it.

        ``None``: something was left out, or the archive does not page. ``last``: where the rows to
        read end. ``end``: where the page does. The row before comes
        with them: another one than it was says that the archive heeds no offset, or has another
        list or order now. Where it is not known that all rows before were seen, they are read as
        well.
        """
        stamp = self._starts.stamp(key)
        starts = (self._starts.peek(key) or {}) if source.takes_offset else {}
        begin = max((at for at in starts if at <= offset), default=0)
        first = begin - 1 if begin else 0
        count, own = await source.read(first, last - first)
        decided = await source.decide(own)
        if begin and (not decided or _hash(decided[0][0], key) != starts[begin]):
            return None
        if len(decided) < count == last - first:  # A client would take the short page for the last.
            return None
        if len(decided) == count and source.takes_offset:
            self._note(key, min(end, first + count), first, decided, stamp)
        return [shown for _, shown in decided[offset - first :]]

    def _note(
        self,
        key: QueryKey,
        at: int,
        first: int,
        decided: Sequence[tuple[Row, Row]],
        stamp: Stamp,
    ) -> None:
        """Remember that a page may begin at ``at``, behind a row of ``decided``.

        Those begin at ``first``.
        """
        before = None if at <= first else _hash(decided[at - first - 1][0], key)
        if before is None:
            return
        starts = dict(self._starts.peek(key) or {})
        starts.pop(at, None)
        starts[at] = before
        self._starts.put(key, dict(list(starts.items())[-CACHED_STARTS:]), stamp)

    async def _whole(
        self, key: QueryKey, source: RowSource, offset: int, last: int | None
    ) -> list[Row]:
        """Read the whole list, and keep it for the pages that follow."""
        stamp = self._rows.stamp(key)
        _, own = await source.read(0, None)
        decided = await source.decide(own)
        sizes = await in_slices(
            row.size if isinstance(row, CompactRow) else CACHED_BYTES + 1 for row, _ in decided
        )
        size = key_bytes(key) + sum(sizes)
        if last is not None and size <= CACHED_BYTES:
            self._rows.put(key, _CachedRows([row for row, _ in decided], size), stamp)
        return [shown for _, shown in decided[offset:last]]


def key_bytes(key: QueryKey) -> int:
    """Return about how many bytes a cached query takes without rows: it bounds empty lists, too.

    A character is counted as four bytes.
    """
    return 1_000 + 4 * sum(len(name) + len(value) for name, value in key.parameters)


def _patient_ids(key: QueryKey) -> set[str]:
    return {known.patient_id for known in key.known_as}


def _study(key: QueryKey) -> str:
    """Return the study that the path names; no study has the empty UID."""
    return key.query.study or ""


def _hash(row: Row, key: QueryKey) -> int | None:
    """What tells this row from others; ``None`` where it has no UID."""
    identity = identity_of(row, key.query.level)
    return None if identity[0] is None else hash(identity)

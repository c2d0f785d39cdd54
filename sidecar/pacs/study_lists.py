"""Query the whole list of a patient's studies, with their series if wanted (SIA-25).

The PACS's rows are cached for some seconds, never a permission: each answer is decided anew.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain

from sidecar.access.decision import decide_owners
from sidecar.access.facts import PatientIdentifier
from sidecar.access.permits import SearchPermit
from sidecar.common.invalidation import FRESH_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, RowsByUid, text
from sidecar.pacs.client import PacsClient
from sidecar.pacs.listing import (
    MORE_STUDY_FIELDS,
    STUDY_FIELDS,
    Listing,
    count_series,
    include,
    join_listings,
    own_rows,
    rows_of,
    size_of,
)
from sidecar.pacs.series_lists import SeriesLists
from sidecar.pacs.study_owners import Owners, StudyOwners

log = logging.getLogger(__name__)

LISTS_BYTES = 128 * 2**20
"""Limit in bytes of cached lists, with what is derived from them; and of those that are joined."""
ARRIVED_SECONDS = 60
"""Time in seconds for which the half of a list that has come is cached (SIA-23)."""
ASKED_SECONDS = 3_600
"""Time in seconds for which the first time of a query that goes on is cached (SIA-23)."""


@dataclass(slots=True)
class _Arrived:
    """The part of one identifier's list that has come; a repeated request asks for the rest.

    ``counts``: as in ``Listing``. ``below``: answers of ``SeriesLists.of_studies``, ``None`` when
    that is done.
    """

    studies: list[tuple[str, Row]] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    below: dict[str, list[Row]] | None = field(default_factory=dict)
    series: RowsByUid | None = None
    owners: dict[str, Owners] = field(default_factory=dict)


class StudyLists:
    """Cache lists from the PACS for ``cache_seconds``, with their series if ``with_series``.

    ``study_fields``, ``series_fields``: DICOM keywords of what is wanted beside the usual.
    ``drop(what)`` is called for each row that the PACS returned for somebody else (a query matches
    more loosely than we compare).
    """

    def __init__(
        self,
        client: PacsClient,
        owners: StudyOwners,
        *,
        with_series: bool,
        study_fields: Sequence[str] = (),
        series_fields: Sequence[str] = (),
        cache_seconds: float,
        max_entries: int,
        drop: Callable[[str], None] = lambda what: None,
        invalidation: Invalidation,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._owners = owners
        self._series = SeriesLists(client, owners, fields=series_fields, drop=drop, clock=clock)
        self._with_series = with_series
        self.series_fields = self._series.fields
        self._study_fields = tuple(dict.fromkeys((*STUDY_FIELDS, *study_fields)))
        self._drop = drop
        self._now = now
        self._listings: LoadingCache[PatientIdentifier, Listing] = LoadingCache(
            invalidation,
            _patient_ids,
            max_entries=LISTS_BYTES,
            ttl_seconds=cache_seconds,
            weight=lambda listing: listing.weight,
            clock=clock,
        )
        # The same lists make the same one, so that what is known of it can be cached, too.
        self._joined: LoadingCache[frozenset[PatientIdentifier], tuple[list[Listing], Listing]] = (
            LoadingCache(
                invalidation,
                max_entries=LISTS_BYTES,
                ttl_seconds=cache_seconds,
                weight=lambda cached: cached[1].weight,
                clock=clock,
            )
        )
        # When a search that goes on in the background (SIA-23) was first asked for.
        self._asked: LoadingCache[PatientIdentifier, datetime] = LoadingCache(
            invalidation,
            _patient_ids,
            max_entries=max_entries,
            ttl_seconds=ASKED_SECONDS,
            clock=clock,
        )
        # The owners in it may change with any patient.
        self._arrived: LoadingCache[PatientIdentifier, _Arrived] = LoadingCache(
            invalidation, max_entries=max_entries, ttl_seconds=ARRIVED_SECONDS, clock=clock
        )

    async def of_patient(self, permit: SearchPermit, *, fresh: bool = False) -> Listing:
        """Return the studies of a patient under all identifiers, each StudyInstanceUID once.

        ``fresh``: ask the PACS unless that was done less than ``FRESH_SECONDS`` ago.
        """
        known_as = permit.known_as
        max_age_seconds = FRESH_SECONDS if fresh else math.inf
        asked = [
            self._listings.get(
                known, partial(self._ask, permit, known), max_age_seconds=max_age_seconds
            )
            for known in sorted(known_as, key=lambda known: known.patient_id)
        ]
        # A list that is remembered needs no task.
        lists = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        if len(lists) == 1 and not lists[0].owners:
            return lists[0]
        parts, joined = self._joined.peek(known_as) or ([], None)
        if joined is None or list(map(id, parts)) != list(map(id, lists)):
            stamp = self._joined.stamp(known_as)
            joined = await join_listings(lists, known_as, now=self._now())
            self._joined.put(known_as, (lists, joined), stamp)
        return joined

    async def _ask(self, permit: SearchPermit, identifier: PatientIdentifier) -> Listing:
        asked = self._asked.setdefault(identifier, self._now())
        arrived = self._arrived.peek(identifier) or _Arrived()
        self._arrived.put(identifier, arrived, self._arrived.stamp(identifier))
        await self._ask_below(permit, identifier, arrived)
        # Owners are asked for while the series still come, unless both are known already.
        (rows, copies, owners), series = await asyncio.gather(
            self._ask_studies(permit, identifier, arrived),
            self._ask_series(permit, identifier, arrived),
        )
        self._asked.discard(identifier)
        every_row = (*rows, *copies, *chain.from_iterable((series or {}).values()))
        listing = Listing(
            rows,
            asked,
            series,
            copies,
            owners,
            counts=arrived.counts,
            row_bytes=await size_of(every_row),
        )
        if self._arrived.peek(identifier) is arrived:
            self._arrived.discard(identifier)
        return listing

    async def _list_studies(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> list[tuple[str, Row]]:
        """Return StudyInstanceUID and row of each study that is the patient's."""
        if arrived.studies is None:
            fields = include(self._client, self._study_fields, MORE_STUDY_FIELDS)
            rows = await rows_of(self._client, permit, identifier, "studies", fields)
            arrived.studies = await own_rows(
                rows, identifier, "StudyInstanceUID", lambda: self._drop("study_row")
            )
            arrived.counts = await count_series(row for _, row in arrived.studies)
        return arrived.studies

    async def _ask_below(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> None:
        """Let series arrive that show whose their studies are, from a PACS that has these."""
        if arrived.below is None or not (self._with_series and self._series.show_owners):
            return
        await self._list_studies(permit, identifier, arrived)
        found = await self._series.of_studies(permit, identifier, arrived.counts, arrived.below)
        arrived.below = None
        if found is not None:
            arrived.series, owners = found
            arrived.owners |= owners

    async def _ask_series(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> RowsByUid | None:
        if arrived.series is None and self._with_series:
            arrived.series = await self._series.of_patient(permit, identifier)
        return arrived.series

    async def _ask_studies(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> tuple[list[Row], list[Row], dict[str, Owners]]:
        """Return a row for each UID, its copies, and the owners where others have it, too."""
        own = await self._list_studies(permit, identifier, arrived)
        by_uid = dict(own)
        # An UNAVAILABLE study was rejected, or is gone.
        listed = await in_slices(
            row if text(row, "InstanceAvailability") != "UNAVAILABLE" else None
            for row in by_uid.values()
        )
        owners = await self._owners.of(by_uid, permit.known_as, arrived.owners)
        alone = frozenset({identifier})
        others = await in_slices(
            (uid, who) if decide_owners(who, alone) else None for uid, who in owners.items()
        )
        copies = await in_slices(row if row != by_uid[uid] else None for uid, row in own)
        return listed, copies, dict(others)

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """Forget this patient's lists that show ``study``: its UID is somebody else's, too."""
        for known in known_as:
            listing = self._listings.peek(known)
            if listing is None:
                continue
            if decide_owners(listing.owners.get(study, frozenset({known})), known_as) is None:
                self._listings.discard(known)

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._listings.close()


def _patient_ids(known: PatientIdentifier) -> set[str]:
    return {known.patient_id}

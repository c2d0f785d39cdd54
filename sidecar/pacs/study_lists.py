"""Query the whole list of a patient's studies, with their series if wanted (SIA-25).

The PACS's rows are cached for some seconds, never a permission: each answer is decided anew.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain

from sidecar.access.decision import decide_owners, is_own_row
from sidecar.access.facts import PatientIdentifier
from sidecar.access.permits import SearchPermit
from sidecar.common.errors import BadGateway
from sidecar.common.invalidation import FRESH_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, RowsByUid, packed, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.pacs.client import PacsClient
from sidecar.pacs.listing import (
    MORE_SERIES_FIELDS,
    MORE_STUDY_FIELDS,
    SERIES_FIELDS,
    STUDY_FIELDS,
    Listing,
    count_series,
    join_listings,
    log_dropped,
    size_of,
)
from sidecar.pacs.study_owners import Owners, StudyOwners

log = logging.getLogger(__name__)

LISTS_BYTES = 128 * 2**20
"""Limit in bytes of cached lists, with what is derived from them; and of those that are joined."""
ARRIVED_SECONDS = 60
"""Time in seconds for which the half of a list that has come is cached (SIA-23)."""
NOT_SUPPORTED_SECONDS = 3_600
"""Time in seconds after which a PACS that cannot list a patient's series is asked again."""

ASKED_SECONDS = 3_600
"""Time in seconds for which the first time of a query that goes on is cached (SIA-23)."""

_TOO_MUCH = ("query_too_many_results", "query_too_large")
"""Failures that mean more series than the PACS lists at once: then study by study."""


def include(client: PacsClient, always: Iterable[str], more: Iterable[str] = ()) -> tuple[str, str]:
    """Return ``includefield`` for ``always``, and ``more`` where the archive has it at hand."""
    return includefield(*always, *(more if client.dialect.keeps_details else ()))


@dataclass(slots=True)
class _Arrived:
    """The part of one identifier's list that has come; a repeated request asks for the rest."""

    studies: list[Row] | None = None
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
        self._with_series = with_series
        self._study_fields = tuple(dict.fromkeys((*STUDY_FIELDS, *study_fields)))
        self._series_fields = tuple(dict.fromkeys((*SERIES_FIELDS, *series_fields)))
        self._drop = drop
        self._now = now
        self._clock = clock
        self._no_series_until = float("-inf")
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
        # Owners are asked for while the series still come.
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
            counts=await count_series(rows),
            row_bytes=await size_of(every_row),
        )
        if self._arrived.peek(identifier) is arrived:
            self._arrived.discard(identifier)
        return listing

    async def _ask_studies(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> tuple[list[Row], list[Row], dict[str, Owners]]:
        """Return a row for each UID, its copies, and the owners where others have it, too."""
        if arrived.studies is None:
            fields = include(self._client, self._study_fields, MORE_STUDY_FIELDS)
            arrived.studies = await self._search(permit, identifier, "studies", fields)
        own = await self._own(arrived.studies, identifier, "StudyInstanceUID", "study_row")
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

    async def _ask_series(
        self, permit: SearchPermit, identifier: PatientIdentifier, arrived: _Arrived
    ) -> RowsByUid | None:
        if arrived.series is not None:
            return arrived.series
        if not self._with_series or self._clock() < self._no_series_until:
            return None
        try:
            rows = await self._search(permit, identifier, "series", self.series_fields())
        except ResourceNotOffered:
            self._without_series()
            return None
        except QueryRefused:
            return None
        except BadGateway as problem:
            if problem.reason not in _TOO_MUCH:
                raise
            return None
        named = await in_slices(row if text(row, "PatientID") else None for row in rows)
        if len(named) < len(rows):
            # Some of the others may be this patient's: queries study by study show which. Where no
            # row names a patient, the PACS never does at this level.
            if not named:
                self._without_series()
            return None
        by_study: dict[str, list[Row]] = {}
        for study, row in await self._own(rows, identifier, "SeriesInstanceUID", "series_row"):
            by_study.setdefault(study, []).append(row)
        arrived.series = RowsByUid(
            dict(await in_slices((study, packed(below)) for study, below in by_study.items()))
        )
        return arrived.series

    async def _search(
        self,
        permit: SearchPermit,
        identifier: PatientIdentifier,
        level: str,
        fields: tuple[str, str],
    ) -> list[Row]:
        issuer = [("IssuerOfPatientID", identifier.issuer)] if identifier.issuer else []
        parameters = [("PatientID", identifier.patient_id), *issuer, fields]
        return await self._client.search(Query(level), parameters, permit=permit)

    async def _own(
        self, rows: list[Row], identifier: PatientIdentifier, keyword: str, what: str
    ) -> list[tuple[str, Row]]:
        """Return StudyInstanceUID and row of those that have the ``keyword`` and are the patient's.

        The others are logged, and ``drop(what)`` is called for those of somebody else.
        """
        alone = frozenset({identifier})

        def is_own(row: Row) -> bool:
            own = is_own_row(owner_of(row), alone, unnamed=False)
            if not own:
                self._drop(what)
            return own

        own = await in_slices(
            (text(row, "StudyInstanceUID") or "", row)
            if text(row, keyword) and is_own(row)
            else None
            for row in rows
        )
        log_dropped(len(rows) - len(own))
        return own

    def series_fields(self) -> tuple[str, str]:
        """Return the ``includefield`` parameter of queries for series."""
        return include(self._client, self._series_fields, MORE_SERIES_FIELDS)

    def _without_series(self) -> None:
        log.warning(
            "the PACS does not list a patient's series with their patient: "
            "they are asked for by study"
        )
        self._no_series_until = self._clock() + NOT_SUPPORTED_SECONDS

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

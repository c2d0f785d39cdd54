"""Query the studies of a patient, and the series and instances of a study, for the FHIR side.

The PACS's rows are cached for some seconds, never a permission: each answer is decided anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sidecar.access.decision import decide_owners
from sidecar.access.facts import KnownAs
from sidecar.access.permits import SearchPermit
from sidecar.common.errors import Unavailable
from sidecar.common.fair_queue import FairQueue, QueueFull, WaitTooLong
from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import batched, in_slices, let_go
from sidecar.dicom.json_model import Row, RowsByUid, packed, text, values
from sidecar.dicom.owner import is_row_of
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient
from sidecar.pacs.listing import Listing, include, log_dropped
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.study_lists import ASKED_SECONDS, StudyLists
from sidecar.pacs.study_owners import StudyOwners

DETAILS_OF_ONE = 4
"""Limit of concurrent queries for the details of one patient's studies; further ones wait."""
DETAILS_WAITING = (20_000, 5_000)
"""Limits of waiting queries: of all patients, and of one."""
DETAILS_SECONDS = 120

_Asked = tuple[tuple[str, ...], KnownAs]
"""Level and UIDs of a query, and the identifiers of the patient."""

INSTANCE_FIELDS = (
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "NumberOfFrames",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
)
MORE_INSTANCE_FIELDS = ("ContentLabel", "DocumentTitle", "ConceptNameCodeSequence")


class AsOf:
    """The time when the oldest part of an answer was asked for; it may lack later changes."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def note(self, asked: datetime) -> None:
        """Record that a part of the answer was asked for at that time."""
        self.moment = min(self.moment, asked)


class Studies:
    """Cache lists from the PACS for ``cache_seconds``.

    ``concurrency``: limit of concurrent queries for details. ``with_series``: one more query brings
    all series of a patient's studies, instead of one for each study. ``drop(what)`` is called for
    each row that the PACS returned for somebody else.
    """

    def __init__(
        self,
        client: PacsClient,
        ownership: Ownership,
        *,
        with_series: bool = False,
        study_fields: Sequence[str] = (),
        series_fields: Sequence[str] = (),
        cache_seconds: float = 15,
        max_entries: int = 5_000,
        concurrency: int = 8,
        drop: Callable[[str], None] = lambda what: None,
        invalidation: Invalidation,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._ownership = ownership
        self.owners = StudyOwners(client, ownership, clock=clock)
        self._lists = StudyLists(
            client,
            self.owners,
            with_series=with_series,
            study_fields=study_fields,
            series_fields=series_fields,
            cache_seconds=cache_seconds,
            max_entries=max_entries,
            drop=drop,
            invalidation=invalidation,
            now=now,
            clock=clock,
        )
        self.of_patient = self._lists.of_patient
        self.forget_listed = self._lists.forget_listed
        self._drop = drop
        self._now = now
        self._details = FairQueue(
            (concurrency, DETAILS_OF_ONE), waiting=DETAILS_WAITING, seconds=DETAILS_SECONDS
        )
        self._listings: LoadingCache[_Asked, Listing] = LoadingCache(
            invalidation, max_entries=max_entries, ttl_seconds=cache_seconds, clock=clock
        )
        # The first time of a search that goes on in the background (SIA-23).
        self._asked: LoadingCache[_Asked, datetime] = LoadingCache(
            invalidation, max_entries=max_entries, ttl_seconds=ASKED_SECONDS, clock=clock
        )

    async def series_of(
        self,
        permit: SearchPermit,
        studies: Iterable[str],
        listing: Listing,
        oldest: AsOf,
    ) -> Mapping[str, Sequence[Row]]:
        """Return the patient's series rows of ``studies`` in the ``listing``, by study."""
        wanted = list(studies)
        listed = dict(
            await in_slices(
                None if (rows := listing.whole_series(study)) is None else (study, packed(rows))
                for study in wanted
            )
        )
        others = [study for study in wanted if study not in listed]
        for few in batched(others):
            answers = await asyncio.gather(*(self.series(permit, study, oldest) for study in few))
            listed |= zip(few, map(packed, answers), strict=True)
        return RowsByUid(listed)

    async def holding(
        self,
        permit: SearchPermit,
        keyword: str,
        uid: str,
        studies: Iterable[str],
        oldest: AsOf,
        only: Mapping[str, frozenset[str]] | None = None,
    ) -> set[str]:
        """Return the ``studies`` with an instance of the patient whose ``keyword`` is ``uid``.

        ``only``: StudyInstanceUID -> the series that count; without an entry all of them do.
        """
        wanted = list(studies)
        answers = await asyncio.gather(
            *(
                self._holds(permit, keyword, uid, study, oldest, (only or {}).get(study))
                for study in wanted
            )
        )
        return {study for study, holds in zip(wanted, answers, strict=True) if holds}

    async def _holds(
        self,
        permit: SearchPermit,
        keyword: str,
        uid: str,
        study: str,
        oldest: AsOf,
        series: frozenset[str] | None,
    ) -> bool:
        query, fields = Query("instances", study=study), include(self._client, INSTANCE_FIELDS)

        async def ask() -> list[Row]:
            # One row is enough, unless the PACS does not match by this attribute.
            limit = 1 if series is None else None
            rows = await self._client.search(
                query, ((keyword, uid), fields), limit=limit, permit=permit
            )
            if limit and rows and text(rows[0], keyword) != uid:
                rows = await self._client.search(query, ((keyword, uid), fields), permit=permit)
            return await in_slices(
                row if text(row, keyword) == uid and self._is_below(row, query) else None
                for row in rows
            )

        listing = await self._detail(
            (keyword, uid, study, "one" if series is None else "all"), ask, permit.known_as
        )
        oldest.note(listing.asked)
        rows = [
            row
            for row in listing.rows
            if series is None or text(row, "SeriesInstanceUID") in series
        ]
        return bool(await self._own(rows, study, permit.known_as))

    async def series(self, permit: SearchPermit, study: str, oldest: AsOf) -> list[Row]:
        """Return the patient's series rows of a study; ``oldest`` notes when it was asked."""
        fields = self._lists.series_fields()
        return await self._level(
            permit, Query("series", study=study), fields, "SeriesInstanceUID", oldest
        )

    async def instances(
        self, permit: SearchPermit, study: str, series: str, oldest: AsOf
    ) -> list[Row]:
        """Return the patient's instance rows of a series; ``oldest`` notes when it was asked."""
        fields = include(self._client, INSTANCE_FIELDS, MORE_INSTANCE_FIELDS)
        query = Query("instances", study=study, series=series)
        return await self._level(permit, query, fields, "SOPInstanceUID", oldest)

    async def _level(
        self,
        permit: SearchPermit,
        query: Query,
        fields: tuple[str, str],
        uid: str,
        oldest: AsOf,
    ) -> list[Row]:
        async def ask() -> list[Row]:
            rows = await self._client.search(query, (fields,), permit=permit)
            own = await in_slices(
                row if text(row, uid) and self._is_below(row, query) else None for row in rows
            )
            log_dropped(len(rows) - len(own))
            await let_go(rows)
            return own

        listing = await self._detail(
            (query.level, query.study or "", query.series or ""), ask, permit.known_as
        )
        oldest.note(listing.asked)
        return await self._own(listing.rows, query.study or "", permit.known_as)

    async def _own(self, rows: list[Row], study: str, known_as: KnownAs) -> list[Row]:
        """Return the patient's rows: a StudyInstanceUID may stand for studies of two people."""
        # Some PACSs name no patient below the study. Then the whole study must be the patient's.
        named = await in_slices(bool(values(row, "PatientID")) for row in rows)
        is_own_study = (
            not all(named)
            and decide_owners(await self._ownership.owners(study, known_as), known_as) is None
        )
        return await in_slices(
            row if is_row_of(row, known_as, unnamed=is_own_study) else None for row in rows
        )

    async def _detail(
        self,
        what: tuple[str, ...],
        ask: Callable[[], Awaitable[list[Row]]],
        known_as: KnownAs,
    ) -> Listing:
        key = (what, known_as)
        return await self._listings.get(key, lambda: self._ask_detail(key, ask))

    async def _ask_detail(self, key: _Asked, ask: Callable[[], Awaitable[list[Row]]]) -> Listing:
        try:
            async with self._details.place(key[1]):
                asked = self._asked.setdefault(key, self._now())
                rows = await ask()
        except (QueueFull, WaitTooLong):
            raise Unavailable(
                "The image archive is busy; try again.", reason="details_busy", retry_after=5
            ) from None
        self._asked.discard(key)
        return Listing(rows, asked)

    def _is_below(self, row: Row, query: Query) -> bool:
        if text(row, "StudyInstanceUID") == query.study and query.series in (
            None,
            text(row, "SeriesInstanceUID"),
        ):
            return True
        self._drop(query.level + "_row")
        return False

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._listings.close()
        await self._lists.close()

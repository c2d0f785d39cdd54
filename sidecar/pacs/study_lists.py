"""The whole list of a patient's studies, with all their series where those are wanted.

Kept for some seconds (SIA-25).

What is kept is the PACS's rows, never a permission: each answer is decided afresh.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sidecar.access.decision import decide_owners, is_own_row
from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.access.permits import SearchPermit
from sidecar.access.reasons import Reason
from sidecar.common.errors import BadGateway
from sidecar.common.invalidation import FRESH_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, number, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.pacs.client import PacsClient
from sidecar.pacs.study_owners import Owners, StudyOwners

log = logging.getLogger(__name__)

ARRIVED_SECONDS = 60
"""Seconds for which a half-fetched list is kept (SIA-23)."""
NOT_SUPPORTED_SECONDS = 3_600
"""So long is a PACS that cannot list a patient's series not asked for that again."""

ASKED_SECONDS = 3_600
"""Seconds for which it is kept when a query was first asked for that goes on (SIA-23)."""

_TOO_MUCH = ("query_too_many_results", "query_too_large")
"""More series than the PACS lists at once: then study by study."""

STUDY_FIELDS = (
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "TimezoneOffsetFromUTC",
    "AccessionNumber",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "InstanceAvailability",
    "ReferringPhysicianName",
)
SERIES_FIELDS = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
    "SeriesDate",
    "SeriesTime",
    "TimezoneOffsetFromUTC",
    "PatientID",
    "IssuerOfPatientID",
)

# What an archive may have beside those; some read each file for it (``Dialect.keeps_details``).
MORE_STUDY_FIELDS = (
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    "ReasonForRequestedProcedureCodeSequence",
    "ReasonForTheRequestedProcedure",
    "AdmittingDiagnosesCodeSequence",
    "PlacerOrderNumberImagingServiceRequest",
)
MORE_SERIES_FIELDS = ("Laterality", "PerformingPhysicianName", "OperatorsName")


def include(client: PacsClient, always: Iterable[str], more: Iterable[str] = ()) -> tuple[str, str]:
    """Return ``includefield`` for ``always``, and ``more`` where the archive has it at hand."""
    return includefield(*always, *(more if client.dialect.keeps_details else ()))


@dataclass(frozen=True, slots=True)
class Listing:
    """Study rows of a patient, and the time (of ``now``) when the PACS was ``asked`` for them.

    ``series``: StudyInstanceUID -> its series rows, for all of the patient's studies; ``None`` when
    they were not asked for, or the PACS can list them study by study only. ``copies``: rows of a
    StudyInstanceUID that is in ``rows`` already, under another of the patient's identifiers.
    ``owners``: StudyInstanceUID -> whose it is, of what is not this one identifier's alone.
    ``shared``: UIDs that are somebody else's, too; nothing of them is in the rest. ``counts``:
    StudyInstanceUID -> how many series its row says it has; ``None``: nobody has counted.
    """

    rows: list[Row]
    asked: datetime
    series: Mapping[str, list[Row]] | None = None
    copies: Sequence[Row] = ()
    owners: Mapping[str, Owners] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    counts: Mapping[str, int] | None = None


@dataclass(slots=True)
class _Arrived:
    """What has come of one identifier's list: a repeated request asks for the rest alone."""

    studies: list[Row] | None = None
    series: dict[str, list[Row]] | None = None
    owners: dict[str, Owners] = field(default_factory=dict)


class StudyLists:
    """Lists from the PACS, each kept for ``cache_seconds``; with their series if ``with_series``.

    ``study_fields``, ``series_fields``: DICOM keywords of what is wanted beside the usual.

    ``drop(what)`` is told of each row that the PACS returned for somebody else (a query matches
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
        self._study_fields = (
            *STUDY_FIELDS,
            *(one for one in study_fields if one not in STUDY_FIELDS),
        )
        self._series_fields = (
            *SERIES_FIELDS,
            *(one for one in series_fields if one not in SERIES_FIELDS),
        )
        self._drop = drop
        self._now = now
        self._clock = clock
        self._no_series_until = float("-inf")
        self._listings: LoadingCache[PatientIdentifier, Listing] = LoadingCache(
            invalidation,
            _patient_ids,
            max_entries=max_entries,
            ttl_seconds=cache_seconds,
            clock=clock,
        )
        # The same lists are joined to the same one: what is known of it can be remembered, too.
        self._joined: LoadingCache[frozenset[PatientIdentifier], tuple[list[Listing], Listing]] = (
            LoadingCache(
                invalidation, max_entries=max_entries, ttl_seconds=cache_seconds, clock=clock
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
        # Its owners may change with any patient.
        self._arrived: LoadingCache[PatientIdentifier, _Arrived] = LoadingCache(
            invalidation, max_entries=max_entries, ttl_seconds=ARRIVED_SECONDS, clock=clock
        )

    async def of_patient(self, permit: SearchPermit, *, fresh: bool = False) -> Listing:
        """Return the studies of a patient under all identifiers, each StudyInstanceUID once.

        ``fresh``: not what is kept, unless that was asked for so a moment ago (``FRESH_SECONDS``).
        """
        known_as = permit.known_as
        lists = await asyncio.gather(
            *(
                self._of_identifier(permit, known, fresh=fresh)
                for known in sorted(known_as, key=lambda known: known.patient_id)
            )
        )
        if len(lists) == 1 and not lists[0].owners:
            return lists[0]
        parts, joined = self._joined.peek(known_as) or ([], None)
        if (
            joined is None
            or len(parts) != len(lists)
            or any(a is not b for a, b in zip(parts, lists, strict=True))
        ):
            stamp = self._joined.stamp(known_as)
            joined = await self._join(lists, known_as)
            self._joined.put(known_as, (lists, joined), stamp)
        return joined

    async def _join(self, lists: list[Listing], known_as: frozenset[PatientIdentifier]) -> Listing:
        """Join the lists of one patient's identifiers, without what a read refuses by owners."""
        refused = {
            uid: deny.reason
            for one in lists
            for uid, owners in one.owners.items()
            if (deny := decide_owners(owners, known_as)) is not None
        }
        named = await in_slices(
            (uid, row) if (uid := text(row, "StudyInstanceUID")) and uid not in refused else None
            for one in lists
            for row in one.rows
        )
        by_uid = dict(named)
        asked = min((one.asked for one in lists), default=self._now())
        listed = {id(row) for row in by_uid.values()}
        others = await in_slices(
            None if text(row, "StudyInstanceUID") in refused else row
            for one in lists
            for row in one.copies
        )
        copies = [row for row in (*(row for _, row in named), *others) if id(row) not in listed]
        series = _joined([one.series for one in lists])
        rows = list(by_uid.values())
        return Listing(
            rows,
            asked,
            None
            if series is None
            else {uid: found for uid, found in series.items() if uid not in refused},
            copies,
            shared=frozenset(uid for uid, reason in refused.items() if reason is Reason.SHARED_UID),
            counts=await counted(rows),
        )

    async def _of_identifier(
        self, permit: SearchPermit, identifier: PatientIdentifier, *, fresh: bool
    ) -> Listing:
        return await self._listings.get(
            identifier,
            lambda: self._ask(permit, identifier),
            max_age_seconds=FRESH_SECONDS if fresh else math.inf,
        )

    async def _ask(self, permit: SearchPermit, identifier: PatientIdentifier) -> Listing:
        parameters = [("PatientID", identifier.patient_id)]
        if identifier.issuer is not None:
            parameters.append(("IssuerOfPatientID", identifier.issuer))
        asked = self._asked.setdefault(identifier, self._now())
        arrived = self._arrived.peek(identifier) or _Arrived()
        self._arrived.put(identifier, arrived, self._arrived.stamp(identifier))
        # Owners are asked for while the series still come.
        (rows, copies, owners), series = await asyncio.gather(
            self._ask_studies(permit, identifier, parameters, arrived),
            self._ask_series(permit, identifier, parameters, arrived),
        )
        self._asked.discard(identifier)
        found = Listing(rows, asked, series, copies, owners, counts=await counted(rows))
        if self._arrived.peek(identifier) is arrived:
            self._arrived.discard(identifier)
        return found

    async def _ask_studies(
        self,
        permit: SearchPermit,
        identifier: PatientIdentifier,
        parameters: list[tuple[str, str]],
        arrived: _Arrived,
    ) -> tuple[list[Row], list[Row], dict[str, Owners]]:
        """Return a row for each UID, its copies, and the owners of those that others have, too."""
        fields = include(self._client, self._study_fields, MORE_STUDY_FIELDS)
        if arrived.studies is None:
            arrived.studies = await self._client.search(
                Query("studies"), [*parameters, fields], permit=permit
            )
        rows, alone = arrived.studies, frozenset({identifier})
        own = await in_slices(
            (uid, row)
            if (uid := text(row, "StudyInstanceUID")) and self._is_of(row, alone, "study_row")
            else None
            for row in rows
        )
        say_dropped(len(rows) - len(own))
        by_uid = dict(own)
        # UNAVAILABLE: rejected or gone.
        listed = await in_slices(
            row if text(row, "InstanceAvailability") != "UNAVAILABLE" else None
            for row in by_uid.values()
        )
        owners = await self._owners.of(by_uid, permit.known_as, arrived.owners)
        others = {uid: one for uid, one in owners.items() if decide_owners(one, alone) is not None}
        return (
            listed,
            await in_slices(row if row != by_uid[uid] else None for uid, row in own),
            others,
        )

    async def _ask_series(
        self,
        permit: SearchPermit,
        identifier: PatientIdentifier,
        parameters: list[tuple[str, str]],
        arrived: _Arrived,
    ) -> dict[str, list[Row]] | None:
        if arrived.series is not None:
            return arrived.series
        if not self._with_series or self._clock() < self._no_series_until:
            return None
        fields = self.series_fields()
        try:
            rows = await self._client.search(Query("series"), [*parameters, fields], permit=permit)
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
            # Some may be this patient's: study by study it is told which. None with a patient: it
            # never tells here.
            if not named:
                self._without_series()
            return None
        alone = frozenset({identifier})
        own = await in_slices(
            (text(row, "StudyInstanceUID") or "", row)
            if text(row, "SeriesInstanceUID") and self._is_of(row, alone, "series_row")
            else None
            for row in rows
        )
        say_dropped(len(rows) - len(own))
        by_study: dict[str, list[Row]] = {}
        for study, row in own:
            by_study.setdefault(study, []).append(row)
        arrived.series = by_study
        return by_study

    def series_fields(self) -> tuple[str, str]:
        """The query parameter that wants what is to be known of series."""
        return include(self._client, self._series_fields, MORE_SERIES_FIELDS)

    def _without_series(self) -> None:
        log.warning(
            "the PACS does not list a patient's series with their patient: "
            "they are asked for by study"
        )
        self._no_series_until = self._clock() + NOT_SUPPORTED_SECONDS

    def _is_of(self, row: Row, known_as: KnownAs, what: str) -> bool:
        if is_own_row(owner_of(row), known_as, unnamed=False):
            return True
        self._drop(what)
        return False

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """Forget this patient's lists that show ``study``.

        A read saw that its UID is somebody else's, too.
        """
        for known in known_as:
            kept = self._listings.peek(known)
            if kept is None:
                continue
            if decide_owners(kept.owners.get(study, frozenset({known})), known_as) is None:
                self._listings.discard(known)

    async def close(self) -> None:
        """End what is under way."""
        await self._listings.close()


def _patient_ids(known: PatientIdentifier) -> set[str]:
    return {known.patient_id}


def _joined(all_series: list[Mapping[str, list[Row]] | None]) -> dict[str, list[Row]] | None:
    joined: dict[str, list[Row]] = {}
    for series in all_series:
        if series is None:
            return None
        for study, rows in series.items():
            joined.setdefault(study, []).extend(rows)
    return joined


async def counted(rows: Iterable[Row]) -> dict[str, int]:
    """How many series each of these studies has, by its row and StudyInstanceUID.

    0: it does not say.
    """
    return dict(
        await in_slices(
            (text(row, "StudyInstanceUID") or "", number(row, "NumberOfStudyRelatedSeries") or 0)
            for row in rows
        )
    )


def say_dropped(count: int) -> None:
    """Tell operators of rows that the PACS returned and nobody asked for."""
    if count:
        log.warning(
            "the PACS returned rows that were not asked for; they are left out",
            extra={"rows": count},
        )

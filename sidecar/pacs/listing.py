"""A patient's studies as the archive lists them: what is asked for, and how lists are joined."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sidecar.access.decision import decide_owners, is_own_row
from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.access.permits import SearchPermit
from sidecar.access.reasons import Reason
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import CompactRow, Row, RowsByUid, number, packed, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.pacs.client import PacsClient

log = logging.getLogger(__name__)

DERIVED_STUDY_BYTES = 2_048
"""Bytes for each study of a list, beside those of its rows, that derived values may take."""
DERIVED_BYTES = 32 * 2**20
"""Limit in bytes of what is derived from one list and kept with it."""
LIST_BYTES = 2_048
"""Bytes of memory that a list without studies takes."""
LISTED_BYTES = 1_536
"""Bytes of memory that each study takes beside its rows and what ``spare_bytes`` limits."""

T = TypeVar("T")

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

# An archive may have these, too; some read each file for them (``Dialect.keeps_details``).
MORE_STUDY_FIELDS = (
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    "ReasonForRequestedProcedureCodeSequence",
    "ReasonForTheRequestedProcedure",
    "AdmittingDiagnosesCodeSequence",
    "PlacerOrderNumberImagingServiceRequest",
)
MORE_SERIES_FIELDS = ("Laterality", "PerformingPhysicianName", "OperatorsName")


@dataclass(frozen=True, slots=True)
class Listing:
    """Study rows of a patient, and the time (of ``now``) when the PACS was ``asked`` for them.

    ``series``: StudyInstanceUID -> its series rows, for all of the patient's studies; ``None`` when
    they were not asked for, or the PACS can list them study by study only. ``copies``: rows of a
    StudyInstanceUID that is in ``rows`` already, under another of the patient's identifiers.
    ``owners``: StudyInstanceUID -> its owners, where they are not this one identifier alone.
    ``shared``: UIDs that are somebody else's, too; nothing of them is in the rest. ``counts``:
    StudyInstanceUID -> how many series its row says it has. ``row_bytes``: what the rows take of
    memory, roughly.
    """

    rows: list[Row]
    asked: datetime
    series: Mapping[str, Sequence[Row]] | None = None
    copies: Sequence[Row] = ()
    owners: Mapping[str, KnownAs] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    row_bytes: int = 0
    _derived: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def spare_bytes(self) -> int:
        """Limit in bytes of what is derived from the list and kept with it."""
        return min(len(self.rows) * DERIVED_STUDY_BYTES + self.row_bytes, DERIVED_BYTES)

    @property
    def weight(self) -> int:
        """How many bytes of memory it may take with what is derived from it."""
        return LIST_BYTES + self.row_bytes + len(self.rows) * LISTED_BYTES + self.spare_bytes

    def whole_series(self, study: str) -> Sequence[Row] | None:
        """Return the series rows of a study, ``None`` where these may not be all of them."""
        rows = (self.series or {}).get(study)
        # A PACS may cut long lists without saying so: then the study's row counts more series. A
        # study that came between the two queries of the listing has none of its series here.
        return rows if rows and len(rows) >= self.counts.get(study, 0) else None

    async def derive(self, kind: Callable[..., T], make: Callable[[], Awaitable[T]]) -> T:
        """Return what ``make`` works out of the list alone: once, and forgotten with the list.

        ``kind``: the class of it.
        """
        if kind not in self._derived:
            async with self._derived.setdefault("turn", asyncio.Lock()):
                if kind not in self._derived:
                    self._derived[kind] = await make()
        found: T = self._derived[kind]
        return found


def include(client: PacsClient, always: Iterable[str], more: Iterable[str] = ()) -> tuple[str, str]:
    """Return ``includefield`` for ``always``, and ``more`` where the archive has it at hand."""
    return includefield(*always, *(more if client.dialect.keeps_details else ()))


async def rows_of(
    client: PacsClient,
    permit: SearchPermit,
    identifier: PatientIdentifier,
    level: str,
    fields: tuple[str, str],
) -> list[Row]:
    """Return what the PACS answers to a query for this patient; not all of it need be theirs.

    Raises what ``PacsClient.search`` raises.
    """
    issuer = [("IssuerOfPatientID", identifier.issuer)] if identifier.issuer else []
    parameters = [("PatientID", identifier.patient_id), *issuer, fields]
    return await client.search(Query(level), parameters, permit=permit)


async def own_rows(
    rows: list[Row], identifier: PatientIdentifier, keyword: str, drop: Callable[[], None]
) -> list[tuple[str, Row]]:
    """Return StudyInstanceUID and row of those that have the ``keyword`` and are the patient's.

    The others are logged, and ``drop()`` is called for each row of somebody else.
    """
    alone = frozenset({identifier})

    def is_own(row: Row) -> bool:
        own = is_own_row(owner_of(row), alone, unnamed=False)
        if not own:
            drop()
        return own

    own = await in_slices(
        (text(row, "StudyInstanceUID") or "", row) if text(row, keyword) and is_own(row) else None
        for row in rows
    )
    log_dropped(len(rows) - len(own))
    return own


async def join_listings(
    listings: Sequence[Listing], known_as: KnownAs, *, now: datetime
) -> Listing:
    """Join the lists of one patient's identifiers, without what a read refuses by owners.

    It is as old as the oldest; without any it is of ``now``.
    """
    refused = {
        uid: deny.reason
        for listing in listings
        for uid, owners in listing.owners.items()
        if (deny := decide_owners(owners, known_as)) is not None
    }
    named = await in_slices(
        (uid, row) if (uid := text(row, "StudyInstanceUID")) and uid not in refused else None
        for listing in listings
        for row in listing.rows
    )
    by_uid = dict(named)
    listed = {id(row) for row in by_uid.values()}
    others = await in_slices(
        None if text(row, "StudyInstanceUID") in refused else row
        for listing in listings
        for row in listing.copies
    )
    rows = list(by_uid.values())
    return Listing(
        rows,
        min((listing.asked for listing in listings), default=now),
        _join_series([listing.series for listing in listings], refused),
        [row for row in (*(row for _, row in named), *others) if id(row) not in listed],
        shared=frozenset(uid for uid, reason in refused.items() if reason is Reason.SHARED_UID),
        counts=await count_series(rows),
        row_bytes=sum(listing.row_bytes for listing in listings),
    )


def _join_series(
    listed: Iterable[Mapping[str, Sequence[Row]] | None], refused: Iterable[str]
) -> RowsByUid | None:
    joined: dict[str, list[Row]] = {}
    for series in listed:
        if series is None:
            return None
        for study, rows in series.items():
            joined.setdefault(study, []).extend(rows)
    for study in refused:
        joined.pop(study, None)
    return RowsByUid({study: packed(rows) for study, rows in joined.items()})


async def count_series(rows: Iterable[Row]) -> dict[str, int]:
    """Return StudyInstanceUID -> how many series its row says that the study has, 0: nothing."""
    return dict(
        await in_slices(
            (text(row, "StudyInstanceUID") or "", number(row, "NumberOfStudyRelatedSeries") or 0)
            for row in rows
        )
    )


async def size_of(rows: Iterable[Row]) -> int:
    """Return how many bytes of memory the rows take, roughly."""
    return sum(
        await in_slices(
            # The others are nested too deep for that; there are few of them.
            row.size if isinstance(row, CompactRow) else len(repr(row))
            for row in rows
        )
    )


def log_dropped(count: int) -> None:
    """Log that the PACS returned ``count`` rows that were not asked for, if there are any."""
    if count:
        log.warning(
            "the PACS returned rows that were not asked for; they are left out",
            extra={"rows": count},
        )

"""Query the series of all studies of a patient at once, where the PACS can (SIA-25)."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from sidecar.access.decision import decide_owners
from sidecar.access.facts import PatientIdentifier
from sidecar.access.permits import SearchPermit
from sidecar.common.errors import BadGateway
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, RowsByUid, packed, text
from sidecar.dicom.owner import owner_of
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.pacs.client import PacsClient
from sidecar.pacs.listing import MORE_SERIES_FIELDS, SERIES_FIELDS, include, own_rows, rows_of
from sidecar.pacs.study_owners import Owners, StudyOwners

log = logging.getLogger(__name__)

NOT_SUPPORTED_SECONDS = 3_600
"""Time in seconds after which a PACS that cannot list a patient's series is asked again."""

_TOO_MUCH = ("query_too_many_results", "query_too_large")
"""Failures that mean more series than the PACS lists at once: then study by study."""


class SeriesLists:
    """Query by PatientID, or by lists of StudyInstanceUIDs where this shows the owners, too.

    ``fields``: DICOM keywords of what is wanted beside the usual. ``drop(what)`` is called for each
    row that the PACS returned for somebody else. ``clock``: monotonic, in seconds.
    """

    def __init__(
        self,
        client: PacsClient,
        owners: StudyOwners,
        *,
        fields: Sequence[str],
        drop: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._owners = owners
        self._fields = tuple(dict.fromkeys((*SERIES_FIELDS, *fields)))
        self._drop = drop
        self._clock = clock
        self._none_until = float("-inf")

    def fields(self) -> tuple[str, str]:
        """Return the ``includefield`` parameter of queries for series."""
        return include(self._client, self._fields, MORE_SERIES_FIELDS)

    @property
    def show_owners(self) -> bool:
        """Whether ``of_studies`` is worth a try."""
        return self._client.dialect.series_show_owners and self._owners.takes_lists

    async def of_studies(
        self,
        permit: SearchPermit,
        identifier: PatientIdentifier,
        counts: Mapping[str, int],
        answers: dict[str, list[Row]],
    ) -> tuple[RowsByUid, dict[str, Owners]] | None:
        """Return the series of the studies that are this one identifier's alone, and their owners.

        The query has no PatientID. A PACS that makes studies of instances has no study without
        series, so whoever else has a study under one of these UIDs has series in the answer. A
        study is left out unless each of its rows names the identifier.

        ``counts``: StudyInstanceUID -> how many series its row says it has. ``answers``, by their
        UIDs, has what an earlier try got before it failed, and gets what this one does. ``None``:
        the PACS cannot, or an answer may not be whole; then owners and series must be asked for by
        themselves. Raises ``Unavailable`` and ``GatewayTimeout``.
        """

        async def ask(batch: Sequence[str]) -> None:
            uids = ",".join(batch)
            if uids not in answers:
                answers[uids] = await self._client.search(
                    Query("series"), (("StudyInstanceUID", uids), self.fields()), permit=permit
                )

        try:
            await self._owners.in_lists(counts, ask)
        except BadGateway:  # A single row of somebody else may be what cannot be read.
            return None
        below = await self._whole(counts, answers)
        if below is None:
            return None
        alone = frozenset({identifier})
        owners = dict(
            await in_slices(
                (study, who)
                if decide_owners(who := frozenset(map(owner_of, rows)), alone) is None
                else None
                for study, rows in below.items()
            )
        )
        kept = await in_slices((study, packed(below[study])) for study in owners)
        return RowsByUid(dict(kept)), owners

    async def _whole(
        self, counts: Mapping[str, int], answers: Mapping[str, list[Row]]
    ) -> dict[str, list[Row]] | None:
        """Return the rows by study, ``None`` where some may be missing, or were not asked for."""
        below: dict[str, list[Row]] = {uid: [] for uid in counts if is_uid(uid)}
        for asked, answer in answers.items():
            # Rows may move from one page to another while they are asked for.
            if len(answer) >= self._client.dialect.page_size:
                return None
            uids = await in_slices(
                text(row, "StudyInstanceUID") or "" if text(row, "SeriesInstanceUID") else ""
                for row in answer
            )
            if not set(uids) <= set(asked.split(",")):
                return None
            for uid, row in zip(uids, answer, strict=True):
                below[uid].append(row)
        is_whole = all(len(rows) >= max(1, counts[uid]) for uid, rows in below.items())
        return below if is_whole else None

    async def of_patient(
        self, permit: SearchPermit, identifier: PatientIdentifier
    ) -> RowsByUid | None:
        """Return the series of all studies, ``None`` where they must be asked for by study.

        Raises what ``PacsClient.search`` raises.
        """
        if self._clock() < self._none_until:
            return None
        try:
            rows = await rows_of(self._client, permit, identifier, "series", self.fields())
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
        for study, row in await own_rows(
            rows, identifier, "SeriesInstanceUID", lambda: self._drop("series_row")
        ):
            by_study.setdefault(study, []).append(row)
        return RowsByUid(
            dict(await in_slices((study, packed(below)) for study, below in by_study.items()))
        )

    def _without_series(self) -> None:
        log.warning(
            "the PACS does not list a patient's series with their patient: "
            "they are asked for by study"
        )
        self._none_until = self._clock() + NOT_SUPPORTED_SECONDS

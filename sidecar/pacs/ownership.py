"""Find the owners of a study, and whether series and instance are in it (SIA-42).

The query has a UID alone: it must show whether the PACS has the UID under two patients.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sidecar.access.decision import decide_owners
from sidecar.access.facts import KnownAs, Part, PatientIdentifier, StudyFacts
from sidecar.access.permits import Inquiry
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.common.loading_cache import LoadingCache
from sidecar.common.slices import in_slices
from sidecar.dicom.character_sets import is_known_text
from sidecar.dicom.json_model import Row, text
from sidecar.dicom.owner import is_row_of, owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import UnknownTexts
from sidecar.pacs.client import PacsClient

UNNAMED_SECONDS = 4
"""Age in seconds up to which cached owners permit an answer that names no patient.

Frames, drawn images and bulk data do not show that the study was filed for somebody else.
"""
INDEXED_INSTANCES = 5_000
"""Limit of a query for all instances of a series, sent when a second one is wanted."""
_PLACE_FIELDS = includefield(
    "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "IssuerOfPatientID"
)

_Asked = tuple[str, KnownAs]
"""A StudyInstanceUID, and the identifiers of the patient."""
_AskedPart = tuple[Part, KnownAs]
"""A series or instance, and the identifiers of the patient."""


@dataclass(slots=True)
class _Series:
    """The known instances of a series in its study; ``whole``: all of them."""

    instances: set[str] = field(default_factory=set)
    whole: bool = False


class Ownership:
    """Find and cache the facts on studies for the decision.

    What is the patient's is cached for ``ttl_seconds``, what is not for ``absent_seconds`` (images
    arrive); at most ``max_entries`` studies, series and absences each. ``clock``: monotonic, in
    seconds. Each patient has entries of his own, and a foreign study is cached like an absent one:
    else the time of a 404 would show which studies of others there are (SIA-45).
    """

    def __init__(
        self,
        client: PacsClient,
        *,
        ttl_seconds: float = 300,
        absent_seconds: float = NEGATIVE_SECONDS,
        max_entries: int = 20_000,
        invalidation: Invalidation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        # Any change forgets all owners: what came for one patient may have a UID of another's.
        self._owners: LoadingCache[_Asked, frozenset[PatientIdentifier]] = LoadingCache(
            invalidation,
            max_entries=max_entries,
            ttl_seconds=ttl_seconds,
            negative_seconds=absent_seconds,
            is_negative=lambda asked, owners: decide_owners(owners, asked[1]) is not None,
            study=lambda asked: asked[0],
            clock=clock,
        )
        self._series: LoadingCache[_AskedPart, _Series] = LoadingCache(
            invalidation,
            lambda asked: {known.patient_id for known in asked[1]},
            max_entries=max_entries,
            ttl_seconds=ttl_seconds,
            study=_study_of,
            clock=clock,
        )
        # A single flight, without entries: an index is added to the entry of ``_series``.
        self._indexed: LoadingCache[_AskedPart, bool] = LoadingCache(
            invalidation, max_entries=1, ttl_seconds=0, study=_study_of, clock=clock
        )
        # Absent parts; those that are there are in ``_series``.
        self._absent: LoadingCache[_AskedPart, bool] = LoadingCache(
            invalidation,
            max_entries=max_entries,
            ttl_seconds=0,
            negative_seconds=absent_seconds,
            is_negative=lambda asked, holds: not holds,
            study=_study_of,
            clock=clock,
        )

    async def facts(
        self, part: Part, known_as: KnownAs, *, max_age_seconds: float = math.inf
    ) -> StudyFacts:
        """Return the owners of the study, and whether the part of it is the patient's.

        A part of another's study counts as not found, without a query. ``max_age_seconds``: limit
        for cached owners. Raises what ``PacsClient.search`` raises.
        """
        owners = await self.owners(part.study, known_as, max_age_seconds=max_age_seconds)
        is_own = decide_owners(owners, known_as) is None
        part_found = is_own and await self.holds(part, known_as)
        return StudyFacts(owners, part_found, inside=None)

    def cached_facts(
        self, part: Part, known_as: KnownAs, *, max_age_seconds: float = math.inf
    ) -> StudyFacts | None:
        """Return what ``facts`` would return without a query, ``None`` if it needs one.

        Only facts of a part that is the patient's: all others take the same way.
        """
        asked = (part.study, known_as)
        owners = self._owners.peek(asked, max_age_seconds=max_age_seconds)
        if owners is None or decide_owners(owners, known_as) is not None:
            return None
        return StudyFacts(owners, True, inside=None) if self._has(part, known_as) else None

    async def owners(
        self, study: str, known_as: KnownAs, *, max_age_seconds: float = math.inf
    ) -> frozenset[PatientIdentifier]:
        """Return the patients of every study that the PACS has under this UID.

        Empty when it has none. With a ``max_age_seconds``, owners that are not cached come from a
        new query, or from one under way that was begun with such a limit. The age limits what
        permits: a cached refusal counts for its own lifetime.
        """
        asked = (study, known_as)
        if (refused := self._refused(asked)) is not None:
            return refused
        return await self._owners.get(
            asked,
            lambda: self._find_owners(study, known_as, fresh=max_age_seconds < math.inf),
            max_age_seconds=max_age_seconds,
        )

    async def holds(self, part: Part, known_as: KnownAs) -> bool:
        """Return whether series and instance are in the study and this patient's.

        True for the study alone. The study's owners may be cached, and an image drawn from a part
        names no patient. So the rows of the part must name the patient, where the PACS names
        patients there.
        """
        if self._has(part, known_as):
            return True
        return await self._absent.get((part, known_as), lambda: self._find_part(part, known_as))

    def _has(self, part: Part, known_as: KnownAs) -> bool:
        """Return whether it is known that the part is in the study and this patient's."""
        if part.series is None:
            return True
        series = self._series.peek(_series_of(part, known_as))
        return series is not None and (part.instance is None or part.instance in series.instances)

    async def _find_owners(
        self, study: str, known_as: KnownAs, *, fresh: bool
    ) -> frozenset[PatientIdentifier]:
        parameters = (("StudyInstanceUID", study), includefield("PatientID", "IssuerOfPatientID"))
        # All rows: an owner who was not seen would count as nobody.
        try:
            # The time of a 404 must not show whether the archive had something to refuse (SIA-45).
            rows = await self._client.search(
                Query("studies"),
                parameters,
                permit=Inquiry(known_as),
                fresh=fresh,
                is_own=lambda page: (
                    decide_owners(frozenset(_owners_in(page, study)), known_as) is None
                ),
            )
            return frozenset(await in_slices(_owners_in(rows, study)))
        except UnknownTexts:  # Its owner cannot be read: refused like a foreign one (SIA-45).
            return frozenset({PatientIdentifier("")})

    async def _find_part(self, part: Part, known_as: KnownAs) -> bool:
        try:
            if part.instance is None:
                return await self._find_series(part, known_as)
            return await self._find_instance(part, part.instance, known_as)
        except UnknownTexts:
            return False

    async def _find_series(self, part: Part, known_as: KnownAs) -> bool:
        asked = _series_of(part, known_as)
        stamp = self._series.stamp(asked)
        fields = includefield("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
        parameters = (("SeriesInstanceUID", part.series or ""), fields)
        rows = await self._client.search(
            Query("series", study=part.study), parameters, limit=100, permit=Inquiry(known_as)
        )
        if not any(_is_in(row, part, known_as) for row in rows):
            return False
        if self._series.peek(asked) is None:
            self._series.put(asked, _Series(), stamp)
        return True

    async def _find_instance(self, part: Part, instance: str, known_as: KnownAs) -> bool:
        asked = _series_of(part, known_as)
        stamp = self._series.stamp(asked)
        series = self._series.peek(asked)
        query = Query("instances", study=part.study, series=part.series)
        if series is not None and series.instances and not series.whole:
            # At a second instance, the client walks through the series: one query for all of them.
            known = series
            await self._indexed.reload(asked, lambda: self._index(known, query, part, known_as))
            if instance in series.instances:
                return True
        rows = await self._client.search(
            query,
            (("SOPInstanceUID", instance), _PLACE_FIELDS),
            limit=100,
            permit=Inquiry(known_as),
        )
        if not any(
            _is_in(row, part, known_as) and text(row, "SOPInstanceUID") == instance for row in rows
        ):
            return False
        if stamp == self._series.stamp(asked):
            self._series.setdefault(asked, _Series()).instances.add(instance)
        return True

    async def _index(self, series: _Series, query: Query, part: Part, known_as: KnownAs) -> bool:
        rows = await self._client.search(
            query, (_PLACE_FIELDS,), limit=INDEXED_INSTANCES, permit=Inquiry(known_as)
        )
        uids = await in_slices(
            text(row, "SOPInstanceUID") if _is_in(row, part, known_as) else None for row in rows
        )
        series.instances.update(uids)
        series.whole = True
        return True

    def forget_owners(self, study: str, known_as: KnownAs) -> None:
        """Forget the owners of this study: a list showed that they are not the patient alone."""
        asked = (study, known_as)
        if self._refused(asked) is None:
            self._owners.discard(asked)

    def _refused(self, asked: _Asked) -> frozenset[PatientIdentifier] | None:
        """Return the cached owners of a study that is not the patient's, ``None``: no such."""
        owners = self._owners.peek(asked)
        return None if owners is None or decide_owners(owners, asked[1]) is None else owners

    async def close(self) -> None:
        """Cancel the queries that are under way."""
        await self._indexed.close()
        await self._owners.close()
        await self._absent.close()


def _owners_in(rows: Iterable[Row], study: str) -> Iterator[PatientIdentifier]:
    """Yield the owner of each row of ``study``, and nobody for a row whose UID cannot be read."""
    for row in rows:
        uid = text(row, "StudyInstanceUID")
        if uid == study:
            yield owner_of(row)
        elif uid is not None and not is_known_text(uid):
            yield PatientIdentifier("")


def _series_of(part: Part, known_as: KnownAs) -> _AskedPart:
    return Part(part.study, part.series), known_as


def _study_of(asked: _AskedPart) -> str:
    return asked[0].study


def _is_in(row: Row, part: Part, known_as: KnownAs) -> bool:
    """Return whether the row names this study and series; a PACS may ignore the path.

    A row that names a patient must name this one; some archives name none below a study.
    """
    if not is_row_of(row, known_as, unnamed=True):
        return False
    return (
        text(row, "StudyInstanceUID") == part.study
        and text(row, "SeriesInstanceUID") == part.series
    )

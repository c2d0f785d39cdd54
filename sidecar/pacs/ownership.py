"""Whose study is it, and are series and instance in it? Established before the first byte, and cached (SIA-42).

Asked at the PACS by QIDO-RS, by UID alone: if the PACS has one StudyInstanceUID under two patients
we must know.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cachetools import TTLCache

from sidecar.access.decision import decide_owners, is_own_row
from sidecar.access.facts import KnownAs, Part, PatientIdentifier, StudyFacts, all_are_one_of
from sidecar.access.permits import Inquiry
from sidecar.common.invalidation import NEGATIVE_SECONDS, Invalidation
from sidecar.common.single_flight import SingleFlight
from sidecar.common.slices import in_slices
from sidecar.dicom.character_sets import is_known_text
from sidecar.dicom.json_model import Row, text, values
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import includefield
from sidecar.dicomweb.upstream_errors import UnknownTexts
from sidecar.pacs.client import PacsClient

UNNAMED_SECONDS = 4
"""Age in seconds up to which remembered owners permit an answer that names no patient.

Such are frames, drawn images, bulk data: nothing in them would show that the study has been filed
for somebody else.
"""
INDEXED_INSTANCES = 5_000
"""Instances of one series that are looked up in one query, once a second one of them is asked for."""
_PLACE_FIELDS = includefield(
    "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "IssuerOfPatientID"
)

_Asked = tuple[str, KnownAs, int]
"""A StudyInstanceUID, by what the patient is known for whom it is asked, and the study's generation."""
_AskedPart = tuple[Part, KnownAs, int]
"""The same of a series or instance."""


@dataclass(frozen=True, slots=True)
class _Owners:
    """The ``patients`` of a study, and when the archive was ``asked`` for them at the earliest, in seconds."""

    patients: frozenset[PatientIdentifier]
    asked: float


@dataclass(slots=True)
class _Series:
    """What is known of a series in its study: single instances, or (``whole``) all of them."""

    instances: set[str] = field(default_factory=set)
    whole: bool = False


class Ownership:
    """Facts on studies for the decision.

    What is the patient's is kept for ``ttl_seconds``, what is not for ``absent_seconds`` (images
    arrive); at most ``max_entries`` studies, series and absences each. The clock is monotonic, in
    seconds.

    Kept apart for each patient, and a foreign study for as long as an absent one: else an app could
    tell by the time of a 404 which studies of others there are, or were just looked at (SIA-45).
    """

    def __init__(
        self,
        client: PacsClient,
        *,
        ttl_seconds: float = 300,
        absent_seconds: float = NEGATIVE_SECONDS,
        max_entries: int = 20_000,
        invalidation: Invalidation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._invalidation = kept = invalidation or Invalidation()
        self._clock = clock
        self._owners_flight: SingleFlight[tuple[_Asked, bool], _Owners] = SingleFlight(kept)
        self._parts_flight: SingleFlight[_AskedPart, bool] = SingleFlight(kept)
        self._index_flight: SingleFlight[_AskedPart, None] = SingleFlight(kept)
        # Whoever changed, no owner is kept: what came for one patient may be under a UID of
        # another's.
        self._owners: TTLCache[_Asked, _Owners] = kept.cache(
            TTLCache(max_entries, ttl_seconds, timer=clock)
        )
        # A table of their own: whoever asks for many that are not theirs pushes out nobody's.
        self._refused: TTLCache[_Asked, _Owners] = kept.cache(
            TTLCache(max_entries, absent_seconds, timer=clock)
        )
        self._series: TTLCache[_AskedPart, _Series] = kept.cache(
            TTLCache(max_entries, ttl_seconds, timer=clock),
            lambda asked: {known.patient_id for known in asked[1]},
        )
        self._absent: TTLCache[_AskedPart, bool] = kept.cache(
            TTLCache(max_entries, absent_seconds, timer=clock)
        )

    async def facts(
        self,
        part: Part,
        known_as: frozenset[PatientIdentifier],
        *,
        max_age_seconds: float = math.inf,
    ) -> StudyFacts:
        """Return the owners of the study and whether the part is in it, for a patient who is ``known_as``.

        The part is looked for only in the patient's own studies. ``max_age_seconds``: of owners
        that are remembered. Raises what ``PacsClient.search`` raises.
        """
        asked = (part.study, known_as, self._invalidation.of(part.study))
        now = max_age_seconds < math.inf
        if (
            now
            and (kept := self._owners.get(asked))
            and self._clock() - kept.asked >= max_age_seconds
        ):
            self._owners.pop(asked, None)
        owners = await self.owners(part.study, known_as, fresh=now)
        is_own = decide_owners(owners, known_as) is None
        part_found = is_own and await self.holds(part, known_as)
        return StudyFacts(owners, part_found, inside=None)

    async def owners(
        self, study: str, known_as: frozenset[PatientIdentifier], *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the patients of every study that the PACS has under this UID.

        Empty when it has none.

        ``fresh``: what is not remembered is asked for now, not taken from an earlier slow query.
        """
        asked = (study, known_as, self._invalidation.of(study))
        kept = self._owners.get(asked) or self._refused.get(asked)
        if kept is None:
            kept = await self._owners_flight.run(
                (asked, fresh), lambda: self._find_owners(asked, fresh=fresh)
            )
        return kept.patients

    async def holds(self, part: Part, known_as: KnownAs) -> bool:
        """Whether the series, and the instance, are in the study, and this patient's.

        True for the study alone.

        The study's owners may have been asked for a while ago, and images drawn from a part carry
        no patient inside: so the rows of the part must name the patient themselves, where the PACS
        names patients there at all.
        """
        if part.series is None:
            return True
        asked = (part, known_as, self._invalidation.of(part.study))
        if self._is_known(asked):
            return True
        if asked in self._absent:
            return False
        return await self._parts_flight.run(asked, lambda: self._find_part(asked))

    def _is_known(self, asked: _AskedPart) -> bool:
        series, instance = self._series.get(_series_of(asked)), asked[0].instance
        return series is not None and (instance is None or instance in series.instances)

    async def _find_owners(self, asked: _Asked, *, fresh: bool) -> "_Owners":
        study = asked[0]
        parameters = (("StudyInstanceUID", study), includefield("PatientID", "IssuerOfPatientID"))
        started, began = self._invalidation.stamp(study), self._clock()
        # All rows: an owner who was not seen would count as nobody.
        try:
            # A 404 must not tell by its time whether the archive had something to refuse (SIA-45).
            rows = await self._client.search(
                Query("studies"),
                parameters,
                permit=Inquiry(asked[1]),
                fresh=fresh,
                is_own=lambda found: all_are_one_of(frozenset(_owners_in(found, study)), asked[1]),
            )
            owners = frozenset(await in_slices(_owners_in(rows, study)))
        except UnknownTexts:  # It is there and nobody's: refused like a foreign one (SIA-45).
            owners = frozenset({PatientIdentifier("")})
        # A slow query may have begun long before it was asked for again.
        found = _Owners(owners, began if fresh else -math.inf)
        if started == self._invalidation.stamp(study):
            (self._owners if all_are_one_of(owners, asked[1]) else self._refused)[asked] = found
        return found

    async def _find_part(self, asked: _AskedPart) -> bool:
        study = asked[0].study
        started = self._invalidation.stamp(study)
        try:
            found = await (
                self._find_series(asked)
                if asked[0].instance is None
                else self._find_instance(asked)
            )
        except UnknownTexts:
            found = False
        if not found and started == self._invalidation.stamp(study):
            self._absent[asked] = True
        return found

    async def _find_series(self, asked: _AskedPart) -> bool:
        part, known_as, _ = asked
        started = self._invalidation.stamp(part.study)
        fields = includefield("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
        parameters = (("SeriesInstanceUID", part.series or ""), fields)
        rows = await self._client.search(
            Query("series", study=part.study), parameters, limit=100, permit=Inquiry(known_as)
        )
        if not any(_is_in(row, part, known_as) for row in rows):
            return False
        if started == self._invalidation.stamp(part.study):
            self._series.setdefault(asked, _Series())
        return True

    async def _find_instance(self, asked: _AskedPart) -> bool:
        part, known_as, _ = asked
        started = self._invalidation.stamp(part.study)
        of_series = _series_of(asked)
        series = self._series.get(of_series)
        query = Query("instances", study=part.study, series=part.series)
        if series is not None and series.instances and not series.whole:
            # A second instance of the series: the client is walking through it. Learn them all in
            # one query.
            await self._index_flight.run(
                of_series, lambda: self._index(series, query, part, known_as)
            )
            if part.instance in series.instances:
                return True
        rows = await self._client.search(
            query,
            (("SOPInstanceUID", part.instance or ""), _PLACE_FIELDS),
            limit=100,
            permit=Inquiry(known_as),
        )
        if not any(
            _is_in(row, part, known_as) and text(row, "SOPInstanceUID") == part.instance
            for row in rows
        ):
            return False
        if started == self._invalidation.stamp(part.study):
            self._series.setdefault(of_series, _Series()).instances.add(part.instance or "")
        return True

    async def _index(self, series: _Series, query: Query, part: Part, known_as: KnownAs) -> None:
        rows = await self._client.search(
            query, (_PLACE_FIELDS,), limit=INDEXED_INSTANCES, permit=Inquiry(known_as)
        )
        series.instances.update(
            await in_slices(
                text(row, "SOPInstanceUID") if _is_in(row, part, known_as) else None for row in rows
            )
        )
        series.whole = True

    def forget_owners(self, study: str, known_as: KnownAs) -> None:
        """Ask for the owners of this study anew: a list saw that they are not the patient alone."""
        self._owners.pop((study, known_as, self._invalidation.of(study)), None)

    async def close(self) -> None:
        """End what is under way."""
        await self._index_flight.close()
        await self._owners_flight.close()
        await self._parts_flight.close()


def _owners_in(rows: Iterable[Row], study: str) -> Iterator[PatientIdentifier]:
    """The owners of the rows of ``study``, and nobody for a row that may be one: its UID cannot be read."""
    for row in rows:
        uid = text(row, "StudyInstanceUID")
        if uid == study:
            yield owner_of(row)
        elif uid is not None and not is_known_text(uid):
            yield PatientIdentifier("")


def _series_of(asked: _AskedPart) -> _AskedPart:
    part, known_as, generation = asked
    return Part(part.study, part.series), known_as, generation


def is_row_of(row: Row, known_as: KnownAs, *, unnamed: bool) -> bool:
    """Return whether a row is the patient's; ``unnamed``: of a row that names no patient."""
    owner = owner_of(row) if values(row, "PatientID") else None
    return is_own_row(owner, known_as, unnamed=unnamed)


def _is_in(row: Row, part: Part, known_as: KnownAs) -> bool:
    """Whether the row says itself that it is in this study and series: a PACS may ignore what the path says.

    A row that names a patient must name this one; some archives name none below a study.
    """
    if not is_row_of(row, known_as, unnamed=True):
        return False
    return (
        text(row, "StudyInstanceUID") == part.study
        and text(row, "SeriesInstanceUID") == part.series
    )

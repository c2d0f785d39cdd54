"""Whose study is it, and are series and instance in it? Established before the first byte, and cached (SIA-42).

Asked at the PACS by QIDO-RS, by UID alone: if the PACS has one StudyInstanceUID under two patients we must know.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cachetools import TTLCache

from sidecar.access.decision import Part, StudyFacts
from sidecar.access.identity import PatientIdentifier, all_are_one_of
from sidecar.common.dicom_json import Row, tag, text, values
from sidecar.common.single_flight import SingleFlight
from sidecar.pacs.client import PacsClient
from sidecar.pacs.resources import Query

INDEXED_INSTANCES = 5_000
"""Instances of one series that are looked up in one query, once a second one of them is asked for."""

_Asked = tuple[str, frozenset[PatientIdentifier]]
"""A StudyInstanceUID, and by what the patient is known for whom it is asked."""


@dataclass(slots=True)
class _Series:
    """What is known of a series in its study: single instances, or (``whole``) all of them."""

    instances: set[str] = field(default_factory=set)
    whole: bool = False


class Ownership:
    """Facts on studies for the decision.

    What is the patient's is kept for ``ttl_seconds``, what is not for ``absent_seconds`` (images arrive); at most
    ``max_entries`` studies, series and absences each. The clock is monotonic, in seconds.

    Kept apart for each patient, and a foreign study for as long as an absent one: else an app could tell by the time
    of a 404 which studies of others there are, or were just looked at (SIA-45).
    """

    def __init__(
        self,
        client: PacsClient,
        *,
        ttl_seconds: float = 300,
        absent_seconds: float = 5,
        max_entries: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._owners_flight: SingleFlight[_Asked, frozenset[PatientIdentifier]] = SingleFlight()
        self._parts_flight: SingleFlight[Part, bool] = SingleFlight()
        self._index_flight: SingleFlight[tuple[str, str | None], None] = SingleFlight()
        self._owners: TTLCache[_Asked, frozenset[PatientIdentifier]] = TTLCache(max_entries, ttl_seconds, timer=clock)
        # A table of their own: whoever asks for many that are not theirs pushes out nobody's.
        self._refused: TTLCache[_Asked, frozenset[PatientIdentifier]] = TTLCache(
            max_entries, absent_seconds, timer=clock
        )
        self._series: TTLCache[tuple[str, str], _Series] = TTLCache(max_entries, ttl_seconds, timer=clock)
        self._absent: TTLCache[Part, bool] = TTLCache(max_entries, absent_seconds, timer=clock)
        self._generation = 0

    async def facts(self, part: Part, known_as: frozenset[PatientIdentifier]) -> StudyFacts:
        """Return the owners of the study and whether the part is in it, for a patient who is ``known_as``.

        The part is looked for only in the patient's own studies. Raises what ``PacsClient.search`` raises.
        """
        owners = await self.owners(part.study, known_as)
        return StudyFacts(owners, part_found=all_are_one_of(owners, known_as) and await self.holds(part))

    async def owners(self, study: str, known_as: frozenset[PatientIdentifier]) -> frozenset[PatientIdentifier]:
        """Return the patients of every study that the PACS has under this UID; empty when it has none."""
        asked = (study, known_as)
        known = self._owners.get(asked)
        if known is None:
            known = self._refused.get(asked)
        if known is None:
            known = await self._owners_flight.run(asked, lambda: self._find_owners(asked))
        return known

    async def holds(self, part: Part) -> bool:
        """Whether the series, and the instance, are in the study. True for the study alone."""
        if part.series is None:
            return True
        if self._is_known(part):
            return True
        if part in self._absent:
            return False
        return await self._parts_flight.run(part, lambda: self._find_part(part))

    def _is_known(self, part: Part) -> bool:
        series = self._series.get((part.study, part.series or ""))
        return series is not None and (part.instance is None or part.instance in series.instances)

    async def _find_owners(self, asked: _Asked) -> frozenset[PatientIdentifier]:
        study = asked[0]
        parameters = (
            ("StudyInstanceUID", study),
            ("includefield", ",".join((tag("PatientID"), tag("IssuerOfPatientID")))),
        )
        generation = self._generation
        # All rows: an owner who was not seen would count as nobody.
        rows = await self._client.search(Query("studies"), parameters)
        owners = frozenset(owner_of(row) for row in rows if text(row, "StudyInstanceUID") == study)
        if generation == self._generation:  # Else it may be from before what made us forget.
            (self._owners if all_are_one_of(owners, asked[1]) else self._refused)[asked] = owners
        return owners

    async def _find_part(self, part: Part) -> bool:
        generation = self._generation
        found = await (self._find_series(part) if part.instance is None else self._find_instance(part))
        if not found and generation == self._generation:
            self._absent[part] = True
        return found

    async def _find_series(self, part: Part) -> bool:
        parameters = (
            ("SeriesInstanceUID", part.series or ""),
            ("includefield", tag("StudyInstanceUID")),
        )
        rows = await self._client.search(Query("series", study=part.study), parameters, limit=100)
        if not any(_is_in(row, part) for row in rows):
            return False
        self._series.setdefault((part.study, part.series or ""), _Series())
        return True

    async def _find_instance(self, part: Part) -> bool:
        series = self._series.get((part.study, part.series or ""))
        query = Query("instances", study=part.study, series=part.series)
        fields = ("includefield", ",".join((tag("StudyInstanceUID"), tag("SeriesInstanceUID"))))
        if series is not None and series.instances and not series.whole:
            # A second instance of the series: the client is walking through it. Learn them all in one query.
            await self._index_flight.run((part.study, part.series), lambda: self._index(series, query, part))
            if part.instance in series.instances:
                return True
        rows = await self._client.search(query, (("SOPInstanceUID", part.instance or ""), fields), limit=100)
        if not any(_is_in(row, part) and text(row, "SOPInstanceUID") == part.instance for row in rows):
            return False
        self._series.setdefault((part.study, part.series or ""), _Series()).instances.add(part.instance or "")
        return True

    async def _index(self, series: _Series, query: Query, part: Part) -> None:
        fields = ("includefield", ",".join((tag("StudyInstanceUID"), tag("SeriesInstanceUID"))))
        rows = await self._client.search(query, (fields,), limit=INDEXED_INSTANCES)
        series.instances.update(uid for row in rows if (uid := text(row, "SOPInstanceUID")) and _is_in(row, part))
        series.whole = True

    def forget(self, patient_ids: Collection[str] | None = None) -> None:
        """Ask the PACS anew from now on: for the patients of these PatientIDs, ``None`` for all."""
        self._generation += 1
        if patient_ids is None:
            for cache in (self._owners, self._refused, self._series, self._absent):
                cache.clear()
            return
        # Something came: what was found of series and instances is still there.
        self._absent.clear()
        for owners in (self._owners, self._refused):
            for asked in [one for one in owners if any(known.patient_id in patient_ids for known in one[1])]:
                owners.pop(asked, None)

    async def close(self) -> None:
        """End what is under way."""
        await self._index_flight.close()
        await self._owners_flight.close()
        await self._parts_flight.close()


def owner_of(row: Row) -> PatientIdentifier:
    """The patient that a row names; without a PatientID, or with several values of what has one, it is nobody's."""
    if max(len(values(row, keyword)) for keyword in ("PatientID", "IssuerOfPatientID")) > 1:
        return PatientIdentifier("")
    return PatientIdentifier(text(row, "PatientID") or "", text(row, "IssuerOfPatientID"))


def _is_in(row: Row, part: Part) -> bool:
    """Whether the row says itself that it is in this study and series: a PACS may ignore what the path says."""
    return text(row, "StudyInstanceUID") == part.study and text(row, "SeriesInstanceUID") == part.series

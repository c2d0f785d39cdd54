"""Whose study is it, and are series and instance in it? Established before the first byte, and cached (SIA-42).

Asked at the PACS by QIDO-RS, by UID alone: if the PACS has one StudyInstanceUID under two patients we must know.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import TLRUCache

from sidecar.access.decision import Part, StudyFacts
from sidecar.access.identity import PatientIdentifier
from sidecar.common.dicom_json import Row, tag, text
from sidecar.common.single_flight import SingleFlight
from sidecar.pacs.client import PacsClient
from sidecar.pacs.resources import Query

INDEXED_INSTANCES = 5_000
"""Instances of one series that are looked up in one query, once a second one of them is asked for."""


@dataclass(slots=True)
class _Series:
    """What is known of a series in its study: single instances, or (``whole``) all of them."""

    instances: set[str] = field(default_factory=set)
    whole: bool = False


class Ownership:
    """Facts on studies for the decision.

    What was found is kept for ``ttl_seconds``, what was not found for ``absent_seconds`` (images arrive); at most
    ``max_entries`` studies, series and absences each. The clock is monotonic, in seconds.
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
        self._owners_flight: SingleFlight[str, frozenset[PatientIdentifier]] = SingleFlight()
        self._parts_flight: SingleFlight[Part, bool] = SingleFlight()
        self._index_flight: SingleFlight[tuple[str, str | None], None] = SingleFlight()
        self._owners: TLRUCache[str, frozenset[PatientIdentifier]] = TLRUCache(
            max_entries, ttu=lambda uid, owners, now: now + (ttl_seconds if owners else absent_seconds), timer=clock
        )
        self._series: TLRUCache[tuple[str, str], _Series] = TLRUCache(
            max_entries, ttu=lambda uids, series, now: now + ttl_seconds, timer=clock
        )
        self._absent: TLRUCache[Part, bool] = TLRUCache(
            max_entries, ttu=lambda part, absent, now: now + absent_seconds, timer=clock
        )

    async def facts(self, part: Part) -> StudyFacts:
        """Return the owners of the study and whether the part is in it. Raises what ``PacsClient.search`` raises."""
        owners = await self.owners(part.study)
        return StudyFacts(owners, part_found=bool(owners) and await self.holds(part))

    async def owners(self, study: str) -> frozenset[PatientIdentifier]:
        """Return the patients of every study that the PACS has under this UID; empty when it has none."""
        known = self._owners.get(study)
        if known is None:
            known = await self._owners_flight.run(study, lambda: self._find_owners(study))
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

    async def _find_owners(self, study: str) -> frozenset[PatientIdentifier]:
        parameters = (
            ("StudyInstanceUID", study),
            ("includefield", ",".join((tag("PatientID"), tag("IssuerOfPatientID")))),
        )
        # All rows: an owner who was not seen would count as nobody.
        rows = await self._client.search(Query("studies"), parameters)
        owners = frozenset(owner_of(row) for row in rows if text(row, "StudyInstanceUID") == study)
        self._owners[study] = owners
        return owners

    async def _find_part(self, part: Part) -> bool:
        found = await (self._find_series(part) if part.instance is None else self._find_instance(part))
        if not found:
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

    async def close(self) -> None:
        """End what is under way."""
        await self._index_flight.close()
        await self._owners_flight.close()
        await self._parts_flight.close()


def owner_of(row: Row) -> PatientIdentifier:
    """The patient that a row names; without a PatientID it is nobody's."""
    return PatientIdentifier(text(row, "PatientID") or "", text(row, "IssuerOfPatientID"))


def _is_in(row: Row, part: Part) -> bool:
    """Whether the row says itself that it is in this study and series: a PACS may ignore what the path says."""
    return text(row, "StudyInstanceUID") == part.study and text(row, "SeriesInstanceUID") == part.series

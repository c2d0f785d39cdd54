"""An archive in memory in place of the PACS client: counts its queries, filters like a PACS, or
does not.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sidecar.access.facts import PatientIdentifier
from sidecar.dicom.json_model import Row, tag, text
from sidecar.dicomweb.paths import Query
from sidecar.pacs.client import PacsClient, Parameters
from sidecar.pacs.dialects import DIALECTS


def row(
    patient: str | None,
    study: str | None,
    series: str | None = None,
    instance: str | None = None,
    *,
    issuer: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A DICOM JSON row; ``more`` by keyword."""
    found = {
        "PatientID": patient,
        "IssuerOfPatientID": issuer,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": instance,
        **more,
    }
    return {
        tag(keyword): {"vr": "LO", "Value": [value]}
        for keyword, value in found.items()
        if value is not None
    }


class FakePacs(PacsClient):
    """Answers from ``rows``, or from those of ``rows_of_level`` where a level has its own.

    ``filters`` off: a PACS that ignores what path and parameters say. ``gate`` holds answers back
    while it is clear. ``uid_lists`` off: one that takes a list of UIDs for one value.
    """

    def __init__(self, *rows: Row, filters: bool = True) -> None:
        self.rows, self.dialect = list(rows), DIALECTS["generic"]
        self.rows_of_level: dict[str, list[Row]] = {}
        self.filters = filters
        self.uid_lists = True
        self.asked: list[tuple[Query, dict[str, str]]] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0

    async def search(
        self,
        query: Query,
        parameters: Parameters,
        *,
        limit: int | None = None,
        offset: int = 0,
        known_as: frozenset[PatientIdentifier] = frozenset(),
        fresh: bool = False,
        is_own: Callable[[Sequence[Row]], bool] = lambda rows: True,
    ) -> list[Row]:
        """As ``PacsClient.search``."""
        self.asked.append((query, dict(parameters)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        wanted = {name: value for name, value in parameters if name != "includefield"}
        wanted |= {
            name: uid
            for name, uid in (
                ("StudyInstanceUID", query.study),
                ("SeriesInstanceUID", query.series),
            )
            if uid
        }
        rows = self.rows_of_level.get(query.level, self.rows)
        alternatives = {
            name: value.split(",") if self.uid_lists and name.endswith("UID") else [value]
            for name, value in wanted.items()
        }
        found = [
            one
            for one in rows
            if not self.filters or all(text(one, key) in alternatives[key] for key in wanted)
        ]
        return found[offset:] if limit is None else found[offset : offset + limit]

    @property
    def levels(self) -> list[str]:
        """The levels asked for so far."""
        return [query.level for query, _ in self.asked]


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)

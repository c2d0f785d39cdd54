"""Rows of an archive, read by pages of a client's query."""

from typing import Any

from sidecar.access.facts import PatientIdentifier
from sidecar.dicom.json_model import CompactRow, Row, text
from sidecar.dicomweb.paths import Query
from sidecar.web.query_pages import (
    QueryKey,
    RowPage,
    RowSource,
)
from tests.fakes.ehr import PATIENT
from tests.pacs.fake import row

TOTAL, LIMIT = 60, 7


def own(number: int, patient: str | None = PATIENT, **more: Any) -> dict[str, Any]:
    """A study's row."""
    return row(patient, f"1.2.{number}", **more)


P1 = frozenset({PatientIdentifier(PATIENT)})
KEY = QueryKey("hash", PATIENT, P1, Query("studies"), ())


class Rows:
    """Rows of an archive, and what is asked of it; ``hidden``: those that may not be seen now."""

    def __init__(self, total: int = TOTAL, *, pages: bool = True) -> None:
        self.rows: list[Row] = [CompactRow(own(number)) for number in range(total)]
        self.hidden: set[str] = set()
        self.asked: list[tuple[int, int | None]] = []
        self.source = RowSource(
            self._read, self._decide, self._decide, takes_limit=pages, takes_offset=pages
        )

    async def _read(self, offset: int, limit: int | None) -> tuple[int, list[Row]]:
        self.asked.append((offset, limit))
        page = self.rows[offset : None if limit is None else offset + limit]
        return len(page), list(page)

    async def _decide(self, rows: list[Row]) -> list[tuple[Row, Row]]:
        return [
            (archive_row, archive_row)
            for archive_row in rows
            if text(archive_row, "StudyInstanceUID") not in self.hidden
        ]


def numbers(page: RowPage) -> list[int]:
    return [
        int((text(archive_row, "StudyInstanceUID") or "").rpartition(".")[2])
        for archive_row in page.rows
    ]

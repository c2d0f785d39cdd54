"""Read the rows of a QIDO-RS answer as it comes: bound them first, then parse a slice at a time.

A JSON document becomes twenty times as large in memory, and parsing it at once blocks the process.
So the answer is taken apart as it comes. A row over a limit ends it and is not parsed.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import orjson

from sidecar.common.errors import BadGateway
from sidecar.common.fetch import FetchedResponse, FetchFailed
from sidecar.common.slices import in_slices
from sidecar.dicom.character_sets import SPECIFIC_CHARACTER_SET, with_unknown_texts
from sidecar.dicom.json_model import CompactRow, Row, text, with_tags
from sidecar.dicomweb.json_rows import (
    JsonRowScanner,
    NotRows,
    has_one_reading,
    read_row,
    with_unknown_identity,
)
from sidecar.dicomweb.paths import UID_OF_LEVEL
from sidecar.dicomweb.upstream_errors import (
    QueryRefused,
    ResourceNotOffered,
    refused,
    unusable,
)

log = logging.getLogger(__name__)

ROW_BYTES = 262_144
"""Limit in bytes of one row: a query row has some dozens of attributes."""
ROW_VALUES = 10_000
"""Limit of JSON values in one row, counted by their separators: each costs time."""
SEARCH_BYTES = 64 * 2**20
"""Limit in bytes of all rows of a search."""
SEARCH_VALUES = 5_000_000
"""Limit of JSON values in all rows of a search: each takes memory."""
SMALL_BYTES = 65_536
"""An answer up to this size is parsed at once, in a few milliseconds, unless it has many values."""
_PIECE_BYTES = 8_192

Identity = tuple[str | None, ...]


@dataclass(slots=True)
class Budget:
    """What a search's pages may still have: ``rows``, ``body_bytes`` and JSON ``values``."""

    rows: int
    body_bytes: int = field(default_factory=lambda: SEARCH_BYTES)
    values: int = field(default_factory=lambda: SEARCH_VALUES)

    def take(self, rows: int, written: bytes, values: int) -> None:
        """Count rows. Raises ``FetchFailed``: ``query_too_many_results`` or ``too_large``."""
        self.rows -= rows
        self.body_bytes -= len(written)
        self.values -= values
        if self.rows < 0:
            raise FetchFailed("query_too_many_results")
        if self.body_bytes < 0 or self.values < 0:
            raise FetchFailed("too_large")


class RowReader:
    """Read a page of a query at ``level``: its ``rows``, and the ``identities`` that differ.

    ``damaged``: how many rows had a value that is no JSON (``json_rows``). Where that value says
    whose the row is, the row stays in its place as nobody's, so that no owner is missed.

    ``budget`` is what is left before the page, ``left`` what is left after it: an answer that
    breaks off and is requested again counts once. ``converts_text``: as in ``Dialect``; a text in a
    row that names no character set is unknown then.
    """

    def __init__(self, level: str, budget: Budget, *, converts_text: bool = False) -> None:
        self.rows: list[Row] = []
        self.identities: set[Identity] = set()
        self.damaged = 0
        self._level = level
        self.left = replace(budget)
        self._converts_text = converts_text
        self._split = JsonRowScanner(row_bytes=ROW_BYTES)
        self._held: bytes | None = b""  # While the answer is small.

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ``FetchFailed`` for what is no array of rows, or too much."""
        if self._held is not None:
            chunk = self._held + chunk
            self._held = chunk if len(chunk) <= SMALL_BYTES else None
        if self._held is None:
            self.rows += await in_slices(self._read(chunk))

    async def end(self) -> None:
        """Read what is left. Raises ``FetchFailed`` unless the array came whole."""
        if self._held is not None and _values(self._held) <= ROW_VALUES:
            try:
                rows = orjson.loads(self._held)
            except ValueError:  # Row by row it may be readable all the same.
                pass
            else:
                if not _are_rows(rows):
                    raise FetchFailed("query_wrong_shape")
                if has_one_reading(self._held, rows):
                    self.left.take(len(rows), self._held, _values(self._held))
                    self.rows += map(self._row, rows)
                    return
        try:
            if self._held is not None:
                self.rows += await in_slices(self._read(self._held))
            self._split.end()
        except NotRows:
            raise FetchFailed("query_not_json") from None
        except FetchFailed as failure:
            # A short answer is read row by row if it is no JSON as a whole, or has two readings.
            is_short = self._held is not None and _values(self._held) <= ROW_VALUES
            if is_short and failure.reason == "query_wrong_shape":
                raise FetchFailed("query_not_json") from None
            raise

    def _read(self, chunk: bytes) -> Iterator[Row]:
        for start in range(0, len(chunk), _PIECE_BYTES):
            try:
                rows = self._split.feed(chunk[start : start + _PIECE_BYTES])
            except NotRows as wrong:
                too_large = wrong.args[0] == "metadata_row_too_large"
                raise FetchFailed("too_large" if too_large else "query_wrong_shape") from None
            for written in rows:
                values = _values(written)
                if values > ROW_VALUES:
                    raise FetchFailed("too_large")
                self.left.take(1, written, values)
                try:
                    row, is_damaged = read_row(written)
                except ValueError:
                    raise FetchFailed("query_not_json") from None
                yield self._row(row, is_damaged=is_damaged)

    def _row(self, row: Row, *, is_damaged: bool = False) -> Row:
        try:
            row = with_tags(row)
        except ValueError:
            raise FetchFailed("query_wrong_shape") from None
        if is_damaged:
            self.damaged += 1
            row = with_unknown_identity(row)
        if self._converts_text and SPECIFIC_CHARACTER_SET not in row:
            row = with_unknown_texts(row)
        self.identities.add(identity_of(row, self._level))
        try:
            return CompactRow(row)
        except TypeError:  # Nested too deep for JSON: the answer that contains it reports that.
            return row


def _are_rows(value: Any) -> TypeGuard[list[Row]]:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _values(written: bytes) -> int:
    return written.count(b",") + written.count(b"[") + written.count(b"{")


def identity_of(row: Row, level: str) -> Identity:
    """Return what differs between rows: one UID may be under several patients."""
    return tuple(
        text(row, keyword) for keyword in (UID_OF_LEVEL[level], "PatientID", "IssuerOfPatientID")
    )


def check_status(answer: FetchedResponse, level: str) -> None:
    """Raise the ``Problem`` for the status of an answer to a query at ``level``."""
    if answer.status == 400:
        raise QueryRefused(
            "The image archive cannot answer this search.", reason="pacs_query_refused"
        )
    if answer.status == 413:
        # dcm4chee's queryMaxNumberOfResults, counted before its pages: paging does not help.
        log.error("the PACS refuses a query that has more results than it gives")
        raise BadGateway(
            "The search has more results than the image archive gives; narrow it, for instance by "
            "date.",
            reason="pacs_status",
        )
    if answer.status in (404, 405, 501):
        log.error(
            "the PACS does not have such a query",
            extra={"upstream_status": answer.status, "detail": level},
        )
        if level == "studies":  # Every archive has them: its address is wrong.
            raise unusable("pacs_status").because(f"status {answer.status}")
        raise ResourceNotOffered.named(level).because(f"status {answer.status}")
    if answer.status not in (200, 204):
        raise refused(answer.status, answer.headers.get("Retry-After"))

"""The rows of a QIDO-RS answer as it comes: bounded first, then read, a slice at a time.

A JSON document becomes twenty times as large in memory, and reading it at once holds the process.
So the answer is taken apart as it comes, and what is too much ends it: nothing that is over a limit
is ever built.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import orjson

from sidecar.common.fetch import FetchFailed
from sidecar.common.slices import in_slices
from sidecar.dicom.character_sets import SPECIFIC_CHARACTER_SET, with_unknown_texts
from sidecar.dicom.json_model import CompactRow, Row, text, with_tags
from sidecar.dicomweb.json_rows import JsonRowScanner, NotRows
from sidecar.dicomweb.lenient_json import has_one_reading, read_row, with_unknown_identity
from sidecar.dicomweb.paths import UID_OF_LEVEL

ROW_BYTES = 262_144
"""Limit in bytes of one row: a query row has some dozens of attributes."""
ROW_VALUES = 10_000
"""Limit of JSON values in one row, counted by what separates them: each costs time, however short
it is written."""
SEARCH_BYTES = 64 * 2**20
"""Limit in bytes of all rows of a search."""
SEARCH_VALUES = 5_000_000
"""Limit of JSON values in all rows of a search: each takes memory."""
SMALL_BYTES = 32_768
"""An answer up to this size is read at once, unless it has many values: that takes a
millisecond."""
_PIECE_BYTES = 8_192

Identity = tuple[str | None, ...]


@dataclass(slots=True)
class Budget:
    """What the pages of one search may still have: ``rows``, ``body_bytes`` and JSON ``values``."""

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
    """Reads a page of a query at ``level``: its ``rows``, and ``identities``, which tell them apart.

    ``damaged``: how many rows had a value that is no JSON (``lenient_json``). One in what tells
    whose a row is makes it nobody's: it stays in its place, so that no owner is missed.

    ``budget`` is what is left before the page, ``left`` what is left behind it: an answer that
    breaks off and is asked for again counts once. ``converts_text``: as ``Dialect`` has it; a text
    in a row that names no character set is unknown then.
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
        """Raises ``FetchFailed`` unless the array came whole."""
        if self._held is not None and _values(self._held) <= ROW_VALUES:
            try:
                rows = orjson.loads(self._held)
            except ValueError:  # Row by row it may be read all the same.
                pass
            else:
                if not _are_rows(rows):
                    raise FetchFailed("query_wrong_shape")
                if has_one_reading(self._held, rows):
                    self.rows += self._read_whole(self._held, rows)
                    return
        try:
            if self._held is not None:
                self.rows += await in_slices(self._read(self._held))
            self._split.end()
        except NotRows:
            raise FetchFailed("query_not_json") from None
        except FetchFailed as failure:
            # Of what is JSON, the shape was wrong; of the rest nobody can say.
            many = self._held is None or _values(self._held) > ROW_VALUES
            raise (
                failure
                if many or failure.reason != "query_wrong_shape"
                else FetchFailed("query_not_json")
            ) from None

    def _read_whole(self, written: bytes, rows: list[Row]) -> list[Row]:
        self.left.take(len(rows), written, _values(written))
        return [self._row(row) for row in rows]

    def _read(self, chunk: bytes) -> Iterator[Row]:
        for start in range(0, len(chunk), _PIECE_BYTES):
            try:
                found = self._split.feed(chunk[start : start + _PIECE_BYTES])
            except NotRows as wrong:
                too_large = wrong.args[0] == "metadata_row_too_large"
                raise FetchFailed("too_large" if too_large else "query_wrong_shape") from None
            for one in found:
                values = _values(one)
                if values > ROW_VALUES:
                    raise FetchFailed("too_large")
                self.left.take(1, one, values)
                try:
                    row, is_damaged = read_row(one)
                except ValueError:
                    raise FetchFailed("query_not_json") from None
                yield self._row(row, is_damaged=is_damaged)

    def _row(self, row: Row, *, is_damaged: bool = False) -> Row:
        try:
            found = with_tags(row)
        except ValueError:
            raise FetchFailed("query_wrong_shape") from None
        if is_damaged:
            self.damaged += 1
            found = with_unknown_identity(found)
        if self._converts_text and SPECIFIC_CHARACTER_SET not in found:
            found = with_unknown_texts(found)
        self.identities.add(identity_of(found, self._level))
        try:
            return CompactRow(found)
        except TypeError:  # Nested deeper than can be written: whoever answers with it says so.
            return found


def _are_rows(value: Any) -> TypeGuard[list[Row]]:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _values(written: bytes) -> int:
    return written.count(b",") + written.count(b"[") + written.count(b"{")


def identity_of(row: Row, level: str) -> Identity:
    """What tells rows apart: one UID may be under several patients."""
    return tuple(
        text(row, keyword) for keyword in (UID_OF_LEVEL[level], "PatientID", "IssuerOfPatientID")
    )

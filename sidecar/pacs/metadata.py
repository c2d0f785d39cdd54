"""DICOM JSON metadata as it goes by (PS3.18 10.4.1.1.2, Annex F): checked and rewritten row by row, memory bounded."""

from typing import Any

import ijson
import orjson

from sidecar.common.dicom_json import Row, text
from sidecar.pacs.header import InstanceHeader
from sidecar.pacs.ownership import owner_of
from sidecar.pacs.parts import Check, Malformed
from sidecar.pacs.rewrite import TooDeep, rewrite_row


class Metadata:
    """Takes the PACS's JSON array in any split; gives ours, with the archive's URLs made ours below ``root``.

    ``check`` is told of each row before any byte of it leaves; a row that does not say whose it is counts as
    nobody's. ``row_bytes``: what one row may take, roughly.
    """

    keeps_length = False

    def __init__(self, check: Check, root: str, *, row_bytes: int) -> None:
        self._check = check
        self._root = root
        self._row_bytes = row_bytes
        self._rows: Any = ijson.sendable_list()
        self._parser: Any = ijson.items_coro(self._rows, "item", use_float=True)
        self._begun = False
        self._since_row = 0
        self._sent = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return the rows that came whole, as ours. Raises ``Malformed`` and what the check raises."""
        if not self._begun:
            chunk = chunk.lstrip()
        if not chunk:  # To the parser nothing is the end.
            return b""
        if not self._begun:
            if not chunk.startswith(b"["):
                raise Malformed("metadata_wrong_shape")
            self._begun = True
        self._send(chunk)
        rows, self._rows[:] = list(self._rows), []
        self._since_row = len(chunk) if rows else self._since_row + len(chunk)
        if self._since_row > self._row_bytes:
            raise Malformed("metadata_row_too_large")
        return b"".join(self._written(row) for row in rows)

    def end(self) -> bytes:
        """Return the array's end. Raises ``Malformed`` when it did not come whole."""
        try:
            self._parser.close()
        except (ijson.JSONError, ValueError):
            raise Malformed("truncated") from None
        if not self._begun:
            raise Malformed("truncated")
        return b"]" if self._sent else b"[]"

    def _send(self, chunk: bytes) -> None:
        try:
            self._parser.send(chunk)
        except (ijson.JSONError, ValueError, OverflowError, StopIteration):
            raise Malformed("metadata_not_json") from None

    def _written(self, row: object) -> bytes:
        if not isinstance(row, dict):
            raise Malformed("metadata_wrong_shape")
        self._check(_header_of(row))
        try:
            written = orjson.dumps(rewrite_row(row, self._root, context=_instance_url(row, self._root)))
        except (TooDeep, TypeError):  # TypeError: nesting or a number that no reader could take either.
            raise Malformed("metadata_wrong_shape") from None
        lead = b"," if self._sent else b"["
        self._sent += 1
        return lead + written


def _header_of(row: Row) -> InstanceHeader:
    study, series, instance = (
        text(row, keyword) or "" for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    return InstanceHeader(owner_of(row), study, series, instance)


def _instance_url(row: Row, root: str) -> str | None:
    header = _header_of(row)
    if not (header.study and header.series and header.instance):
        return None
    return f"{root}/studies/{header.study}/series/{header.series}/instances/{header.instance}"

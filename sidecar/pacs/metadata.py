"""DICOM JSON metadata as it goes by (PS3.18 10.4.1.1.2, Annex F): checked and rewritten row by row, memory bounded."""

import re
from typing import Any

import orjson

from sidecar.common.dicom_json import Row, text
from sidecar.pacs.header import InstanceHeader
from sidecar.pacs.json_rows import NotRows, Rows
from sidecar.pacs.ownership import owner_of
from sidecar.pacs.rewrite import TooDeep, rewrite_row
from sidecar.pacs.scanner import Check, Malformed

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)


class Metadata:
    """Takes the PACS's JSON array in any split; gives ours, with the archive's URLs made ours below ``root``.

    ``check`` is told of each row before any byte of it leaves; a row that does not say whose it is counts as
    nobody's. ``row_bytes``: what one row may take, roughly.
    """

    keeps_length = False

    def __init__(self, check: Check, root: str, *, row_bytes: int) -> None:
        self._check = check
        self._root = root
        self._rows = Rows(row_bytes=row_bytes)
        self.parts = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return the rows that came whole, as ours. Raises ``Malformed`` and what the check raises."""
        try:
            rows = self._rows.feed(chunk)
        except NotRows as wrong:
            raise Malformed(wrong.args[0]) from None
        return b"".join(self._written(row) for row in rows)

    @property
    def is_closed(self) -> bool:
        """Whether the array has ended."""
        return self._rows.is_closed

    def end(self) -> bytes:
        """Return the array's end. Raises ``Malformed`` when it did not come whole, or has no rows."""
        try:
            self._rows.end()
        except NotRows as wrong:
            raise Malformed(wrong.args[0]) from None
        if not self.parts:
            raise Malformed("empty")  # What is permitted is there: a study without instances is none.
        return b"]"

    def _written(self, text_of_row: bytes) -> bytes:
        row = _read(text_of_row)
        self._check(_header_of(row))
        try:
            written = orjson.dumps(rewrite_row(row, self._root, context=_instance_url(row, self._root)))
        except (TooDeep, TypeError):  # TypeError: nesting or a number that no reader could take either.
            raise Malformed("metadata_wrong_shape") from None
        lead = b"," if self.parts else b"["
        self.parts += 1
        return lead + written


def _read(text_of_row: bytes) -> dict[str, Any]:
    """The row with its tags in capital letters. Raises ``Malformed`` for what is no JSON, or names a tag twice."""
    try:
        row = orjson.loads(text_of_row)
    except ValueError:
        raise Malformed("metadata_not_json") from None
    tags = {name.upper(): element for name, element in row.items() if _TAG.fullmatch(name)}
    if len(tags) < sum(1 for name in row if _TAG.fullmatch(name)):
        raise Malformed("metadata_tag_twice")
    return tags


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

"""DICOM JSON metadata (PS3.18 10.4.1.1.2, Annex F), checked and rewritten row by row.

Memory is bounded by one row.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from sidecar.access.facts import InstanceHeader, Part
from sidecar.dicom.json_model import Row, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.body_filter import Check, Malformed
from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.json_rows import JsonRowScanner, NotRows, read_row, with_unknown_identity
from sidecar.dicomweb.large_row import PART_BYTES, LargeRow, NotJson
from sidecar.dicomweb.rewrite import TooDeep, rewrite_row

log = logging.getLogger(__name__)

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_STEP_BYTES = 4_096
MANY_OBJECTS = 300
"""Limit of attributes and items in a row that is rewritten at once.

Each may have a BulkDataURI to be rewritten.
"""


class Metadata:
    """Scanner of the PACS's JSON array, in any split.

    The archive's URLs become ours below ``root``. ``check`` gets each row's header before any byte
    of the row leaves. A row that does not name its patient is nobody's. ``row_bytes`` is the
    approximate limit of a row. ``dropped`` counts by reason the BulkDataURIs that are left out.
    """

    def __init__(self, check: Check, root: str, *, row_bytes: int) -> None:
        self._check = check
        self._root = root
        self._rows = JsonRowScanner(row_bytes=row_bytes)
        self._damaged = 0
        self.parts = 0
        self.dropped: Counter[str] = Counter()

    def length(self, content_length: int | None) -> int | None:
        """Return ``None``: rows are written anew."""
        return None

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Return the rows that are whole now, rewritten. A row that ``takes_long`` is one step."""
        return (self.rewrite(row) for rows in self.rows(chunk) for row in rows)

    def rows(self, chunk: bytes) -> Iterator[list[bytes]]:
        """Return the rows that are whole now, unchanged, some bytes at a time.

        Raises ``Malformed``.
        """
        for start in range(0, len(chunk), _STEP_BYTES):
            try:
                yield self._rows.feed(chunk[start : start + _STEP_BYTES])
            except NotRows as failure:
                raise Malformed(failure.args[0]) from None

    def rewrite(self, row: bytes) -> bytes:
        """Return one of ``rows``, rewritten. Raises ``Malformed`` and what the check raises."""
        try:
            rewritten = self._large(row) if len(row) > PART_BYTES else self._small(row)
        except (TooDeep, TypeError):  # TypeError: nesting or a number that no reader could take.
            raise Malformed("metadata_wrong_shape") from None
        lead = b"," if self.parts else b"["
        self.parts += 1
        return lead + rewritten

    @property
    def is_closed(self) -> bool:
        """Whether the array has ended."""
        return self._rows.is_closed

    def end(self) -> bytes:
        """Return the array's end.

        Raises ``Malformed`` when the array did not come whole, or has no rows.
        """
        try:
            self._rows.end()
        except NotRows as failure:
            raise Malformed(failure.args[0]) from None
        if self._damaged:
            log.warning(
                "metadata of the PACS have values that are no JSON", extra={"rows": self._damaged}
            )
        if not self.parts:
            # A permitted study, series or instance exists, so it has instances.
            raise Malformed("empty")
        return b"]"

    def _small(self, json_row: bytes) -> bytes:
        try:
            row, is_damaged = read_row(json_row)
        except ValueError:
            raise Malformed("metadata_not_json") from None
        self._damaged += is_damaged
        row = _tags(row, row)
        self._check_row(row, is_damaged=is_damaged)
        return orjson.dumps(rewrite_row(row, self._root, uris=self._uris(row)))

    def _large(self, json_row: bytes) -> bytes:
        try:
            large = LargeRow(json_row)
            row = _tags(large.attributes, large.names)  # A large identifier identifies nobody.
            self._check_row(row, is_damaged=bool(large.damage))
            rewritten = large.rewritten(self._root, self._uris(row))
        except NotJson:
            raise Malformed("metadata_not_json") from None
        self._damaged += bool(large.damage)
        return rewritten

    def _check_row(self, row: Row, *, is_damaged: bool) -> None:
        self._check(_header_of(with_unknown_identity(row) if is_damaged else row))

    def _uris(self, row: Row) -> BulkDataUris:
        header = _header_of(row)
        part = Part(
            header.study, header.series or None, (header.series and header.instance) or None
        )
        return BulkDataUris(self._root, part, self.dropped)


def takes_long(row: bytes) -> bool:
    """Return whether rewriting this row takes too long for an event loop."""
    return len(row) > PART_BYTES or row.count(b"{") > MANY_OBJECTS


def _tags(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the attributes with their tags in capital letters.

    Raises ``Malformed`` when ``names`` has a tag twice.
    """
    tags = [name.upper() for name in names if _TAG.fullmatch(name)]
    if len(set(tags)) < len(tags):
        raise Malformed("metadata_tag_twice")
    return {name.upper(): element for name, element in row.items() if _TAG.fullmatch(name)}


def _header_of(row: Row) -> InstanceHeader:
    study, series, instance = (
        text(row, keyword) or ""
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    return InstanceHeader(owner_of(row), study, series, instance)

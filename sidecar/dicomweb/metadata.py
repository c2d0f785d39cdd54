"""DICOM JSON metadata as it goes by (PS3.18 10.4.1.1.2, Annex F): checked and rewritten row by row, memory bounded."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import Any

import orjson

from sidecar.access.facts import InstanceHeader, Part
from sidecar.common.slices import in_slices
from sidecar.dicom.json_model import Row, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.body_filter import Check, Malformed
from sidecar.dicomweb.bulkdata_uris import BulkDataUris
from sidecar.dicomweb.json_rows import JsonRowScanner, NotRows
from sidecar.dicomweb.large_row import PART_BYTES, LargeRow, NotJson
from sidecar.dicomweb.lenient_json import read_row, with_unknown_identity
from sidecar.dicomweb.rewrite import TooDeep, rewrite_row

log = logging.getLogger(__name__)

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_STEP_BYTES = 4_096
MANY_OBJECTS = 300
"""A row of more attributes and items is rewritten in a thread, too: each may have a BulkDataURI to be read."""
_REWRITING = ThreadPoolExecutor(1, "metadata")
"""One thread: a second would have the interpreter no sooner, and others need theirs for databases and names."""


class Metadata:
    """Takes the PACS's JSON array in any split.

    Gives ours, with the archive's URLs made ours below ``root``.

    ``check`` is told of each row before any byte of it leaves; a row that does not say whose it is
    counts as nobody's. ``row_bytes``: what one row may take, roughly. ``dropped`` counts by reason
    the BulkDataURIs left out.
    """

    def __init__(self, check: Check, root: str, *, row_bytes: int) -> None:
        self._check = check
        self._root = root
        self._rows = JsonRowScanner(row_bytes=row_bytes)
        self._damaged = 0
        self.parts = 0
        self.dropped: Counter[str] = Counter()

    def length(self, came: int | None) -> int | None:
        """Rows are written anew: not known."""
        return None

    def feed(self, chunk: bytes) -> bytes:
        """Return the rows that came whole, as ours.

        Raises ``Malformed`` and what the check raises.
        """
        return b"".join(self.steps(chunk))

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """The same, row by row.

        A large row takes long: ``feed_in_slices`` is for the event loop.
        """
        return (self._ours(row) for one in self.rows(chunk) for row in one)

    async def feed_in_slices(self, chunk: bytes) -> bytes:
        """The same for an event loop: others have their turn in between.

        What takes long is done in a thread.
        """
        written: list[bytes] = []
        loop = asyncio.get_running_loop()
        steps = self.rows(chunk)
        # One after the other: to free many rows takes time, too.
        while step := await in_slices(islice(steps, 1)):
            for is_large, some in groupby(step[0], _takes_long):
                if is_large:
                    written += [
                        await loop.run_in_executor(_REWRITING, self._ours, row) for row in some
                    ]
                else:
                    written += await in_slices(map(self._ours, some))
        return b"".join(written)

    def rows(self, chunk: bytes) -> Iterator[list[bytes]]:
        """The rows that came whole, as they came, some bytes at a time. Raises ``Malformed``."""
        for start in range(0, len(chunk), _STEP_BYTES):
            try:
                yield self._rows.feed(chunk[start : start + _STEP_BYTES])
            except NotRows as wrong:
                raise Malformed(wrong.args[0]) from None

    @property
    def is_closed(self) -> bool:
        """Whether the array has ended."""
        return self._rows.is_closed

    def end(self) -> bytes:
        """Return the array's end.

        Raises ``Malformed`` when it did not come whole, or has no rows.
        """
        try:
            self._rows.end()
        except NotRows as wrong:
            raise Malformed(wrong.args[0]) from None
        if self._damaged:
            log.warning(
                "metadata of the PACS have values that are no JSON", extra={"rows": self._damaged}
            )
        if not self.parts:
            # What is permitted is there: a study without instances is none.
            raise Malformed("empty")
        return b"]"

    def _ours(self, text_of_row: bytes) -> bytes:
        try:
            written = (
                self._large(text_of_row)
                if len(text_of_row) > PART_BYTES
                else self._written(text_of_row)
            )
        except (
            TooDeep,
            TypeError,
        ):  # TypeError: nesting or a number that no reader could take either.
            raise Malformed("metadata_wrong_shape") from None
        lead = b"," if self.parts else b"["
        self.parts += 1
        return lead + written

    def _written(self, text_of_row: bytes) -> bytes:
        try:
            row, is_damaged = read_row(text_of_row)
        except ValueError:
            raise Malformed("metadata_not_json") from None
        self._damaged += is_damaged
        row = _tags(row, row)
        self._check(_header_of(with_unknown_identity(row) if is_damaged else row))
        return orjson.dumps(rewrite_row(row, self._root, uris=self._uris(row)))

    def _large(self, text_of_row: bytes) -> bytes:
        try:
            large = LargeRow(text_of_row)
            row = _tags(large.attributes, large.names)  # An identifier that is large names nobody.
            self._check(_header_of(with_unknown_identity(row) if large.damage else row))
            written = large.written(self._root, self._uris(row))
            self._damaged += bool(large.damage)
            return written
        except NotJson:
            raise Malformed("metadata_not_json") from None

    def _uris(self, row: Row) -> BulkDataUris:
        header = _header_of(row)
        part = Part(
            header.study, header.series or None, (header.series and header.instance) or None
        )
        return BulkDataUris(self._root, part, self.dropped)


def _takes_long(text_of_row: bytes) -> bool:
    return len(text_of_row) > PART_BYTES or text_of_row.count(b"{") > MANY_OBJECTS


def _tags(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The attributes with their tags in capital letters.

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

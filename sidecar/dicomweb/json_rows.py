"""Rows of a JSON array that comes in pieces: split into its objects, and read row by row.

Memory and depth are bounded. Nesting can make a parser that builds objects as it reads need any
amount of memory. Here regular expressions look at braces and strings alone, and the JSON parser
gets an object when it is whole.

Archives write values that break RFC 8259: ``NaN`` and ``Infinity`` where DICOM has them in FL or
FD, bytes that are no UTF-8 where a text was never converted, halves of a surrogate pair where a
text was cut, and control characters. Such a row is read as far as possible, and the value is
unknown: a number becomes ``null``, and unreadable characters become the replacement character,
which no identifier has (``character_sets.is_known_text``). Names of members must be sound. A name
that identifies a row or its patient must not stand twice with two values: readers take either.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sidecar.dicom.character_sets import REPLACEMENT
from sidecar.dicom.json_model import Row, tag

MAXIMUM_DEPTH = 200
"""Limit of the depth of objects in objects."""
MAXIMUM_OBJECTS = 500_000
"""Approximate limit of the objects in a row: each costs time, however short it is."""
_PIECE_BYTES = 2_048  # Number of bytes copied at once. Those of the next rows are copied again.

# _STRING matches to the end of a string, _PLAIN up to the next brace, over whole strings and over
# objects without objects.
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_PLAIN = re.compile(
    rb'(?:[^{}"]++|"(?:[^"\\]++|\\.)*+"|\{(?:[^{}"]++|"(?:[^"\\]++|\\.)*+")*+\})*+', re.DOTALL
)
_MARK = b"\xef\xbb\xbf"
"""The byte order mark, which RFC 8259 8.1 lets a reader ignore before UTF-8."""
_SPACE = re.compile(rb"[ \t\r\n]++")
DAMAGED_BYTES = 2**19
"""Limit in bytes of a damaged row: it holds the interpreter longer than sound JSON does."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_IDENTIFYING = (
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SpecificCharacterSet",
)
_UNKNOWN = {"vr": "LO", "Value": [REPLACEMENT]}
_NAMES = frozenset(_IDENTIFYING) | {
    name for upper in map(tag, _IDENTIFYING) for name in (upper, upper.lower())
}
_WRITTEN_NAMES = tuple((name, b'"%s"' % name.encode()) for name in sorted(_NAMES))
_NAME = re.compile(
    rb'"(?:00(?:10002[01]|20000[DEde]|0800(?:05|18))|PatientID|IssuerOfPatientID|StudyInstanceUID|SeriesInstanceUID'
    rb'|SOPInstanceUID|SpecificCharacterSet)"'
)
# An escaped letter or digit. No known archive writes it; some escape "<" and ">".
_ESCAPED = re.compile(rb"\\u00(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])")
_INTEGERS = range(-(2**63), 2**64)


class NotRows(ValueError):
    """The JSON is no array of objects, or an object is too large or too deep.

    ``args[0]`` is a constant for the reason.
    """


class JsonRowScanner:
    """Splits a JSON array into the texts of its objects, each of at most ``row_bytes``."""

    def __init__(self, *, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._mark = _MARK  # The part of it that may still come.
        # The characters that may come between objects, or "end" behind the array.
        self._expects = b"["
        self._row = bytearray()
        self._depth = 0
        self._objects = 0
        self._in_string = False
        self._scanned = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the objects that are whole now. Raises ``NotRows``."""
        rows: list[bytes] = []
        position = 0
        while position < len(chunk):
            if self._depth:
                position = self._inside(chunk, position, rows)
            else:
                position = self._between(chunk, position)
        return rows

    @property
    def is_closed(self) -> bool:
        """Whether the array has ended."""
        return self._expects == b"end"

    def end(self) -> None:
        """Raise ``NotRows`` unless the array came whole."""
        if self._expects != b"end" or self._depth:
            raise NotRows("truncated")

    def _between(self, chunk: bytes, position: int) -> int:
        if space := _SPACE.match(chunk, position):
            return space.end()
        character = chunk[position : position + 1]
        if self._expects == b"[" and self._mark and self._mark.startswith(character):
            self._mark = self._mark[1:]
            return position + 1
        if (
            self._expects == b"end"
            or character not in self._expects
            or self._mark not in (_MARK, b"")
        ):
            raise NotRows("metadata_wrong_shape")
        if character == b"{":
            self._depth = self._objects = 1
            self._row += b"{"
            self._scanned = 1
        else:
            self._expects = {b"[": b"{]", b",": b"{", b"]": b"end"}[character]
        return position + 1

    def _inside(self, chunk: bytes, position: int, rows: list[bytes]) -> int:
        """Take bytes of an object until it or the chunk ends; add a whole object to ``rows``."""
        piece = chunk[position : position + _PIECE_BYTES]
        taken_from = len(self._row)
        self._row += piece
        self._objects += piece.count(b"{")
        end = self._scan()
        if end is None:
            if len(self._row) > self._row_bytes or self._objects > MAXIMUM_OBJECTS:
                raise NotRows("metadata_row_too_large")
            return position + len(piece)
        row = bytes(self._row[:end])
        if len(row) > self._row_bytes:
            raise NotRows("metadata_row_too_large")
        rows.append(row)
        self._row.clear()
        self._expects = b",]"
        return position + end - taken_from

    def _scan(self) -> int | None:
        """Return the end of the object, ``None`` when it has not come yet."""
        row, at = self._row, self._scanned
        while True:
            if self._in_string:
                match = _STRING.match(row, at)
                at = match.end() if match else at
                # A backslash at the very end waits for the character that it escapes.
                if at >= len(row) or row[at] != 0x22:
                    self._scanned = at
                    return None
                self._in_string = False
                at += 1
            match = _PLAIN.match(row, at)
            at = match.end() if match else at
            if at >= len(row):
                self._scanned = at
                return None
            character = row[at]
            at += 1
            if character == 0x22:  # A string that does not end here.
                self._in_string = True
                continue
            self._depth += 1 if character == 0x7B else -1
            if self._depth > MAXIMUM_DEPTH:
                raise NotRows("metadata_too_deep")
            if self._depth == 0:
                self._scanned = 0
                return at


def read_json(json_text: bytes) -> tuple[Any, bool]:
    """Return the value, and whether it is damaged. Raises ``ValueError`` if it is unreadable."""
    try:
        return orjson.loads(json_text), False
    except ValueError:
        if len(json_text) > DAMAGED_BYTES:
            raise
    try:
        return _sound(_loads(json_text.decode("utf-8", "replace"))), True
    except RecursionError:
        raise ValueError("nested too deep") from None


def has_one_reading(json_text: bytes, rows: Sequence[Row]) -> bool:
    """Return whether all readers of ``json_text`` take ``rows``.

    Then no name that identifies a row can stand there twice. The JSON must be sound. ``False``: the
    name may stand in a sequence. This is fast; ``read_row`` looks closely, row by row.
    """
    are_unique = all(
        json_text.count(text) == sum(name in row for row in rows) for name, text in _WRITTEN_NAMES
    )
    return are_unique and _ESCAPED.search(json_text) is None


def read_row(json_text: bytes) -> tuple[Row, bool]:
    """Return a row, and whether it is damaged and needs ``with_unknown_identity``.

    Raises ``ValueError`` as ``read_json`` does, and for a name that stands twice with two values.
    """
    row, is_damaged = read_json(json_text)
    if not isinstance(row, Mapping):
        raise ValueError("no object")  # noqa: TRY004
    names = _NAME.findall(json_text)
    if not is_damaged and (len(set(names)) < len(names) or _ESCAPED.search(json_text)):
        _loads(json_text.decode())
    return row, is_damaged


def with_unknown_identity(row: Row) -> Row:
    """Return a damaged row, as nobody's if a damaged value may identify it or its patient."""
    unknown = {name for name in map(tag, _IDENTIFYING) if name in row and not _is_sound(row[name])}
    if not unknown:
        return row
    return {**row, **dict.fromkeys(unknown | {tag("PatientID")}, _UNKNOWN)}


def _is_sound(element: Any) -> bool:
    """Return whether an attribute is empty, or each of its values can be read."""
    if not isinstance(element, dict):
        return False
    values = element.get("Value", [])
    return isinstance(values, list) and all(
        isinstance(value, str | int) and REPLACEMENT not in str(value) for value in values
    )


def _loads(text: str) -> Any:
    """Return the value that the standard library reads.

    Raises ``ValueError``, also for a name that stands twice with two values.
    """
    return json.loads(text, strict=False, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs) and any(members[name] != value for name, value in pairs):
        raise ValueError("a name that stands twice")
    return members


def _sound(value: Any) -> Any:
    """Return the value without numbers and texts that JSON cannot have."""
    if isinstance(value, str):
        return _SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value not in _INTEGERS:
        return _sound(float(value)) if abs(value) < 10**308 else None
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if not isinstance(value, dict):
        return value
    if any(REPLACEMENT in name or _SURROGATE.search(name) for name in value):
        raise ValueError("a name that cannot be read")
    return {name: _sound(member) for name, member in value.items()}

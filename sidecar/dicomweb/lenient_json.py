"""JSON that breaks RFC 8259 in a value, as archives write it, read as far as possible.

``NaN`` and ``Infinity`` are written where DICOM has them in FL or FD, bytes that are no UTF-8 where
a text was never converted, halves of a surrogate pair where one was cut, and control characters.
One such value is unknown: a number becomes ``null``, and what of a text cannot be read becomes the
replacement character, which no identifier has (``character_sets.is_known_text``). Names of members
must be sound. A name that identifies a row or its patient must not stand twice with two values:
readers take the one or the other.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sidecar.dicom.character_sets import REPLACEMENT
from sidecar.dicom.json_model import Row, tag

LIMIT_BYTES = 2**19
"""Limit in bytes: such a text holds the interpreter longer than sound JSON does."""
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
# A letter or digit by its number, as nobody writes it; "<" and ">" some do.
_ESCAPED = re.compile(rb"\\u00(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])")
_INTEGERS = range(-(2**63), 2**64)


def read_json(written: bytes) -> tuple[Any, bool]:
    """Return the value, and whether it is damaged. Raises ``ValueError`` if it is unreadable."""
    try:
        return orjson.loads(written), False
    except ValueError:
        if len(written) > LIMIT_BYTES:
            raise
    try:
        return _sound(_loads(written.decode("utf-8", "replace"))), True
    except RecursionError:
        raise ValueError("nested too deep") from None


def has_one_reading(written: bytes, rows: Sequence[Row]) -> bool:
    """Return whether all readers of ``written`` take ``rows``.

    Then no name that identifies a row can stand there twice. Fast, and for sound JSON. ``False``:
    it may stand in a sequence; ``read_row`` looks closely, row by row.
    """
    named = all(
        written.count(text) == sum(name in row for row in rows) for name, text in _WRITTEN_NAMES
    )
    return named and _ESCAPED.search(written) is None


def read_row(written: bytes) -> tuple[Row, bool]:
    """Return a row, and whether it is damaged: then it is for ``with_unknown_identity``.

    Raises ``ValueError`` as ``read_json``, and for a name that stands twice with two values.
    """
    row, is_damaged = read_json(written)
    if not isinstance(row, Mapping):
        raise ValueError("no object")  # noqa: TRY004
    names = _NAME.findall(written)
    if not is_damaged and (len(set(names)) < len(names) or _ESCAPED.search(written)):
        _loads(written.decode())
    return row, is_damaged


def with_unknown_identity(row: Row) -> Row:
    """Return a damaged row; it is nobody's if what is damaged may identify it or its patient."""
    unknown = {name for name in map(tag, _IDENTIFYING) if name in row and not _is_sound(row[name])}
    if not unknown:
        return row
    return {**row, **dict.fromkeys(unknown | {tag("PatientID")}, _UNKNOWN)}


def _is_sound(element: Any) -> bool:
    """Return whether an attribute is empty, or each of its values can be read."""
    if not isinstance(element, dict):
        return False
    listed = element.get("Value", [])
    return isinstance(listed, list) and all(
        isinstance(value, str | int) and REPLACEMENT not in str(value) for value in listed
    )


def _loads(text: str) -> Any:
    """Return what the standard library reads.

    Raises ``ValueError``, also for a name that stands twice with two values.
    """
    return json.loads(text, strict=False, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[name] != value for name, value in pairs):
        raise ValueError("a name that stands twice")
    return found


def _sound(value: Any) -> Any:
    """Return the value without what JSON cannot have."""
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

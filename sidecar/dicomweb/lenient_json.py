"""JSON that breaks RFC 8259 in a value, as archives write it, read for what can be read of it.

``NaN`` and ``Infinity`` are written where DICOM has them in FL or FD, bytes that are no UTF-8 where a text was never
converted, halves of a surrogate pair where one was cut, and control characters. One such value is unknown: a number
becomes ``null``, and what of a text cannot be read becomes the replacement character, which no identifier has
(``character_sets.is_known_text``). Names of members must be sound: they say what a value is.
"""

import json
import math
import re
from typing import Any

import orjson

from sidecar.dicom.character_sets import REPLACEMENT

LIMIT_BYTES = 2**19
"""Limit in bytes of a text that is read so: it holds the interpreter longer than sound JSON does."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(written: bytes) -> tuple[Any, bool]:
    """Return the value, and whether it is damaged. Raises ``ValueError`` for what cannot be read all the same."""
    try:
        return orjson.loads(written), False
    except ValueError:
        if len(written) > LIMIT_BYTES:
            raise
    try:
        return _sound(json.loads(written.decode("utf-8", "replace"), strict=False)), True
    except RecursionError:
        raise ValueError("nested too deep") from None


def _sound(value: Any) -> Any:
    """Return the value without what JSON cannot have."""
    if isinstance(value, str):
        return _SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_sound(one) for one in value]
    if not isinstance(value, dict):
        return value
    if any(REPLACEMENT in name or _SURROGATE.search(name) for name in value):
        raise ValueError("a name that cannot be read")
    return {name: _sound(one) for name, one in value.items()}

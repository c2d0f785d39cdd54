"""Attributes of a DICOM JSON object (PS3.18 Annex F), and the form of UIDs (PS3.5 section 9.1)."""

import re
from typing import Any

from pydicom.datadict import tag_for_keyword

Row = dict[str, Any]

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def is_uid(text: str) -> bool:
    """Return whether ``text`` is digits and single points.

    Archives have UIDs of over 64 characters and with leading zeros, against PS3.5 9.1.
    """
    return _UID.fullmatch(text) is not None


def text(row: Row, keyword: str) -> str | None:
    """Return the first value of an attribute as text, without padding.

    ``None`` if there is none.
    """
    element = row.get(f"{tag_for_keyword(keyword):08X}")
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else None
    return str(value).strip(" \0") or None if isinstance(value, str | int) else None


def number(row: Row, keyword: str) -> int | None:
    """Return the first value as a whole number; VR IS may be a JSON string (PS3.18 F.2.3)."""
    value = text(row, keyword) or ""
    return int(value) if _WHOLE_NUMBER.fullmatch(value) else None

"""Attribute matching of queries (PS3.4 C.2.2.2): values, lists, ranges, wildcards, universal."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sidecar.access.wildcards import matches

Matcher = Callable[[Sequence[Any]], bool]
"""Return whether any of an attribute's values in DICOM JSON matches. Names are objects."""

_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_NUMBER_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
# PS3.5 6.2: date; time; date and time, whose offset from UTC is ignored. Parts may be missing at
# the end.
_POINTS = {
    "DA": re.compile(r"[0-9]{8}", re.ASCII),
    "TM": re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?", re.ASCII),
    "DT": re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})?", re.ASCII),
}
_LONGEST_POINT = 20  # YYYYMMDDHHMMSSFFFFFF
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def compile_key(vr: str, key: str) -> Matcher:
    """Return the matcher of a key for an attribute of this VR.

    ``""`` and ``"*"`` match everything, also a missing attribute. Values are separated by
    backslashes, UIDs also by commas. ``*`` and ``?`` are wildcards in text. Dates and times may be
    ranges (``20240101-``, ``-1200``). Person names match without regard to case, in any of their
    groups; everything else exactly, but for outer spaces. Raises ``ValueError`` for a malformed
    date, time or number.
    """
    listed = key.replace(",", "\\") if vr == "UI" else key
    alternatives = [stripped for item in listed.split("\\") if (stripped := item.strip(" "))]
    if not alternatives or (vr in _WILDCARD_VRS and not key.strip("* ")):
        return lambda values: True
    tests = [_test(vr, alternative) for alternative in alternatives]
    return lambda values: any(test(value) for value in values for test in tests)


def _test(vr: str, key: str) -> Callable[[Any], bool]:
    """Return the test of a value for an alternative of the key."""
    if vr in _POINTS:
        return _range_test(vr, key)
    if vr in _NUMBER_VRS:
        number = float(key)
        return lambda value: _number(value) == number
    if vr == "PN":
        return _name_test(key)
    if vr in _WILDCARD_VRS and not {"*", "?"}.isdisjoint(key):
        return lambda value: matches(key, str(value).strip(" "))
    return lambda value: str(value).strip(" \0") == key


def _name_test(key: str) -> Callable[[Any], bool]:
    pattern = key.rstrip("^ ").casefold()
    return lambda value: any(
        matches(pattern, name.rstrip("^ ").casefold()) for name in _names(value)
    )


def _names(value: Any) -> Iterable[str]:
    """Return each group of a person name, and all of them joined as in PS3.5 6.2.1."""
    groups = value if isinstance(value, Mapping) else {"Alphabetic": str(value)}
    names = [str(groups.get(group, "")) for group in _GROUPS]
    return [*filter(None, names), "=".join(names).rstrip("=")]


def _range_test(vr: str, key: str) -> Callable[[Any], bool]:
    earliest, latest = _bounds(vr, key)
    low, high = earliest.ljust(_LONGEST_POINT, "0"), latest.ljust(_LONGEST_POINT, "9")

    def inside(value: Any) -> bool:
        digits = _digits(vr, str(value).strip(" "))
        return digits is not None and low <= digits.ljust(_LONGEST_POINT, "0") <= high

    return inside


def _bounds(vr: str, key: str) -> tuple[str, str]:
    """Return the digits of the first and the last point of a range, which may be the same point.

    Raises ``ValueError``.
    """
    single = _digits(vr, key)
    if single is not None:
        return single, single
    for position, character in enumerate(key):
        if character == "-":
            ends = [
                _digits(vr, end.strip(" ")) if end.strip(" ") else ""
                for end in (key[:position], key[position + 1 :])
            ]
            if key != "-" and None not in ends:
                return ends[0] or "", ends[1] or ""
    raise ValueError(f"not a {vr} or a range of them")


def _digits(vr: str, point: str) -> str | None:
    """Return the digits of a date or time, in the form of DICOM or ACR-NEMA.

    ``None`` for any other text.
    """
    if vr == "DA" and re.fullmatch(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}", point):
        point = point.replace(".", "")
    elif vr == "TM":
        point = point.replace(":", "")
    if not _POINTS[vr].fullmatch(point):
        return None
    return re.sub(r"[+-].*|\.", "", point)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None

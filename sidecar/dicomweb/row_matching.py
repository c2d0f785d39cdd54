"""Rows of a QIDO-RS answer compared again with the client's query (PS3.4 C.2.2.2).

Archives ignore keys that they do not know, split values at commas, or get wildcards for characters
that they cannot read. A row is left out if it certainly does not match. It stays if a value cannot
be compared: an attribute that is not in the row, or is of a lower level; times, whose range may be
joined with that of the date; names in other scripts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from sidecar.access.wildcards import LONGEST_PATTERN, LONGEST_VALUE, matches, without_case
from sidecar.dicom.character_sets import is_known_text
from sidecar.dicom.dictionary import vr_of
from sidecar.dicom.json_model import Row, tag, tags, values_of
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import Matching

ROW_COMPARISONS = 65_536
"""Limit of the cost of comparing a row with a query, in character comparisons.

Values beyond it count as matching.
"""
_VALUE_COMPARISONS = 16
"""Cost of comparing a value, however short, in character comparisons."""
ROW_VALUES = 100
"""Limit of values of an attribute that are compared."""


# The attributes that an archive must match by and return at each level (PS3.18 10.6.1.2.3,
# 10.6.3.3). One that is empty in a row is empty in the archive.
_REQUIRED = {
    "studies": tags(
        "StudyInstanceUID",
        "StudyDate",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientName",
        "StudyID",
    ),
    "series": tags(
        "SeriesInstanceUID", "Modality", "SeriesNumber", "PerformedProcedureStepStartDate"
    ),
    "instances": tags("SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
}
# Other attributes of each level. An archive that matches by them may leave them empty.
_OPTIONAL = {
    "studies": tags(
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "StudyDescription",
        "PatientBirthDate",
        "PatientSex",
    ),
    "series": tags("SeriesDescription", "BodyPartExamined", "Laterality"),
    "instances": tags("ContentLabel", "NumberOfFrames"),
}
_LEVELS = tuple(_REQUIRED)

_DATE = re.compile(r"[0-9]{8}", re.ASCII)
_DATE_RANGE = re.compile(r"([0-9]{8})?-([0-9]{8})?", re.ASCII)
_WILDCARD = re.compile(r"[*?]")
_TEXTS = frozenset({"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})

_Mismatch = Callable[[Sequence[Any], "_Budget"], bool]
"""Returns whether none of the values of an attribute can match the key."""


@dataclass(slots=True)
class _Budget:
    """The character comparisons that a row may still cost."""

    left: int = ROW_COMPARISONS

    def matches(self, pattern: str, value: str) -> bool:
        """Return whether ``value`` matches, or the budget is spent."""
        self.left -= len(pattern) * len(value) + _VALUE_COMPARISONS
        return self.left < 0 or matches(pattern, value)

    def comparable(self, value: str) -> str | None:
        """Return ``value`` in the form that is compared with keys.

        ``None``: it is too long, or the budget is spent. Accents that follow each other are sorted
        in quadratic time (Unicode, UAX #15).
        """
        if len(value) > LONGEST_VALUE:
            return None
        self.left -= (
            _VALUE_COMPARISONS if value.isascii() else _VALUE_COMPARISONS + len(value) ** 2 // 64
        )
        return None if self.left < 0 else _comparable(value)


class RowFilter:
    """The matching keys of a ``query``. ``fields`` has the attributes that are compared again."""

    def __init__(self, query: Query, matching: Matching) -> None:
        levels = _LEVELS[: _LEVELS.index(query.level) + 1]
        comparable = frozenset[str]().union(
            *(_REQUIRED[level] | _OPTIONAL[level] for level in levels)
        )
        self._required = _REQUIRED[query.level]
        keys = [(name, value) for name, value in matching.parameters if name != "includefield"]
        # Time zones shift dates.
        shifted = any(name == tag("TimezoneOffsetFromUTC") for name, _ in keys)
        vrs = {name: vr_of(int(name, 16)) for name, _ in keys if name in comparable}
        self._mismatches = {
            name: mismatch
            for name, value in keys
            if name in vrs
            and not (shifted and vrs[name] == "DA")
            and (mismatch := _mismatch(vrs[name], value)) is not None
        }
        self.fields = tuple(self._mismatches)

    def is_wanted(self, row: Row) -> bool:
        """Return whether the row matches, as far as it can be compared."""
        budget = _Budget()
        return not any(self._differs(name, row, budget) for name in self._mismatches)

    def _differs(self, name: str, row: Row, budget: _Budget) -> bool:
        element = row.get(name)
        if not isinstance(element, Mapping):
            return False
        values = [value for value in values_of(element) if value not in (None, "")]
        if not values:  # In a row an archive may leave out attributes of a level above.
            return name in self._required
        return len(values) <= ROW_VALUES and self._mismatches[name](values, budget)


def _mismatch(vr: str, key: str) -> _Mismatch | None:
    """Return the comparison for an attribute of this VR; ``None``: any value may match."""
    key = key.strip(" ")
    listed = key.replace(",", "\\") if vr in ("UI", "CS") else key
    keys = [stripped for text in listed.split("\\") if (stripped := text.strip(" "))]
    if not keys or not key.strip("*"):
        return None
    if vr in ("UI", "CS") or vr in _TEXTS:
        return _text_mismatch(keys, has_wildcards=vr != "UI")
    if vr == "PN":
        return _name_mismatch(keys)
    if vr == "DA":
        return _date_mismatch(keys)
    if vr in _NUMBERS:
        return _number_mismatch(keys)
    return None


def _text_mismatch(keys: Sequence[str], *, has_wildcards: bool) -> _Mismatch | None:
    """Return the comparison of texts. Archives compare them with and without regard to case."""
    patterns = [_comparable(key) for key in keys if _WILDCARD.search(key)]
    if patterns and (not has_wildcards or sum(map(len, patterns)) > LONGEST_PATTERN):
        return None
    exact = {_comparable(key) for key in keys if not _WILDCARD.search(key)}

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        for value in values:
            text = budget.comparable(str(value).strip(" \0"))
            if text is None or text in exact or not is_known_text(text):
                return False
            if any(budget.matches(pattern, text) for pattern in patterns):
                return False
        return True

    return mismatch


def _comparable(text: str) -> str:
    return without_case(text if text.isascii() else normalize("NFC", text))


def _name_mismatch(keys: Sequence[str]) -> _Mismatch | None:
    """Return the comparison of person names (PS3.4 C.2.2.2.1).

    Case, accents, and components that the key leaves out do not matter.
    """
    are_plain = all(key.isascii() and "=" not in key for key in keys)
    if not are_plain or sum(map(len, keys)) > LONGEST_PATTERN:
        return None
    # Spaces around a value do not matter (PS3.5 6.2).
    patterns = [without_case(key).strip(" ").rstrip("^ ") for key in keys]

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        for value in values:
            groups = value.values() if isinstance(value, Mapping) else str(value).split("=")
            for group in groups:
                if not isinstance(group, str) or not group.isascii() or len(group) > LONGEST_VALUE:
                    return False
                text = without_case(group).strip(" ").rstrip("^ ")
                if any(
                    budget.matches(pattern, text) or budget.matches(f"{pattern}^*", text)
                    for pattern in patterns
                ):
                    return False
        return True

    return mismatch


def _date_mismatch(keys: Sequence[str]) -> _Mismatch | None:
    ranges = []
    for key in keys:
        if _DATE.fullmatch(key):
            ranges.append((key, key))
        elif (match := _DATE_RANGE.fullmatch(key)) is not None:
            ranges.append((match[1] or "", match[2] or "99999999"))
        else:
            return None

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        dates = [str(value).strip(" ") for value in values]
        return all(map(_DATE.fullmatch, dates)) and not any(
            first <= date <= last for date in dates for first, last in ranges
        )

    return mismatch


def _number_mismatch(keys: Sequence[str]) -> _Mismatch | None:
    numbers = set(map(_number, keys))
    if None in numbers:
        return None

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        return not any(number is None or number in numbers for number in map(_number, values))

    return mismatch


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None

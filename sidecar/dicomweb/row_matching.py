"""Rows of a QIDO-RS answer compared again with the client's query (PS3.4 C.2.2.2).

Archives ignore keys that they do not know, split values at commas, or are asked with wildcards for
what they cannot read. Only a row that certainly does not match is left out. What cannot be compared
stays: an attribute that is not in the row, or is of a lower level; times, whose range may be joined
with that of the date; names in other scripts.
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
"""Limit of what comparing a row with a query costs, in character comparisons.

What is not compared then stays.
"""
_EACH_COMPARISONS = 16
"""Cost of comparing a value, however short."""
ROW_VALUES = 100
"""Limit of values of one attribute that are compared."""


# What an archive must match by and return at each level (PS3.18 10.6.1.2.3, 10.6.3.3): empty in a
# row is empty in the archive.
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
# Others of each level: an archive that matches by them may leave them empty.
_OTHERS = {
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
_DATES = re.compile(r"([0-9]{8})?-([0-9]{8})?", re.ASCII)
_WILDCARD = re.compile(r"[*?]")
_TEXTS = frozenset({"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})

_Mismatch = Callable[[Sequence[Any], "_Budget"], bool]
"""Whether none of the values of an attribute can be what was asked for."""


@dataclass(slots=True)
class _Budget:
    """Character comparisons that a row may still cost."""

    left: int = ROW_COMPARISONS

    def matches(self, pattern: str, value: str) -> bool:
        """Return whether ``value`` matches, or cannot be compared any more."""
        self.left -= len(pattern) * len(value) + _EACH_COMPARISONS
        return self.left < 0 or matches(pattern, value)

    def comparable(self, value: str) -> str | None:
        """Return ``value`` as keys are compared with it.

        ``None``: it is too long, or cannot be compared any more. Accents that follow each other are
        sorted in quadratic time (Unicode, UAX #15).
        """
        if len(value) > LONGEST_VALUE:
            return None
        self.left -= (
            _EACH_COMPARISONS if value.isascii() else _EACH_COMPARISONS + len(value) ** 2 // 64
        )
        return None if self.left < 0 else _comparable(value)


class RowFilter:
    """The matching keys of a ``query``; ``fields`` has the attributes that are compared again."""

    def __init__(self, query: Query, matching: Matching) -> None:
        levels = _LEVELS[: _LEVELS.index(query.level) + 1]
        comparable = frozenset[str]().union(
            *(_REQUIRED[level] | _OTHERS[level] for level in levels)
        )
        self._required = _REQUIRED[query.level]
        named = [(name, value) for name, value in matching.parameters if name != "includefield"]
        # Time zones shift dates.
        shifted = any(name == tag("TimezoneOffsetFromUTC") for name, _ in named)
        vrs = {name: vr_of(int(name, 16)) for name, _ in named if name in comparable}
        self._keys = {
            name: mismatch
            for name, value in named
            if name in vrs
            and not (shifted and vrs[name] == "DA")
            and (mismatch := _mismatch(vrs[name], value)) is not None
        }
        self.fields = tuple(self._keys)

    def is_wanted(self, row: Row) -> bool:
        """Return whether the row matches, as far as it can be compared."""
        budget = _Budget()
        return not any(
            self._is_other(name, mismatch, row, budget) for name, mismatch in self._keys.items()
        )

    def _is_other(self, name: str, mismatch: _Mismatch, row: Row, budget: _Budget) -> bool:
        element = row.get(name)
        if not isinstance(element, Mapping):
            return False
        values = [value for value in values_of(element) if value not in (None, "")]
        if not values:  # Of a level above the archive may not know it in such a row.
            return name in self._required
        return len(values) <= ROW_VALUES and mismatch(values, budget)


def _mismatch(vr: str, key: str) -> _Mismatch | None:
    """Return the comparison for an attribute of this VR; ``None``: any value may match."""
    whole = key.strip(" ")
    listed = whole.replace(",", "\\") if vr in ("UI", "CS") else whole
    wanted = [one for part in listed.split("\\") if (one := part.strip(" "))]
    if not wanted or not whole.strip("*"):
        return None
    if vr in ("UI", "CS") or vr in _TEXTS:
        return _of_texts(wanted, has_wildcards=vr != "UI")
    if vr == "PN":
        return _of_names(wanted)
    if vr == "DA":
        return _of_dates(wanted)
    if vr in _NUMBERS:
        return _of_numbers(wanted)
    return None


def _of_texts(wanted: Sequence[str], *, has_wildcards: bool) -> _Mismatch | None:
    """Return the comparison of texts. Archives compare them with and without regard to case."""
    patterns = [_comparable(one) for one in wanted if _WILDCARD.search(one)]
    if patterns and (not has_wildcards or sum(map(len, patterns)) > LONGEST_PATTERN):
        return None
    exact = {_comparable(one) for one in wanted if not _WILDCARD.search(one)}

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        for value in values:
            text = budget.comparable(str(value).strip(" \0"))
            if text is None or text in exact or not is_known_text(text):
                return False
            if any(budget.matches(one, text) for one in patterns):
                return False
        return True

    return mismatch


def _comparable(text: str) -> str:
    return without_case(text if text.isascii() else normalize("NFC", text))


def _of_names(wanted: Sequence[str]) -> _Mismatch | None:
    """Return the comparison of person names (PS3.4 C.2.2.2.1).

    Case, accents, and components that the key leaves out do not matter.
    """
    if (
        not all(one.isascii() and "=" not in one for one in wanted)
        or sum(map(len, wanted)) > LONGEST_PATTERN
    ):
        return None
    # Spaces around a value do not matter (PS3.5 6.2).
    patterns = [without_case(name).strip(" ").rstrip("^ ") for name in wanted]

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


def _of_dates(wanted: Sequence[str]) -> _Mismatch | None:
    ranges = []
    for one in wanted:
        if _DATE.fullmatch(one):
            ranges.append((one, one))
        elif (found := _DATES.fullmatch(one)) is not None:
            ranges.append((found[1] or "", found[2] or "99999999"))
        else:
            return None

    def mismatch(values: Sequence[Any], budget: _Budget) -> bool:
        dates = [str(value).strip(" ") for value in values]
        return all(map(_DATE.fullmatch, dates)) and not any(
            first <= date <= last for date in dates for first, last in ranges
        )

    return mismatch


def _of_numbers(wanted: Sequence[str]) -> _Mismatch | None:
    numbers = set(map(_number, wanted))
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

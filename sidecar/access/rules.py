"""Study rules: what of a patient's imaging is shown to nobody, or later (``access.rules``).

Rules for whole studies and rules for series (those with conditions on series) are two ordered lists; in each the first
rule that applies decides, and what no rule applies to is shown.

A condition is true, false or unknown: unknown when the archive has no value for the attribute. ``exclude`` and ``hold``
apply unless a condition is false (in doubt nothing is shown), ``show`` only if all are true.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.access.study import Attributes, DescribedSeries, DescribedStudy
from sidecar.access.wildcards import LONGEST_VALUE, matches, without_case

HOUR_SECONDS = 3_600


class Effect(StrEnum):
    """What a rule does with what it applies to."""

    EXCLUDE = "exclude"
    HOLD = "hold"
    SHOW = "show"


Conditions = Mapping[str, tuple[str, ...]]
"""DICOM keyword -> patterns, one of which a value must match; all keywords must hold.

Patterns have ``*`` and ``?`` (PS3.4 C.2.2.2.4), case does not count; those of ``StudyDate`` are dates and ranges
(``20240101-20241231``, ``-20241231``, ``20240101-``; PS3.4 C.2.2.2.5).
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One of ``access.rules``. ``hours``: how long after its beginning a study is held.

    ``unknown_applies`` off: an attribute without value counts as one that does not match.
    """

    name: str
    effect: Effect
    study: Conditions = field(default_factory=dict)
    series: Conditions = field(default_factory=dict)
    hours: float = 0
    unknown_applies: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """What rules leave of a study.

    ``series``: those that are shown (SeriesInstanceUIDs), ``None`` when no rule is about series; ``is_complete``: none
    is left out; ``since``: when the last hold on it ended, in seconds since 1970.
    """

    series: frozenset[str] | None = None
    is_complete: bool = True
    since: float | None = None


def holds(conditions: Conditions, attributes: Attributes) -> bool | None:
    """Whether all conditions hold; ``None``: it depends on attributes that have no value.

    A value that is longer than any real one (``LONGEST_VALUE``) is not compared: it counts as unknown.
    """
    unknown = False
    for keyword, patterns in conditions.items():
        values = attributes.get(keyword, ())
        if keyword == "StudyDate":
            values = tuple(date for value in values if (date := _date(value)) is not None)
        usable = tuple(value for value in values if len(value) <= LONGEST_VALUE)
        if any(_matches(keyword, pattern, value) for value in usable for pattern in patterns):
            continue
        if usable and len(usable) == len(values):
            return False
        unknown = True
    return None if unknown else True


def shown(rules: Iterable[Rule], study: DescribedStudy, now: float) -> Shown | None:
    """Return what ``rules`` leave of ``study`` at ``now`` (seconds since 1970); ``None``: nothing."""
    ordered = tuple(rules)
    since: list[float] = []
    if _decide([rule for rule in ordered if not rule.series], study, None, now, since) is not Effect.SHOW:
        return None
    of_series = [rule for rule in ordered if rule.series]
    if not of_series:
        return Shown(since=max(since, default=None))
    kept = [one for one in study.series if _decide(of_series, study, one, now, since) is Effect.SHOW]
    if study.series and not kept:
        return None  # A study of which nothing is left is not shown as an empty one.
    # A UID that stands twice is shown only if both may be. Without any series nobody knows what there is.
    left = frozenset(one.uid for one in kept) - {one.uid for one in study.series if one not in kept}
    return Shown(left, 0 < len(kept) == len(study.series), max(since, default=None))


def _decide(
    rules: Iterable[Rule], study: DescribedStudy, series: DescribedSeries | None, now: float, since: list[float]
) -> Effect:
    """What is done with the study, or with a series of it. ``since`` takes the ends of holds that are over."""
    for rule in rules:
        if not _applies(rule, study, series):
            continue
        if rule.effect is not Effect.HOLD:
            return rule.effect
        if study.started_by is None:
            return Effect.HOLD
        until = study.started_by + rule.hours * HOUR_SECONDS
        if not now >= until:
            return Effect.HOLD
        since.append(until)  # It is over; what comes after it may still decide otherwise.
    return Effect.SHOW


def _applies(rule: Rule, study: DescribedStudy, series: DescribedSeries | None) -> bool:
    found = [holds(rule.study, study.attributes)]
    if series is not None:
        found.append(holds(rule.series, series.attributes))
    if False in found:
        return False
    return None not in found or (rule.unknown_applies and rule.effect is not Effect.SHOW)


def _matches(keyword: str, pattern: str, value: str) -> bool:
    if keyword == "StudyDate":
        return _is_in_range(pattern, value)
    return matches(without_case(pattern), without_case(value))


def _date(value: str) -> str | None:
    """``YYYYMMDD``, ``None`` for what is no date: then it is not known."""
    date = value.replace(".", "")
    return date if len(date) == 8 and date.isdigit() and date.isascii() else None


def _is_in_range(pattern: str, date: str) -> bool:
    first, hyphen, last = pattern.partition("-")
    if not hyphen:
        last = first
    return (first or date) <= date <= (last or date)

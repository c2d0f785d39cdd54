"""What is shown of a study: the site's rules, scopes' constraints and the external policy's verdict."""

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.access.facts import Attributes, Conditions, DescribedSeries, DescribedStudy, Effect, Rule
from sidecar.access.permits import PatientPermit
from sidecar.access.wildcards import LONGEST_VALUE, matches, without_case

HOUR_SECONDS = 3_600


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


_STAND_IN = DescribedStudy({}, (DescribedSeries("", {}),))


def may_see(permit: PatientPermit, described: Iterable[DescribedStudy], now: float) -> Shown | None:
    """Return what the caller may see of a study, ``None``: nothing. ``described``: each study under one UID.

    Each must be seen, and of the series those that are seen in each.
    """
    studies = tuple(described)
    # A study that is not there takes as long as one that is hidden (SIA-45).
    found = [_seen_by_any_way(permit, one, now) for one in studies or (_STAND_IN,)]
    seen = [one for one in found if one is not None]
    if not studies or not seen or len(seen) < len(found):
        return None
    decided = [one.series for one in seen if one.series is not None]
    return Shown(
        series=frozenset.intersection(*decided) if decided else None,
        is_complete=all(one.is_complete for one in seen),
        since=max((one.since for one in seen if one.since is not None), default=None),
    )


def _seen_by_any_way(permit: PatientPermit, study: DescribedStudy, now: float) -> Shown | None:
    """By the way that shows most of it; two ways are not added up."""
    best: Shown | None = None
    for way in permit.ways:
        if way.constraint is not None and way.constraint not in study.satisfies:
            continue
        if holds(way.studies, study.attributes) is not True:
            continue
        found = shown(way.rules, study, now)
        if found is not None and permit.caller is not None:
            found = _with_verdict(found, study, way.context)
        if found is not None and (best is None or _shows_more(found, best)):
            best = found
    return best


def _with_verdict(found: Shown, study: DescribedStudy, context: str) -> Shown | None:
    """The external policy only takes away; without its word nothing is left (SIA-16)."""
    verdict = study.verdicts.get(context)
    if verdict is None or not verdict.allow:
        return None
    known = frozenset(one.uid for one in study.series)
    left = (known if found.series is None else found.series & known) - verdict.exclude_series
    if known and not left:
        return None
    return Shown(left, left == known, found.since)


def _shows_more(one: Shown, other: Shown) -> bool:
    return (one.is_complete, len(one.series or ())) > (other.is_complete, len(other.series or ()))

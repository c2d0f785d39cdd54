"""Work out what may be seen of a study.

The site's rules, the constraints of scopes and the external policy's verdict take away from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sidecar.access.facts import (
    Attributes,
    Conditions,
    DescribedSeries,
    DescribedStudy,
    Effect,
    Rule,
)
from sidecar.access.permits import ALL_SERIES, GrantPath, PatientPermit, SeriesSet
from sidecar.access.reasons import Reason
from sidecar.access.wildcards import LONGEST_VALUE, matches, without_case

HOUR_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Visible:
    """What may be seen of a study.

    ``series``: those that may. ``is_complete``: none is left out. ``since``: when the last hold on
    the study ended, in seconds since 1970, ``None``: there was none.
    """

    series: SeriesSet
    is_complete: bool
    since: float | None

    @property
    def is_limited(self) -> bool:
        """Whether the series are named, so that one that comes later is not among them."""
        return self.series is not ALL_SERIES

    @property
    def named_series(self) -> frozenset[str]:
        """The SeriesInstanceUIDs that are named; none for all series."""
        return frozenset() if self.series is ALL_SERIES else self.series


@dataclass(frozen=True, slots=True)
class Hidden:
    """Nothing of a study may be seen, for this reason."""

    reason: Reason


HIDDEN = Hidden(Reason.NOT_SHOWN)
SHARED = Hidden(Reason.SHARED_UID)
"""Its UID is another patient's, too."""
WHOLE_STUDY = Visible(ALL_SERIES, is_complete=True, since=None)


def holds(conditions: Conditions, attributes: Attributes) -> bool | None:
    """Return whether all conditions hold; ``None``: it depends on attributes without value.

    A value that is longer than any real one (``LONGEST_VALUE``) is not compared: it counts as
    unknown.
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


def visible_by_rules(rules: Sequence[Rule], study: DescribedStudy, now: float) -> Visible | Hidden:
    """Return what ``rules`` leave of ``study`` at ``now`` (seconds since 1970)."""
    since: list[float] = []
    of_study = [rule for rule in rules if not rule.series]
    if _decide(of_study, study, None, now, since) is not Effect.SHOW:
        return HIDDEN
    of_series = [rule for rule in rules if rule.series]
    if not of_series:
        return Visible(ALL_SERIES, is_complete=True, since=max(since, default=None))
    shown: set[str] = set()
    hidden: set[str] = set()
    for series in study.series:
        is_shown = _decide(of_series, study, series, now, since) is Effect.SHOW
        (shown if is_shown else hidden).add(series.uid)
    if study.series and not shown:
        return HIDDEN  # A study of which nothing is left is not shown as an empty one.
    # A UID that stands twice is shown only if both may be. Without any series nobody knows what
    # there is.
    is_complete = bool(shown) and not hidden
    return Visible(frozenset(shown - hidden), is_complete, max(since, default=None))


def _decide(
    rules: Iterable[Rule],
    study: DescribedStudy,
    series: DescribedSeries | None,
    now: float,
    since: list[float],
) -> Effect:
    """Return what is done with the study, or with a series of it.

    The ends of holds that are over are added to ``since``.
    """
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
    applies = [holds(rule.study, study.attributes)]
    if series is not None:
        applies.append(holds(rule.series, series.attributes))
    if False in applies:
        return False
    return None not in applies or (rule.unknown_applies and rule.effect is not Effect.SHOW)


def _matches(keyword: str, pattern: str, value: str) -> bool:
    if keyword == "StudyDate":
        return _is_in_range(pattern, value)
    return matches(without_case(pattern), without_case(value))


def _date(value: str) -> str | None:
    """Return ``YYYYMMDD``, ``None`` for what is no date: then it is unknown."""
    date = value.replace(".", "")
    return date if len(date) == 8 and date.isdigit() and date.isascii() else None


def _is_in_range(pattern: str, date: str) -> bool:
    first, hyphen, last = pattern.partition("-")
    if not hyphen:
        last = first
    return (first or date) <= date <= (last or date)


_STAND_IN = DescribedStudy({}, (DescribedSeries("", {}),))


def visibility(
    permit: PatientPermit, studies: Sequence[DescribedStudy], now: float
) -> Visible | Hidden:
    """Return what the caller may see of the studies under one UID; ``now`` in seconds since 1970.

    Each must be visible, and of the series those that are so in each.
    """
    return _visibility(permit.paths, studies, now, needs_verdict=permit.caller is not None)


def is_hidden_anyway(permit: PatientPermit, studies: Sequence[DescribedStudy], now: float) -> bool:
    """Return whether nothing is visible whatever the external policy says: it is not asked."""
    return isinstance(_visibility(permit.paths, studies, now, needs_verdict=False), Hidden)


def _visibility(
    paths: Sequence[GrantPath],
    studies: Sequence[DescribedStudy],
    now: float,
    *,
    needs_verdict: bool,
) -> Visible | Hidden:
    # A study that is not there takes as long as one that is hidden (SIA-45).
    decided = [
        _by_any_path(paths, study, now, needs_verdict=needs_verdict)
        for study in studies or (_STAND_IN,)
    ]
    seen = [left for left in decided if isinstance(left, Visible)]
    if not studies or len(seen) < len(decided):
        return HIDDEN
    limits = [visible.series for visible in seen if visible.series is not ALL_SERIES]
    holds_ended = [visible.since for visible in seen if visible.since is not None]
    return Visible(
        series=frozenset.intersection(*limits) if limits else ALL_SERIES,
        is_complete=all(visible.is_complete for visible in seen),
        since=max(holds_ended, default=None),
    )


def _by_any_path(
    paths: Sequence[GrantPath], study: DescribedStudy, now: float, *, needs_verdict: bool
) -> Visible | Hidden:
    """Return what is visible by the path that shows most of it; two paths are not added up."""
    best: Visible | Hidden = HIDDEN
    for path in paths:
        if path.constraint is not None and path.constraint not in study.satisfies:
            continue
        if holds(path.studies, study.attributes) is not True:
            continue
        seen = visible_by_rules(path.rules, study, now)
        if needs_verdict:
            seen = _with_verdict(seen, study, path.context)
        if isinstance(seen, Visible) and (isinstance(best, Hidden) or _rank(seen) > _rank(best)):
            best = seen
    return best


def _with_verdict(seen: Visible | Hidden, study: DescribedStudy, context: str) -> Visible | Hidden:
    """Return what the external policy leaves.

    It takes away, and without its verdict nothing is left (SIA-16).
    """
    verdict = study.verdicts.get(context)
    if isinstance(seen, Hidden) or verdict is None or not verdict.allow:
        return HIDDEN
    known = frozenset(series.uid for series in study.series)
    left = (known if seen.series is ALL_SERIES else seen.series & known) - verdict.exclude_series
    if known and not left:
        return HIDDEN
    return Visible(left, left == known, seen.since)


def _rank(seen: Visible) -> tuple[bool, int]:
    return seen.is_complete, 0 if seen.series is ALL_SERIES else len(seen.series)

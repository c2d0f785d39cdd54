"""FHIR dates: what a search value means (https://hl7.org/fhir/R4/search.html#date), and DICOM DA/TM -> dateTime.

A value of any precision is the span [start, end) of instants that it covers.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from sidecar.common.errors import BadRequest

_PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
_DATE = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    # A "+" that a client forgot to encode arrives as a space.
    r"(?P<zone>Z|[+ -][0-9]{2}:[0-9]{2})?)?)?)?",
    re.ASCII,
)
_DA = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})|([0-9]{4})\.([0-9]{2})\.([0-9]{2})", re.ASCII)
_TM = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?", re.ASCII)
_OFFSET = re.compile(r"([+-])([0-9]{2})([0-9]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The instants from ``start`` to before ``end``, both with time zone."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class DateFilter:
    """One date search value: a prefix and the span that its text covers."""

    prefix: str
    span: Span

    def matches(self, value: Span) -> bool:
        """Whether a resource's value passes (R4 search.html, "prefixes")."""
        mine = self.span
        match self.prefix:
            case "eq":
                return mine.start <= value.start and value.end <= mine.end
            case "ne":
                return not (mine.start <= value.start and value.end <= mine.end)
            case "gt":
                return value.end > mine.end
            case "lt":
                return value.start < mine.start
            case "ge":
                return value.end > mine.end or mine.start <= value.start
            case "le":
                return value.start < mine.start or value.end <= mine.end
            case "sa":
                return value.start >= mine.end
            case "eb":
                return value.end <= mine.start
        margin = abs(datetime.now(UTC) - mine.start) / 10  # ap: R4 recommends 10 % of the distance to now.
        return value.start < mine.end + margin and value.end > mine.start - margin


def parse_date_filter(text: str, zone: tzinfo) -> DateFilter:
    """Return the filter of a search value such as ``gt2023-04-17T04:00:00Z``.

    A time without zone is in ``zone``, the site's. Raises ``BadRequest``.
    """
    match = _DATE.fullmatch(text)
    if match is None or (match["prefix"] or "eq") not in _PREFIXES:
        raise _bad_date()
    try:
        return DateFilter(match["prefix"] or "eq", _span(match, zone))
    except (ValueError, OverflowError):
        raise _bad_date() from None


def _bad_date() -> BadRequest:
    return BadRequest("A date parameter is not a FHIR date such as ge2023-04-17 or gt2023-04-17T04:00:00Z.",
                      reason="bad_date")  # fmt: skip


def _span(match: "re.Match[str]", zone: tzinfo) -> Span:
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    if match["hour"] is None:
        start = datetime(year, month, day, tzinfo=zone)
        if match["day"]:
            return Span(start, _midnight_after(start))
        if match["month"]:
            return Span(start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone))
        return Span(start, datetime(year + 1, 1, 1, tzinfo=zone))
    fraction = (match["fraction"] or "")[:6]
    start = datetime(
        year, month, day, int(match["hour"]), int(match["minute"]), int(match["second"] or 0),
        int(fraction.ljust(6, "0")) if fraction else 0, tzinfo=_zone(match["zone"], zone),
    )  # fmt: skip
    if fraction:
        step = timedelta(microseconds=10 ** (6 - len(fraction)))
    else:
        step = timedelta(seconds=1) if match["second"] else timedelta(minutes=1)
    return Span(start, start + step)


def _midnight_after(start: datetime) -> datetime:
    following = start.replace(tzinfo=None) + timedelta(days=1)
    return following.replace(tzinfo=start.tzinfo)  # Days in a zone with summer time are not all 24 h long.


def _zone(text: str | None, zone: tzinfo) -> tzinfo:
    if text is None:
        return zone
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def dicom_offset(text: str | None) -> tzinfo | None:
    """The zone of a TimezoneOffsetFromUTC (``-0500``), ``None`` for a missing or senseless one (PS3.3 C.12.1.1.8)."""
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if int(match[3]) > 59 or offset > timedelta(hours=14):
        return None
    return timezone(-offset if match[1] == "-" else offset)


@dataclass(frozen=True, slots=True)
class Started:
    """A moment or a day: ``text`` is the FHIR dateTime, ``span`` what it covers."""

    text: str
    span: Span


def started(date: str | None, time: str | None, zone: tzinfo | None) -> Started | None:
    """Return DICOM date + time as a FHIR dateTime; ``None`` without a usable date.

    Without a usable time, or without a ``zone`` (a FHIR time must have one, and none is invented), it is the day alone.
    """
    day = _DA.fullmatch(date or "")
    if day is None:
        return None
    year, month, dayofmonth = (int(part) for part in day.groups() if part is not None)
    clock = _TM.fullmatch(time or "")
    try:
        midnight = datetime(year, month, dayofmonth, tzinfo=zone or UTC)
        whole_day = Started(midnight.date().isoformat(), Span(midnight, _midnight_after(midnight)))
    except (ValueError, OverflowError):
        return None
    if zone is None or clock is None or clock[2] is None:  # An hour without minutes cannot be written in FHIR.
        return whole_day
    try:
        # A leap second (60) is written as the last one before it.
        moment = midnight.replace(hour=int(clock[1]), minute=int(clock[2]), second=min(59, int(clock[3] or 0)))
        return Started(moment.isoformat(timespec="seconds"), Span(moment, moment + timedelta(seconds=1)))
    except (ValueError, OverflowError):
        return whole_day

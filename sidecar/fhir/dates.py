"""FHIR dates of searches, and DICOM DA and TM as FHIR dateTime.

A value of any precision is the span [start, end) of instants that it covers
(https://hl7.org/fhir/R4/search.html#date).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from sidecar.common.errors import BadRequest

_PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
_DATE = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?P<time>T(?:[01][0-9]|2[0-3]):[0-9]{2}(?P<second>:[0-9]{2}(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    # A "+" that a client forgot to encode arrives as a space.
    r"(?:Z|[+ -](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))?)?)?)?",
    re.ASCII,
)
_DA = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})", re.ASCII)
_TM = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?", re.ASCII)
_OFFSET = re.compile(r"[+-](?:(?:0[0-9]|1[0-3])[0-5][0-9]|1400)", re.ASCII)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Instants from ``start`` to before ``end``, both with time zone."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class DateFilter:
    """Date search value: a prefix and the span that its text covers."""

    prefix: str
    span: DateRange

    def matches(self, value: DateRange) -> bool:
        """Return whether a resource's value passes (R4 search.html, "prefixes")."""
        start, end = self.span.start, self.span.end
        match self.prefix:
            case "eq":
                return start <= value.start and value.end <= end
            case "ne":
                return not (start <= value.start and value.end <= end)
            case "gt":
                return value.end > end
            case "lt":
                return value.start < start
            case "ge":
                return value.end > end or start <= value.start
            case "le":
                return value.start < start or value.end <= end
            case "sa":
                return value.start >= end
            case "eb":
                return value.end <= start
        # ap: R4 recommends 10 % of the distance to now.
        margin = abs(datetime.now(UTC) - start) / 10
        return value.start < _shifted(end, margin) and value.end > _shifted(start, -margin)


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
    return BadRequest(
        "A date parameter is not a FHIR date such as ge2023-04-17 or gt2023-04-17T04:00:00Z.",
        reason="bad_date",
    )


def _span(match: "re.Match[str]", zone: tzinfo) -> DateRange:
    if match["time"]:
        text = match[0].removeprefix(match["prefix"] or "").replace(" ", "+")
        start = datetime.fromisoformat(text)
        start = start if start.tzinfo else start.replace(tzinfo=zone)
        if fraction := match["fraction"]:
            return _from(start, timedelta(microseconds=10 ** max(0, 6 - len(fraction))))
        return _from(start, timedelta(seconds=1) if match["second"] else timedelta(minutes=1))
    year, month, day = (int(match[name] or 1) for name in ("year", "month", "day"))
    start = datetime(year, month, day, tzinfo=zone)
    if match["day"]:
        return _day(start)
    if match["month"]:
        return DateRange(_utc(start), _first_of(year + month // 12, month % 12 + 1, zone))
    return DateRange(_utc(start), _first_of(year + 1, 1, zone))


# Spans are kept in UTC: steps there are as long as they are named, whatever the clocks of a zone do
# meanwhile. Python's years end at 9999; what would lie beyond ends there, too.


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if moment.year < 5_000 else _LATEST


def _shifted(moment: datetime, step: timedelta) -> datetime:
    try:
        return moment + step
    except OverflowError:
        return _EARLIEST if step < timedelta(0) else _LATEST


def _from(start: datetime, step: timedelta) -> DateRange:
    return DateRange(_utc(start), _shifted(_utc(start), step))


def _first_of(year: int, month: int, zone: tzinfo) -> datetime:
    return _LATEST if year > 9_999 else _utc(datetime(year, month, 1, tzinfo=zone))


def _day(start: datetime) -> DateRange:
    """Return the span from midnight to midnight; with summer time that is not always 24 hours."""
    following = _shifted(start.replace(tzinfo=UTC), timedelta(days=1))
    end = _LATEST if following == _LATEST else _utc(following.replace(tzinfo=start.tzinfo))
    return DateRange(_utc(start), end)


def dicom_offset(text: str | None) -> tzinfo | None:
    """Return the zone of a TimezoneOffsetFromUTC such as ``-0500`` (PS3.3 C.12.1.1.8).

    ``None`` for a missing or malformed one.
    """
    if not text or not _OFFSET.fullmatch(text):
        return None
    return datetime.fromisoformat(f"2000-01-01T00:00{text[:3]}:{text[3:]}").tzinfo


@dataclass(frozen=True, slots=True)
class Started:
    """Moment or day: ``text`` is the FHIR dateTime, ``span`` what it covers."""

    text: str
    span: DateRange


def started(
    date: str | None, time: str | None, zone: tzinfo | None, *, site: tzinfo = UTC
) -> Started | None:
    """Return DICOM date and time as a FHIR dateTime; ``None`` without a usable date.

    Without a usable time or a ``zone`` (a FHIR time must have one) it is the day alone, which
    covers the day of the ``site``, as a search for it does.
    """
    day = _DA.fullmatch(date or "")
    if day is None:
        return None
    try:
        midnight = datetime(int(day[1]), int(day[3]), int(day[4]), tzinfo=site)
    except ValueError:
        return None
    moment = None if zone is None else _moment(midnight.replace(tzinfo=zone), time or "")
    if moment is None:
        return Started(midnight.date().isoformat(), _day(midnight))
    return Started(moment.isoformat(timespec="seconds"), _from(moment, timedelta(seconds=1)))


def _moment(midnight: datetime, time: str) -> datetime | None:
    """Return the time of that day; ``None`` when FHIR cannot express it."""
    clock = _TM.fullmatch(time)
    if clock is None or clock[2] is None:  # An hour without minutes cannot be written in FHIR.
        return None
    second = int(clock[3] or 0)
    try:
        # A leap second (60) is written as the last one before it.
        moment = midnight.replace(
            hour=int(clock[1]), minute=int(clock[2]), second=59 if second == 60 else second
        )
        offset = moment.utcoffset() or timedelta(0)
    except (ValueError, OverflowError):
        return None
    # Before there were time zones, local mean time had odd seconds, which a dateTime cannot have.
    return None if offset % timedelta(minutes=1) else moment

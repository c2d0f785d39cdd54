"""FHIR R4 Periods, and whether now is in one (https://hl7.org/fhir/R4/datatypes.html#Period)."""

import re
from collections.abc import Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta, timezone

_DATE_TIME = re.compile(
    r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"(?P<time>T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?",
    re.ASCII,
)
_EARLIEST_ZONE = timezone(timedelta(hours=14))
"""Time zone of dates: where a day begins and ends first.

What has begun somewhere has begun, and what is over somewhere is over.
"""


def is_current(period: object, now: datetime) -> bool:
    """Return whether ``now`` (with a time zone) is in ``period``, a value as it came in JSON.

    No period (``None``) bounds nothing. Bounds are inclusive in their precision: ``2024`` ends with
    that year. A Period that is unreadable, or whose end is missing for a reason (``_end``), holds
    at no time.
    """
    if period is None:
        return True
    if not isinstance(period, Mapping) or ("_end" in period and "end" not in period):
        return False
    try:
        has_begun = "start" not in period or _bounds(period["start"])[0] <= now
        return has_begun and ("end" not in period or now < _bounds(period["end"])[1])
    except ValueError:
        return False


def _bounds(value: object) -> tuple[datetime, datetime]:
    """Return when a FHIR dateTime begins and ends. Raises ``ValueError`` for any other value."""
    match = _DATE_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a dateTime")
    if match["time"]:
        moment = datetime.fromisoformat(match[0])
        return moment, moment
    year, month, day = (int(match[name] or 1) for name in ("year", "month", "day"))
    start = datetime(year, month, day, tzinfo=_EARLIEST_ZONE)
    if year == MAXYEAR:  # It means "for ever". No later date exists to compare with.
        return start, datetime.max.replace(tzinfo=UTC)
    if match["day"]:
        return start, start + timedelta(days=1)
    following = (year + 1, 1) if not match["month"] or month == 12 else (year, month + 1)
    return start, datetime(*following, 1, tzinfo=_EARLIEST_ZONE)

"""Date search values (https://hl7.org/fhir/R4/search.html#date): what they cover, and what passes
each prefix.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest
from sidecar.fhir.dates import DateFilter, DateRange, parse_date_filter

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    UTC,
    timezone(timedelta(hours=5, minutes=30)),
    timezone(-timedelta(hours=11)),
    BERLIN,
    ZoneInfo("America/New_York"),
    ZoneInfo("Australia/Lord_Howe"),
    ZoneInfo("America/Havana"),
]
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
BASE = datetime(2024, 2, 29, tzinfo=UTC)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LINE = 12
"""The prefixes are tried on a line of so many days."""


def span(start: int, end: int) -> DateRange:
    return DateRange(BASE + timedelta(days=start), BASE + timedelta(days=end))


spans = st.tuples(st.integers(0, LINE - 1), st.integers(1, LINE)).filter(
    lambda pair: pair[0] < pair[1]
)


def passes(prefix: str, searched: set[int], target: set[int]) -> bool:
    """R4's words on prefixes, as sets of days: contains, overlaps, the range above and the range
    below.
    """
    above = {day for day in range(LINE) if day > max(searched)}
    below = {day for day in range(LINE) if day < min(searched)}
    contained = target <= searched
    apart = not target & searched
    return {
        "eq": contained,
        "ne": not contained,
        "gt": bool(above & target),
        "lt": bool(below & target),
        "ge": bool(above & target) or contained,
        "le": bool(below & target) or contained,
        "sa": apart and target <= above,
        "eb": apart and target <= below,
    }[prefix]


@given(st.sampled_from(PREFIXES[:-1]), spans, spans)
def test_prefixes_mean_what_r4_says(
    prefix: str, searched: tuple[int, int], target: tuple[int, int]
) -> None:
    expected = passes(prefix, set(range(*searched)), set(range(*target)))
    assert DateFilter(prefix, span(*searched)).matches(span(*target)) is expected


@given(st.integers(100, 4_000), st.booleans())
def test_about_is_within_a_tenth_of_the_distance_to_now(days: int, later: bool) -> None:
    """R4 recommends 10 % of the gap between now and the date."""
    now = datetime.now(UTC)
    day = now - timedelta(days=days)
    about = DateFilter("ap", DateRange(day, day + timedelta(minutes=1)))
    for share, expected in ((0.08, True), (0.12, False)):
        moved = day + timedelta(days=days * share) * (1 if later else -1)
        assert about.matches(DateRange(moved, moved + timedelta(minutes=1))) is expected


@pytest.mark.parametrize("text", ["ap9998", "ap9500", "ap0150", "ap0001-01-01"])
def test_about_a_far_year_is_no_failure(text: str) -> None:
    """Any client may send it."""
    about = parse_date_filter(text, UTC)
    for moment in (BASE, FIRST):
        assert about.matches(DateRange(moment, moment + timedelta(seconds=1))) in (True, False)


def written(moment: datetime, form: str) -> str:
    """``moment`` as a date search value; strftime does not pad years."""
    return moment.strftime(form.replace("%Y", f"{moment.year:04d}"))


FORMS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f")
TICK = timedelta(microseconds=1)
moments = st.integers(0, 2**52).map(lambda ticks: datetime(1900, 1, 2, tzinfo=UTC) + ticks * TICK)


def plain(moment: datetime, zone: tzinfo) -> bool:
    """Whether the clock of ``zone`` shows the hours around ``moment`` once each: it is not being
    changed.
    """
    hours = [(moment + timedelta(hours=hour)).astimezone(zone).utcoffset() for hour in (-2, 0, 2)]
    return len(set(hours)) == 1


@given(moments, st.sampled_from(FORMS), st.sampled_from(ZONES), st.data())
def test_a_value_covers_just_the_moments_that_are_written_like_it(
    moment: datetime, form: str, zone: tzinfo, data: st.DataObject
) -> None:
    """A moment is in the span if and only if the site's clock shows it with the same text."""
    if "T" in form and not plain(moment, zone):
        return  # "02:30" may be twice a day or never: no text tells which.
    text = written(moment.astimezone(zone), form)
    covered = parse_date_filter(text, zone).span
    start, end = covered.start.astimezone(UTC), covered.end.astimezone(UTC)
    near = data.draw(moments)
    assert start <= moment < end
    for other in (start - TICK, start, end - TICK, end, near):
        assert (start <= other < end) is (written(other.astimezone(zone), form) == text), other


@given(moments, st.sampled_from(FORMS[3:]), st.integers(-14 * 60, 14 * 60))
def test_a_zone_in_the_value_wins(moment: datetime, form: str, minutes: int) -> None:
    """``+`` may arrive as a space: a client that forgot to encode it."""
    text = written(moment.astimezone(timezone(timedelta(minutes=minutes))), form)
    hours, rest = divmod(abs(minutes), 60)
    encoded = f"{text}{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}"
    found = parse_date_filter(encoded, BERLIN).span
    assert found.start <= moment < found.end
    assert parse_date_filter(encoded.replace("+", " "), BERLIN).span == found
    if minutes == 0:
        assert parse_date_filter(text + "Z", BERLIN).span == found


@given(st.sampled_from(PREFIXES), moments, st.sampled_from(FORMS))
def test_a_prefix_changes_nothing_of_what_is_covered(
    prefix: str, moment: datetime, form: str
) -> None:
    plain_filter = parse_date_filter(written(moment, form), UTC)
    assert plain_filter.prefix == "eq"
    assert parse_date_filter(prefix + written(moment, form), UTC) == DateFilter(
        prefix, plain_filter.span
    )


@pytest.mark.parametrize(
    ("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-02-29", 24)]
)
def test_days_of_a_zone_with_summer_time(day: str, hours: int) -> None:
    found = parse_date_filter(day, BERLIN).span
    assert found.end.astimezone(UTC) - found.start.astimezone(UTC) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2024-10-27T02:59", 60), ("2024-10-27T02:59:59", 1)]
)
def test_the_last_minute_before_the_clock_goes_back(text: str, seconds: int) -> None:
    """It is as long as any other: 02:59 is over when the clock jumps to 02:00."""
    found = parse_date_filter(text, BERLIN).span
    assert found.end.astimezone(UTC) - found.start.astimezone(UTC) == timedelta(seconds=seconds)


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize(
    "text", ["0001", "0001-01", "0001-01-01", "0001-01-01T00:00", "0001-01-01T00:00:00.000Z"]
)
def test_the_first_year(text: str, zone: tzinfo) -> None:
    """Clients write it for "ever"."""
    assert parse_date_filter("ge" + text, zone).matches(span(0, 1))
    assert not parse_date_filter("lt" + text, zone).matches(span(0, 1))
    assert not parse_date_filter("lt0002", UTC).matches(DateRange(BASE, BASE))
    assert parse_date_filter("lt0002", zone).matches(DateRange(FIRST, FIRST + timedelta(days=1)))


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize(
    "text", ["9998", "9998-12", "9999-11", "9999-12-30", "9999-12-31T23:58", "9999-12-31T23:00Z"]
)
def test_the_last_years(text: str, zone: tzinfo) -> None:
    """Clients write them for "open end"."""
    assert parse_date_filter("le" + text, zone).matches(span(0, 1))
    assert not parse_date_filter("gt" + text, zone).matches(span(0, 1))


@pytest.mark.parametrize(
    "text", ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59", "9999-12-31T23:59:59Z"]
)
def test_the_very_end(text: str) -> None:
    """The usual "open end" is a FHIR date like others."""
    assert parse_date_filter("le" + text, UTC).matches(span(0, 1))


REFUSED = [
    "",
    " ",
    "eq",
    "2024-",
    "2024-2",
    "2024-02-",
    "2024-2-9",
    "24",
    "202",
    "20240",
    "02024",
    "20240229",
    "2024.02.29",
    "2024/02/29",
    "2024-00",
    "2024-13",
    "2024-02-00",
    "2024-02-30",
    "2023-02-29",
    "1900-02-29",
    "0000",
    "0000-01-01",
    "2024-02-29T",
    "2024-02-29T10",
    "2024-02-29T10:1",
    "2024-02-29T10:60",
    "2024-02-29T24:00",
    "2024-02-29T10:11:",
    "2024-02-29T10:11:61",
    "2024-02-29T10:11:12.",
    "2024-02-29 10:11",
    "2024-02-29t10:11",
    "2024-02-29T10:11z",
    "2024-02-29Z",
    "2024-02Z",
    "2024-02-29+01:00",
    "2024-02-29T10:11+1",
    "2024-02-29T10:11+01",
    "2024-02-29T10:11+0100",
    "2024-02-29T10:11+24:00",
    "2024-02-29T10:11:12.1234567890",
    "GT2024",
    "Ge2024",
    "gt 2024",
    " gt2024",
    "gt2024 ",
    "xx2024",
    "gtlt2024",
    "gt",
    ">2024",
    "not2024",
    "2024\n",
    "\u0662\u0660\u0662\u0664",
    "２０２４",
    "2024-02-29\u202f",
    "+2024",
    "-2024",
    "now",
    "null",
    "2024-W09",
]


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_what_is_no_fhir_date_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="bad_date"):
        parse_date_filter(text, UTC)


@pytest.mark.parametrize(
    "text", ["2024-02-29T10:11+05:99", "2024-02-29T10:11-15:00", "2024-02-29T10:11+14:01"]
)
def test_a_zone_that_no_fhir_date_has_is_refused(text: str) -> None:
    """https://hl7.org/fhir/R4/datatypes.html#dateTime: up to 14:00, minutes below 60."""
    with pytest.raises(BadRequest, match="bad_date"):
        parse_date_filter(text, UTC)


near_dates = st.from_regex(
    re.compile(r"([a-z]{2})?[0-9]{4}(-[0-9]{2}){0,3}(T[0-9]{2}(:[0-9]{2}){0,3})?([Z+ .-].*)?")
)


@given(
    st.text() | near_dates | st.text(alphabet="0123456789-:TZ+. egltnsapb"), st.sampled_from(ZONES)
)
def test_any_text_is_a_filter_or_refused(text: str, zone: tzinfo) -> None:
    """And no filter fails on any moment."""
    try:
        found = parse_date_filter(text, zone)
    except BadRequest:
        return
    assert found.span.start.tzinfo is not None
    for year in (1, 1970, 2024, 9999):
        moment = datetime(year, 6, 1, tzinfo=zone)
        assert found.matches(DateRange(moment, moment + timedelta(seconds=1))) in (True, False)

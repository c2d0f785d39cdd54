"""DICOM date and time -> when a study began (SIA-30 ``started``; PS3.5 6.2 DA and TM)."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.dates import Started, dicom_offset, parse_date_filter, started

BERLIN = ZoneInfo("Europe/Berlin")
WINTER = timezone(timedelta(hours=1))
EASTERN = timezone(-timedelta(hours=5))
DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))?",
    re.ASCII,
)

# date, time, zone, dateTime
WRITTEN: list[tuple[str | None, str | None, tzinfo | None, str | None]] = [
    ("20240229", "091500", WINTER, "2024-02-29T09:15:00+01:00"),
    ("20240229", "091500.123456", WINTER, "2024-02-29T09:15:00+01:00"),
    ("20240229", "132645.921000", EASTERN, "2024-02-29T13:26:45-05:00"),
    ("20240229", "1011", WINTER, "2024-02-29T10:11:00+01:00"),
    ("20240229", "000000", UTC, "2024-02-29T00:00:00+00:00"),
    ("20240229", "235960", UTC, "2024-02-29T23:59:59+00:00"),
    ("1997.04.24", "14:04:38", UTC, "1997-04-24T14:04:38+00:00"),
    ("1997.04.24", "14:04", UTC, "1997-04-24T14:04:00+00:00"),
    ("20240731", "091500", BERLIN, "2024-07-31T09:15:00+02:00"),
    ("20240131", "091500", BERLIN, "2024-01-31T09:15:00+01:00"),
    # the day alone: no zone, or no usable time
    ("20240229", "091500", None, "2024-02-29"),
    ("1997.04.24", "14:04:38", None, "1997-04-24"),
    *(
        ("20240229", odd, WINTER, "2024-02-29")
        for odd in (
            None,
            "",
            "10",
            "9:15",
            "1",
            "101",
            "10111",
            "240000",
            "106000",
            "noon",
            "10-11-12",
            "101112.",
            "101112,5",
            "1011-1200",
            "101112+0100",
            "١٠١١",
        )
    ),
    # nothing: no usable date
    *(
        (odd, "091500", WINTER, None)
        for odd in (
            None,
            "",
            "2024",
            "202402",
            "2024022",
            "202402290",
            "20240230",
            "20230229",
            "20241301",
            "20240001",
            "00000000",
            "00000101",
            "2024-02-29",
            "2024/02/29",
            "2024.0229",
            "24.02.29",
            "20240229-20240301",
            "today",
            "٢٠٢٤٠٢٢٩",
            "20240229 ",
            "\n20240229",
        )
    ),
]


@pytest.mark.parametrize(("day", "clock", "zone", "expected"), WRITTEN, ids=ascii)
def test_dates_as_archives_write_them(
    day: str | None, clock: str | None, zone: tzinfo | None, expected: str | None
) -> None:
    """A time zone is never invented, and an odd time costs no more than the time."""
    found = started(day, clock, zone)
    assert (found.text if found else None) == expected


@pytest.mark.parametrize("clock", ["101161", "101175", "101199"])
def test_a_second_that_no_clock_shows_is_no_time(clock: str) -> None:
    """60 may be a leap second; 75 is an odd time: the day alone."""
    found = started("20240229", clock, WINTER)
    assert found is not None
    assert found.text == "2024-02-29"


@pytest.mark.parametrize(
    ("day", "zone"),
    [("19000101", "Europe/Paris"), ("18500101", "Europe/Berlin"), ("00010101", "America/New_York")],
)
def test_a_date_before_time_zones(day: str, zone: str) -> None:
    """Placeholders such as 19000101 are common; local mean time is +00:09:21, which no dateTime can
    say.
    """
    found = started(day, "101112", ZoneInfo(zone))
    assert found is not None
    assert DATE_TIME.fullmatch(found.text)


days = st.dates(date(1, 1, 1), date(9999, 12, 30))
clocks = st.times()
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def da(day: date) -> str:
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"


@given(days, clocks, offsets, st.sampled_from(["%H%M", "%H%M%S", "%H%M%S.%f", "%H:%M:%S"]))
def test_a_time_with_zone_comes_out_as_that_moment(
    day: date, clock: time, zone: timezone, form: str
) -> None:
    found = started(da(day), clock.strftime(form), zone)
    assert found is not None
    assert DATE_TIME.fullmatch(found.text)
    expected = datetime.combine(
        day, clock.replace(microsecond=0, second=0 if form == "%H%M" else clock.second), zone
    )
    assert datetime.fromisoformat(found.text) == expected == found.span.start
    assert found.span.end - found.span.start == timedelta(seconds=1)


@given(days, st.none() | offsets)
def test_a_day_comes_out_as_that_day(day: date, zone: timezone | None) -> None:
    found = started(da(day), None, None, site=zone or UTC)
    assert found is not None
    assert found.text == day.isoformat()
    assert found.span.start == datetime.combine(day, time(), zone or UTC)
    assert found.span.end - found.span.start == timedelta(days=1)


@pytest.mark.parametrize("day", ["00010101", "99991230", "99991231"])
@pytest.mark.parametrize(
    "zone", [None, UTC, BERLIN, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))]
)
def test_the_ends_of_time_are_no_failure(day: str, zone: tzinfo | None) -> None:
    assert isinstance(started(day, "235959", zone), Started | None)


def test_the_last_day_is_a_day() -> None:
    found = started("99991231", None, None)
    assert found is not None
    assert found.text == "9999-12-31"


texts = (
    st.text()
    | st.text(alphabet="0123456789.:+-", max_size=16)
    | st.from_regex(r"[0-9]{6,8}(\.[0-9]*)?")
)
zones = st.none() | offsets | st.just(BERLIN)


@given(st.none() | texts, st.none() | texts, zones)
def test_any_texts_are_a_start_or_none(
    day: str | None, clock: str | None, zone: tzinfo | None
) -> None:
    found = started(day, clock, zone)
    if found is not None:
        assert DATE_TIME.fullmatch(found.text)


def found_by_its_own_text(
    day: date, clock: time | None, offset: tzinfo | None, site: tzinfo | None
) -> bool:
    """Whether ``started=<what the resource says>`` finds it; dates without zone are in the site's
    zone.
    """
    found = started(
        da(day), clock.strftime("%H%M%S") if clock else None, offset or site, site=site or UTC
    )
    assert found is not None
    return parse_date_filter(found.text, site or UTC).matches(found.span)


@given(days, st.none() | clocks, st.none() | offsets)
def test_a_study_is_found_by_what_it_says(
    day: date, clock: time | None, site: timezone | None
) -> None:
    assert found_by_its_own_text(day, clock, None, site)


@given(days, st.none() | clocks, offsets, st.none() | offsets)
def test_a_study_with_own_zone_is_found_by_what_it_says(
    day: date, clock: time | None, offset: timezone, site: timezone | None
) -> None:
    """TimezoneOffsetFromUTC and no StudyTime: the text has no zone, so the study's own must not
    count either.
    """
    assert found_by_its_own_text(day, clock, offset, site)


def test_the_last_second_before_the_clock_goes_back() -> None:
    found = started("20241027", "025959", BERLIN)
    assert found is not None
    assert parse_date_filter(found.text, BERLIN).matches(found.span)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+0000", 0),
        ("-0000", 0),
        ("+0100", 60),
        ("-0500", -300),
        ("+0545", 345),
        ("+1400", 840),
        ("-1200", -720),
    ],
)
def test_offsets_of_studies(text: str, minutes: int) -> None:
    """TimezoneOffsetFromUTC (PS3.3 C.12.1.1.8)."""
    zone = dicom_offset(text)
    assert zone is not None
    assert zone.utcoffset(None) == timedelta(minutes=minutes)


SENSELESS = [
    None,
    "",
    "0100",
    "+1",
    "+01",
    "+01:00",
    "Z",
    "+1401",
    "+9900",
    "-1500",
    "+0160",
    " +0100",
    "+0100\n",
    "\u22120500",
    "+０１００",
    "Europe/Berlin",
]


@pytest.mark.parametrize("text", SENSELESS, ids=ascii)
def test_senseless_offsets_are_none(text: str | None) -> None:
    assert dicom_offset(text) is None


@given(st.text() | st.from_regex(r"\A[+-][0-9]{4}\Z"))
def test_any_offset_is_one_of_fhir_or_none(text: str) -> None:
    zone = dicom_offset(text)
    assert zone is None or abs(zone.utcoffset(None) or timedelta()) <= timedelta(hours=14)

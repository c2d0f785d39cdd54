"""Whether a FHIR Period holds now: what has not begun, is over, or cannot be read does not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.patients.validity import is_current

NOW = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)
PERIODS: list[tuple[Any, bool]] = [
    (None, True),
    ({}, True),
    ({"id": "x", "extension": []}, True),
    # Ends, inclusive in their precision.
    ({"end": "2023"}, False),
    ({"end": "2024"}, True),
    ({"end": "2024-04"}, False),
    ({"end": "2024-05"}, True),
    ({"end": "2023-12"}, False),
    ({"end": "2024-12"}, True),
    ({"end": "2024-05-16"}, False),
    ({"end": "2024-05-17"}, False),  # Over at UTC+14, where it is the 18th already.
    ({"end": "2024-05-18"}, True),
    ({"end": "2024-05-17T11:59:59Z"}, False),
    ({"end": "2024-05-17T12:00:00Z"}, False),
    ({"end": "2024-05-17T12:00:00.001Z"}, True),
    ({"end": "2024-05-17T13:59:59+02:00"}, False),
    ({"end": "2024-05-17T14:00:01+02:00"}, True),
    ({"end": "9999"}, True),
    ({"end": "9999-12"}, True),
    ({"end": "9999-12-31"}, True),
    ({"end": "9999-12-31T23:59:59-14:00"}, True),
    ({"end": "9999-02-30"}, False),
    ({"start": "0001", "end": "0001-01-01"}, False),
    ({"start": "0001-01-01T00:00:00+14:00"}, True),
    # Beginnings.
    ({"start": "2025"}, False),
    ({"start": "2024"}, True),
    ({"start": "2024-06"}, False),
    ({"start": "2024-05"}, True),
    ({"start": "2024-05-17"}, True),
    ({"start": "2024-05-18"}, True),  # It has begun at UTC+14.
    ({"start": "2024-05-19"}, False),
    ({"start": "2024-05-17T12:00:00Z"}, True),
    ({"start": "2024-05-17T12:00:01Z"}, False),
    # Both.
    ({"start": "2020", "end": "2030"}, True),
    ({"start": "2020", "end": "2021"}, False),
    ({"start": "2030", "end": "2031"}, False),
    ({"start": "2030", "end": "2020"}, False),
    # What cannot be read, or is not known.
    ({"end": None}, False),
    ({"end": ""}, False),
    ({"end": "soon"}, False),
    ({"end": 2030}, False),
    ({"end": ["2030"]}, False),
    ({"end": "2030-13"}, False),
    ({"end": "2030-02-30"}, False),
    ({"end": "0000"}, False),
    ({"end": "2030-01-01T00:00Z"}, False),
    ({"end": "2030-01-01T00:00:00"}, False),
    ({"end": "2030-01-01T24:00:00Z"}, False),
    ({"end": " 2030"}, False),
    ({"end": "2030\n"}, False),
    ({"end": "\u0662\u0660\u0663\u0660"}, False),
    ({"start": "yesterday"}, False),
    ({"_end": {"extension": []}}, False),
    ({"end": "2030", "_end": {"extension": []}}, True),
    ([], False),
    ("2030", False),
    (False, False),
]


@pytest.mark.parametrize(("period", "wanted"), PERIODS, ids=lambda value: str(value)[:50])
def test_whether_it_holds(period: Any, wanted: bool) -> None:
    assert is_current(period, NOW) is wanted


MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS, MOMENTS, MOMENTS)
def test_dates_with_a_time_zone_are_compared_as_they_are(
    start: datetime, end: datetime, now: datetime
) -> None:
    period = {
        "start": start.isoformat(timespec="microseconds"),
        "end": end.isoformat(timespec="microseconds"),
    }
    assert is_current(period, now) is (start <= now < end)


@given(MOMENTS, st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d"]))
def test_a_date_that_is_over_somewhere_is_over(moment: datetime, precision: str) -> None:
    """At the latest when its last day ends at UTC, at the earliest 14 hours before that."""
    text = moment.strftime(precision).rjust(len(moment.strftime(precision)), "0")
    later = moment + timedelta(days={"%Y": 366, "%Y-%m": 31, "%Y-%m-%d": 1}[precision])
    assert not is_current({"end": text}, later)
    assert is_current({"end": text}, moment - timedelta(days=1))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["2030", "9999"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["start", "end", "_end"]), inner)
    ),
    max_leaves=6,
)


@given(JSON)
def test_any_value_holds_or_does_not(period: Any) -> None:
    """No failure; and what has an end that is no text does not hold."""
    found = is_current(period, NOW)
    if isinstance(period, dict) and not isinstance(period.get("end", ""), str):
        assert not found

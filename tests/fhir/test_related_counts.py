"""The archive's numbers of series and instances beside the rows that it lists."""

from typing import Any

import pytest

from sidecar.fhir.imaging_study import SeriesRows
from sidecar.fhir.related_counts import ATTRIBUTES, differing
from tests.fhir.rows import row

OF_STUDY, INSTANCES, OF_SERIES = ATTRIBUTES


def one_series(uid: str, stated: object = None, listed: int | None = None) -> SeriesRows:
    """A series that says how many instances it has, and has so many rows of them; ``None``: not
    asked for.
    """
    rows = (
        None
        if listed is None
        else [row(SOPInstanceUID=f"{uid}.{number}") for number in range(listed)]
    )
    return SeriesRows(row(SeriesInstanceUID=uid, NumberOfSeriesRelatedInstances=stated), rows)


CASES: dict[str, tuple[Any, Any, list[SeriesRows], list[str]]] = {
    "all agree": (2, 5, [one_series("1.1", 2, 2), one_series("1.2", 3, 3)], []),
    "nothing is said": (None, None, [one_series("1.1"), one_series("1.2", None, 3)], []),
    "no instances were asked for": (1, 5, [one_series("1.1", 5)], []),
    "no instances are listed": (1, 5, [one_series("1.1", 5, 0)], []),
    "a series too few": (2, None, [one_series("1.1")], [OF_STUDY]),
    "a series too many": (1, None, [one_series("1.1"), one_series("1.2")], [OF_STUDY]),
    "a series that comes twice": (1, None, [one_series("1.1"), one_series("1.1")], []),
    "no series": (2, 5, [], [OF_STUDY, INSTANCES]),
    "the series have others": (1, 5, [one_series("1.1", 4)], [INSTANCES]),
    "one series does not say": (2, 5, [one_series("1.1", 9), one_series("1.2")], []),
    "an instance too few": (1, 5, [one_series("1.1", 5, 4)], [INSTANCES, OF_SERIES]),
    "an instance too many": (1, 5, [one_series("1.1", 5, 6)], [INSTANCES, OF_SERIES]),
    "the study counts what is listed": (1, 4, [one_series("1.1", 5, 4)], [OF_SERIES]),
    "numbers that are none": ("many", -1, [one_series("1.1", "x", 4)], []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_disagrees_with_the_rows(case: str) -> None:
    of_study, instances, series, expected = CASES[case]
    study = row(
        StudyInstanceUID="1",
        NumberOfStudyRelatedSeries=of_study,
        NumberOfStudyRelatedInstances=instances,
    )
    assert differing(study, series) == expected

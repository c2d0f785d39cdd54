"""Comparison of an archive's numbers of series and instances with its rows (PS3.4 C.3.4)."""

from collections.abc import Sequence

from sidecar.dicom.json_model import Row, number, text
from sidecar.fhir.imaging_study import SeriesRows

ATTRIBUTES = (
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)


def differing(row: Row, series: Sequence[SeriesRows]) -> list[str]:
    """Return those ``ATTRIBUTES`` that disagree with the rows of the study and all its ``series``.

    Numbers that the archive lacks, and instances that were not listed, disagree with nothing.
    """
    listed = [
        _distinct(each.instances, "SOPInstanceUID") if each.instances else None for each in series
    ]
    stated = [number(each.row, "NumberOfSeriesRelatedInstances") for each in series]
    known = [theirs if ours is None else ours for ours, theirs in zip(listed, stated, strict=True)]
    found = {
        "NumberOfStudyRelatedSeries": _distinct([each.row for each in series], "SeriesInstanceUID"),
        "NumberOfStudyRelatedInstances": None if None in known else sum(filter(None, known)),
    }
    names = [name for name, count in found.items() if _differ(number(row, name), count)]
    if any(map(_differ, stated, listed)):
        names.append("NumberOfSeriesRelatedInstances")
    return names


def _differ(stated: int | None, listed: int | None) -> bool:
    return None not in (stated, listed) and stated != listed


def _distinct(rows: Sequence[Row], keyword: str) -> int:
    return len({text(row, keyword) for row in rows})

"""Whether an archive's own numbers of series and instances are those of the rows that it lists (PS3.4 C.3.4)."""

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

    What the archive does not say, and instances that were not listed, disagree with nothing.
    """
    listed = [
        _distinct(one.instances, "SOPInstanceUID") if one.instances else None for one in series
    ]
    stated = [number(one.row, "NumberOfSeriesRelatedInstances") for one in series]
    known = [theirs if ours is None else ours for ours, theirs in zip(listed, stated, strict=True)]
    found = {
        "NumberOfStudyRelatedSeries": _distinct([one.row for one in series], "SeriesInstanceUID"),
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

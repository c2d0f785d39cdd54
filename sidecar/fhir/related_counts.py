"""Whether an archive's own numbers of series and instances are those of the rows that it lists (PS3.4 C.3.4)."""

from collections.abc import Iterable, Sequence

from sidecar.dicom.json_model import Row, number, text
from sidecar.fhir.imaging_study import SeriesRows

ATTRIBUTES = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")


def differing(row: Row, series: Iterable[SeriesRows]) -> list[str]:
    """Return those ``ATTRIBUTES`` that disagree with the rows of the study and all its ``series``.

    What the archive does not say, and instances that were not listed, disagree with nothing.
    """
    some = list(series)
    listed = [None if not one.instances else _different(one.instances, "SOPInstanceUID") for one in some]
    stated = [number(one.row, "NumberOfSeriesRelatedInstances") for one in some]
    known = [ours if ours is not None else theirs for ours, theirs in zip(listed, stated, strict=True)]
    pairs: dict[str, list[tuple[int | None, int | None]]] = {
        "NumberOfStudyRelatedSeries": [
            (number(row, "NumberOfStudyRelatedSeries"), _different([one.row for one in some], "SeriesInstanceUID"))
        ],
        "NumberOfStudyRelatedInstances": [
            (number(row, "NumberOfStudyRelatedInstances"), None if None in known else sum(one or 0 for one in known))
        ],
        "NumberOfSeriesRelatedInstances": list(zip(stated, listed, strict=True)),
    }
    return [name for name in ATTRIBUTES if any(None not in (a, b) and a != b for a, b in pairs[name])]


def _different(rows: Sequence[Row], keyword: str) -> int:
    return len({text(row, keyword) for row in rows})

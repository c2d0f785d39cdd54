"""Describe a study for the decision by its QIDO-RS rows, and take out of rows what is hidden."""

import marshal
from collections.abc import Iterable, Sequence
from typing import Any

from sidecar.access.facts import DescribedSeries, DescribedStudy
from sidecar.access.permits import includes
from sidecar.access.visibility import Visible
from sidecar.authorization.scope_constraints import Constraints
from sidecar.dicom.character_sets import with_known_texts
from sidecar.dicom.json_model import Row, changed, number, tag, tags, text, texts
from sidecar.fhir.imaging_study import Site, study_started

STUDY_KEYWORDS = (
    "AccessionNumber",
    "ConfidentialityCode",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "ModalitiesInStudy",
    "RequestingService",
    "StudyDate",
    "StudyDescription",
    "StudyID",
)
"""What rules and clients may name of a study."""
SERIES_KEYWORDS = (
    "BodyPartExamined",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "Modality",
    "ProtocolName",
    "SeriesDescription",
    "SeriesNumber",
    "StationName",
)
"""What rules may name of a series."""

SUMS_OF_A_STUDY = tags(
    "ModalitiesInStudy",
    "SOPClassesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
"""Attributes of a study's row that sum up all its series."""


def described(
    row: Row,
    series: Sequence[Row],
    site: Site,
    constraints: Constraints,
    wanted: Iterable[str] = (),
) -> DescribedStudy:
    """Describe the study of this row.

    ``wanted``: constraints that it is compared with. A text that may have lost characters has no
    value here: neither a rule nor a constraint is met by it.
    """
    row, series = with_known_texts(row), [with_known_texts(series_row) for series_row in series]
    attributes = _attributes(row, STUDY_KEYWORDS)
    if "ModalitiesInStudy" not in attributes:
        gathered = tuple(
            dict.fromkeys(code for series_row in series for code in texts(series_row, "Modality"))
        )
        attributes |= {"ModalitiesInStudy": gathered} if gathered else {}
    began = study_started(row, site)
    return DescribedStudy(
        attributes,
        tuple(
            DescribedSeries(series_uid(series_row), _attributes(series_row, SERIES_KEYWORDS))
            for series_row in series
        ),
        started_by=began.span.end.timestamp() if began else None,
        satisfies=constraints.satisfied(wanted, row, series),
    )


def pack_facts(study: DescribedStudy) -> bytes:
    """Return the facts as bytes, which are no work for the garbage collector.

    They have no verdicts.
    """
    series = [(series.uid, series.attributes) for series in study.series]
    facts: Any = (study.attributes, series, study.started_by, study.satisfies)
    return marshal.dumps(facts)


def unpack_facts(facts: bytes) -> DescribedStudy:
    """Return the facts that ``pack_facts`` made these bytes of."""
    attributes, series, started_by, satisfies = marshal.loads(facts)  # noqa: S302 - our own bytes
    described_series = tuple([DescribedSeries(*each) for each in series])
    return DescribedStudy(attributes, described_series, started_by, satisfies)


def _attributes(row: Row, keywords: Iterable[str]) -> dict[str, tuple[str, ...]]:
    named = ((keyword, _names(row, keyword)) for keyword in keywords)
    return {keyword: values for keyword, values in named if values}


def _names(row: Row, keyword: str) -> tuple[str, ...]:
    """Return the values; several that stand in one text are taken apart."""
    if keyword == "SeriesNumber":  # IS: 5, +5, 05 and 5.0 are one number.
        series_number = number(row, keyword)
        return () if series_number is None else (str(series_number),)
    values = [part.strip() for value in texts(row, keyword) for part in value.split("\\")]
    return tuple(value for value in values if value)


def series_uid(row: Row) -> str:
    """Return the SeriesInstanceUID of a row, or an empty text."""
    return text(row, "SeriesInstanceUID") or ""


def shown_series(series: Iterable[Row], seen: Visible) -> list[Row]:
    """Return those of a study's series rows that may be seen."""
    return [row for row in series if includes(seen.series, series_uid(row))]


def without_hidden(row: Row, shown: Iterable[Row]) -> Row:
    """Return a study's row as if it had these series alone: counts and modalities are theirs."""
    series = list(shown)
    sums: dict[str, Any] = {}
    modalities = list(
        dict.fromkeys(code for series_row in series for code in texts(series_row, "Modality"))
    )
    if modalities:
        sums[tag("ModalitiesInStudy")] = {"vr": "CS", "Value": modalities}
    sums[tag("NumberOfStudyRelatedSeries")] = {"vr": "IS", "Value": [len(series)]}
    counts = [number(series_row, "NumberOfSeriesRelatedInstances") for series_row in series]
    if None not in counts:
        sums[tag("NumberOfStudyRelatedInstances")] = {
            "vr": "IS",
            "Value": [sum(count or 0 for count in counts)],
        }
    return changed(row, SUMS_OF_A_STUDY, sums)

"""Filter QIDO-RS rows by a limited permit.

Neither their values, nor that they match, reveal what is hidden.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from sidecar.access.visibility import Hidden
from sidecar.access.wildcards import LONGEST_PATTERN, LONGEST_VALUE, matches, without_case
from sidecar.authorization.study_facts import SUMS_OF_A_STUDY
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.dicom.json_model import Row, changed, tag, tags, text, texts
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import Matching

_MODALITIES = tag("ModalitiesInStudy")
_OF_A_STUDY = tags(
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "StudyInstanceUID",
    "StudyID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "InstanceAvailability",
)
"""Attributes to match by that do not depend on a study's series.

ModalitiesInStudy does, and is compared again.
"""
_SHOWN_OF_A_STUDY = _OF_A_STUDY | tags(
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "RetrieveURL",
    "PatientID",
    "IssuerOfPatientID",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "ProcedureCodeSequence",
    "NameOfPhysiciansReadingStudy",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
"""Attributes that stay in the row of a study of which something is hidden.

Archives take the others from any of its series.
"""
_SUMS_OF_A_PATIENT = tags(
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
)


def shown_rows(
    rows: Iterable[Row], query: Query, matching: Matching, view: VisibleStudies
) -> Iterator[Row | None]:
    """Yield those of the patient's ``rows`` that the ``view`` shows, without what is hidden.

    ``None`` stands for each of the others (``in_slices``).
    """
    names = {name.rpartition(".")[2] for name, _ in matching.parameters if name != "includefield"}
    if names & _SUMS_OF_A_PATIENT:
        return  # By what is hidden, too, they would match.
    wanted = [
        modality
        for name, value in matching.parameters
        if name == _MODALITIES
        for modality in _values(value)
    ]
    is_wanted = _matcher(wanted) if wanted else None
    for row in rows:
        study = text(row, "StudyInstanceUID") or ""
        series = None if query.level == "studies" else text(row, "SeriesInstanceUID") or ""
        seen = view.of(study)
        if isinstance(seen, Hidden) or not view.shows_row(study, series):
            yield None
            continue
        if not seen.is_complete:
            left = _without_hidden(row, query, names, is_wanted, view)
            if left is None:
                yield None
                continue
            row = left  # noqa: PLW2901
        yield changed(row, _SUMS_OF_A_PATIENT)


def _without_hidden(
    row: Row,
    query: Query,
    names: set[str],
    is_wanted: Callable[[str], bool] | None,
    view: VisibleStudies,
) -> Row | None:
    """Return the row of a partly hidden study; ``None``: it may match by what is hidden."""
    if query.level != "studies":
        return None if names & SUMS_OF_A_STUDY else changed(row, SUMS_OF_A_STUDY)
    if not names <= _OF_A_STUDY:
        return None
    shown = view.row(row)
    left = changed(shown, shown.keys() - _SHOWN_OF_A_STUDY)
    if is_wanted is not None and not any(map(is_wanted, texts(left, "ModalitiesInStudy"))):
        return None
    return left


def _matcher(wanted: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a value matches one of the patterns ``wanted``; each value is compared once.

    What is longer than a pattern or a value of this attribute can be matches nothing.
    """
    patterns = {without_case(pattern) for pattern in wanted if len(pattern) <= LONGEST_PATTERN}

    @cache
    def is_wanted(value: str) -> bool:
        if len(value) > LONGEST_VALUE:
            return False
        text_of_value = without_case(value)
        return any(matches(pattern, text_of_value) for pattern in patterns)

    return is_wanted


def _values(value: str) -> list[str]:
    """Return the values to match, separated by backslashes, in DICOMweb also by commas."""
    return [item for part in value.split("\\") for item in part.split(",") if item]

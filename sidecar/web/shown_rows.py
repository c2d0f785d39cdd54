"""QIDO-RS rows as a limited permit shows them: nothing in them, nor that they match, tells of what is hidden."""

from collections.abc import Iterable

from sidecar.access.rules import holds
from sidecar.common.dicom_json import Row, tag, text, texts
from sidecar.pacs.matching import Matching
from sidecar.pacs.resources import Query
from sidecar.web.patient_view import PatientView

# Of a study these alone tell of its series; what else a client may match by there is the study's own.
_MODALITIES = tag("ModalitiesInStudy")


def shown_rows(rows: Iterable[Row], query: Query, matching: Matching, view: PatientView) -> list[Row]:
    """Return those of the patient's ``rows`` that the ``view`` shows, each without what is hidden of it."""
    wanted = tuple(value for name, value in matching.parameters if name == _MODALITIES for value in _values(value))
    own_keys = all(name in _OF_A_STUDY for name, _ in matching.parameters if name != "includefield")
    found = []
    for row in rows:
        study = text(row, "StudyInstanceUID") or ""
        series = None if query.level == "studies" else text(row, "SeriesInstanceUID") or ""
        shown = view.of(study)
        if shown is None or not view.shows_row(study, series):
            continue
        if query.level == "studies" and not shown.is_complete:
            # That it matches by something of its series may be what is hidden.
            if not own_keys:
                continue
            row = view.row(row)  # noqa: PLW2901
            attributes = {"ModalitiesInStudy": tuple(texts(row, "ModalitiesInStudy"))}
            if wanted and not holds({"ModalitiesInStudy": wanted}, attributes):
                continue
        found.append(row)
    return found


def _values(value: str) -> list[str]:
    """A list of values to match: separated by backslashes, in DICOMweb also by commas."""
    return [one for part in value.split("\\") for one in part.split(",") if one]


_OF_A_STUDY = frozenset(
    tag(keyword)
    for keyword in (
        "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName", "StudyDescription",
        "StudyInstanceUID", "StudyID", "PatientName", "PatientBirthDate", "PatientSex", "InstanceAvailability",
    )
)  # fmt: skip
"""Attributes to match by that say nothing of a study's series, and ModalitiesInStudy, which is looked at again."""

"""What dcm4chee returns unasked at each level, what it matches, and the notes that it keeps in a
private group.
"""

from typing import Any

from sidecar.demo.archive.attributes import Level, tags
from tests.dcm4chee.behaviour import Mode

CREATOR = "DCM4CHEE Archive 5"
SECRET = "STAFF-ONLY"
"""A value in the archive's notes that no patient may see."""

ALWAYS = tags(
    "SpecificCharacterSet", "RetrieveAETitle", "InstanceAvailability", "TimezoneOffsetFromUTC"
)

_STUDY = tags(
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
_SERIES = tags(
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "NumberOfSeriesRelatedInstances",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
_INSTANCE = tags(
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
)
_ONLY_DOCUMENTED = frozenset(tags("IssuerOfPatientID", "StudyDescription"))
_ONLY_MEASURED = tags("AvailableTransferSyntaxUID")
_OF_LEVEL = {Level.STUDY: _STUDY, Level.SERIES: _SERIES, Level.INSTANCE: _INSTANCE}

MATCHED = frozenset(
    tags(
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientSex",
        "PatientBirthDate",
        "StudyInstanceUID",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyDescription",
        "AccessionNumber",
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "AdmissionID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "Modality",
        "BodyPartExamined",
        "Laterality",
        "PerformingPhysicianName",
        "SeriesDescription",
        "StationName",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "ContentDate",
        "ContentTime",
    )
)
"""Matching keys: what its database has columns for. Others are returned, and match everything."""


def defaults(
    level: Level, mode: Mode, *, study_in_path: bool, series_in_path: bool
) -> frozenset[str]:
    """The attributes (eight hexadecimal digits) that a list has unasked: of each level that its
    path leaves open.
    """
    open_levels = {
        Level.STUDY: not study_in_path,
        Level.SERIES: level >= Level.SERIES and not series_in_path,
        Level.INSTANCE: level is Level.INSTANCE,
    }
    found = {
        name
        for one, is_open in open_levels.items()
        if is_open or one is level
        for name in _OF_LEVEL[one]
    }
    if mode == "measured":
        found = (found - _ONLY_DOCUMENTED) | set(_ONLY_MEASURED if level is Level.INSTANCE else ())
    return frozenset(found | set(ALWAYS))


def notes(mode: Mode = "documented") -> dict[str, Any]:
    """The archive's own attributes in DICOM JSON, as ``includefield=all`` brings them along (group
    7777).
    """
    if mode == "measured":  # These came; what each is called stands nowhere.
        elements = ("1010", "1011", "1016", "1022", "1028", "1029", "102A", "102D")
        return {
            "77770010": {"vr": "LO", "Value": [CREATOR]},
            **{"7777" + element: {"vr": "LO", "Value": [SECRET]} for element in elements},
        }
    return {
        "77770010": {"vr": "LO", "Value": [CREATOR]},
        "77771020": {"vr": "DT", "Value": ["20240301101500.000"]},  # StudyReceiveDateTime
        "77771021": {"vr": "DT", "Value": ["20240302101500.000"]},  # StudyAccessDateTime
        "77771023": {"vr": "DA", "Value": ["20340301"]},  # StudyExpirationDate
        "77771027": {"vr": "LO", "Value": [SECRET]},  # StudyAccessControlID
    }

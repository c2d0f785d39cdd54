"""Levels of attributes (PS3.4 C.6.2.1, PS3.3 C.7), and the attributes of every search."""

from enum import IntEnum
from functools import cache

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from sidecar.dicom.json_model import tag


class Level(IntEnum):
    """Level of the hierarchy. Patient attributes belong to the study that they come with."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


LEVELS = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
"""The level that each QIDO-RS resource lists, by the last segment of its path."""


def tags(*keywords: str) -> tuple[str, ...]:
    """Return the tags, as eight hexadecimal digits, of keywords separated by white space."""
    return tuple(tag(keyword) for keyword in " ".join(keywords).split())


# PS3.18 tables 10.6.3-3 to 10.6.3-5; present in each row, empty when the archive knows no value.
ALWAYS_RETURNED: dict[Level, tuple[str, ...]] = {
    Level.STUDY: tags(
        """
        StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy
        ReferringPhysicianName PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID
        StudyID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances
        """
    ),
    Level.SERIES: tags(
        "Modality SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances StudyInstanceUID"
    ),
    Level.INSTANCE: tags(
        """
        SOPClassUID SOPInstanceUID InstanceAvailability InstanceNumber StudyInstanceUID
        SeriesInstanceUID
        """
    ),
}

# The same tables; only where the instances have them.
RETURNED_IF_PRESENT: dict[Level, tuple[str, ...]] = {
    Level.STUDY: tags("TimezoneOffsetFromUTC StudyDescription"),
    Level.SERIES: tags(
        "TimezoneOffsetFromUTC SeriesDescription PerformedProcedureStepStartDate "
        "PerformedProcedureStepStartTime RequestAttributesSequence"
    ),
    Level.INSTANCE: tags("TimezoneOffsetFromUTC Rows Columns BitsAllocated NumberOfFrames"),
}

# The General Study module (PS3.3 C.7.2.1) and an archive's counts for a study. Group 0010 is the
# patient's.
_STUDY = frozenset(
    tags(
        """
        SpecificCharacterSet TimezoneOffsetFromUTC StudyInstanceUID StudyDate StudyTime
        AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
        ReferringPhysicianIdentificationSequence ConsultingPhysicianName StudyID StudyDescription
        PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
        RequestingService ReferencedStudySequence ProcedureCodeSequence
        ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription
        AdmittingDiagnosesCodeSequence AdmissionID ModalitiesInStudy SOPClassesInStudy
        NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries NumberOfPatientRelatedInstances
        NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances InstanceAvailability RetrieveURL
        """
    )
)

# General Series, General Equipment and Frame of Reference modules (PS3.3 C.7.3.1, C.7.5.1,
# C.7.4.1).
_SERIES = frozenset(
    tags(
        """
        Modality SeriesInstanceUID SeriesNumber Laterality SeriesDate SeriesTime
        PerformingPhysicianName PerformingPhysicianIdentificationSequence ProtocolName
        SeriesDescription SeriesDescriptionCodeSequence OperatorsName OperatorIdentificationSequence
        ReferencedPerformedProcedureStepSequence BodyPartExamined PatientPosition
        RequestAttributesSequence PerformedProcedureStepID PerformedProcedureStepStartDate
        PerformedProcedureStepStartTime PerformedProcedureStepEndDate PerformedProcedureStepEndTime
        PerformedProcedureStepDescription PerformedProtocolCodeSequence Manufacturer InstitutionName
        InstitutionAddress StationName InstitutionalDepartmentName ManufacturerModelName
        DeviceSerialNumber SoftwareVersions FrameOfReferenceUID PositionReferenceIndicator
        NumberOfSeriesRelatedInstances
        """
    )
)


@cache
def level_of(attribute: str) -> Level:
    """Return the level of an attribute (eight hexadecimal digits); by default the instance's."""
    if attribute.startswith("0010") or attribute in _STUDY:
        return Level.STUDY
    return Level.SERIES if attribute in _SERIES else Level.INSTANCE


@cache
def value_representation(attribute: str) -> str:
    """Return the first VR of an attribute in the data dictionary, ``UN`` if it is not there."""
    number = int(attribute, 16)
    return dictionary_VR(number).split(" ", 1)[0] if dictionary_has_tag(number) else "UN"

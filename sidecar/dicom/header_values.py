"""The elements that say whose an instance is and where it belongs, and what their values mean."""

from collections.abc import Mapping
from functools import lru_cache

from sidecar.access.facts import InstanceHeader, PatientIdentifier
from sidecar.dicom.character_sets import decode_text
from sidecar.dicom.element import Unreadable
from sidecar.dicom.element_runs import TagSelection

_SPECIFIC_CHARACTER_SET = 0x0008_0005
_SOP_INSTANCE_UID = 0x0008_0018
PATIENT_ID = 0x0010_0020
_ISSUER_OF_PATIENT_ID = 0x0010_0021
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_SERIES_TAGS = (
    PATIENT_ID,
    _ISSUER_OF_PATIENT_ID,
    _SPECIFIC_CHARACTER_SET,
    _STUDY_INSTANCE_UID,
    _SERIES_INSTANCE_UID,
)
"""Tags of the wanted elements whose values are the same in a series."""
WANTED = TagSelection(
    {
        _SPECIFIC_CHARACTER_SET: b"CS",
        _SOP_INSTANCE_UID: b"UI",
        PATIENT_ID: b"LO",
        _ISSUER_OF_PATIENT_ID: b"LO",
        _STUDY_INSTANCE_UID: b"UI",
        _SERIES_INSTANCE_UID: b"UI",
    }
)
UIDS = {
    "study": _STUDY_INSTANCE_UID,
    "series": _SERIES_INSTANCE_UID,
    "instance": _SOP_INSTANCE_UID,
}


def read_values(values: Mapping[int, bytes]) -> InstanceHeader:
    """Return the header of these values, by tag. Raises ``Unreadable``."""
    patient, study, series = _facts_of_series(*[values.get(tag, b"") for tag in _SERIES_TAGS])
    return InstanceHeader(patient, study, series, _uid(values.get(_SOP_INSTANCE_UID, b"")))


@lru_cache(32)
def _facts_of_series(
    patient_id: bytes, issuer: bytes, character_set: bytes, study: bytes, series: bytes
) -> tuple[PatientIdentifier, str, str]:
    """Return what these values name, cached for the instances of a series.

    Raises ``Unreadable``.
    """
    value = decode_text(patient_id, character_set)
    if not value:
        raise Unreadable("no_patient_id")
    patient = PatientIdentifier(value, decode_text(issuer, character_set))
    if not _uid(study):
        raise Unreadable("no_study_instance_uid")
    return patient, _uid(study), _uid(series)


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")

"""Whose a row of an archive is."""

from collections.abc import Mapping

from sidecar.access.facts import PatientIdentifier
from sidecar.dicom.character_sets import has_known_character_set, is_known_text
from sidecar.dicom.json_model import Row, tag, text


def owner_of(row: Row) -> PatientIdentifier:
    """The patient that a row names.

    Without a PatientID, or with several values of what has one, it is nobody's.

    An empty one beside others (``null``) is a value, too. A text of which it cannot be known
    whether it came through whole is nobody's.
    """
    if any(_has_several(row, keyword) for keyword in ("PatientID", "IssuerOfPatientID")):
        return PatientIdentifier("")
    patient_id, issuer = text(row, "PatientID") or "", text(row, "IssuerOfPatientID")
    if not (
        has_known_character_set(row) and is_known_text(patient_id) and is_known_text(issuer or "")
    ):
        return PatientIdentifier("")
    return PatientIdentifier(patient_id, issuer)


def _has_several(row: Row, keyword: str) -> bool:
    element = row.get(tag(keyword))
    found = element.get("Value") if isinstance(element, Mapping) else None
    return isinstance(found, list) and len(found) > 1

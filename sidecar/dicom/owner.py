"""The patient to whom a row of an archive belongs."""

from sidecar.access.decision import is_own_row
from sidecar.access.facts import KnownAs, PatientIdentifier
from sidecar.dicom.character_sets import has_known_character_set, is_known_text
from sidecar.dicom.json_model import Row, first_text, tag, values, values_of

_PATIENT_ID, _ISSUER = tag("PatientID"), tag("IssuerOfPatientID")
_NOBODY = PatientIdentifier("")


def owner_of(row: Row) -> PatientIdentifier:
    """Return the patient that a row names.

    A row is nobody's without a PatientID, or with several values of it or of its issuer: an empty
    value (``null``) beside another counts. A row whose text may not have come through whole is
    nobody's, too.
    """
    patient_ids, issuers = values_of(row.get(_PATIENT_ID)), values_of(row.get(_ISSUER))
    if len(patient_ids) > 1 or len(issuers) > 1:
        return _NOBODY
    patient_id, issuer = first_text(patient_ids) or "", first_text(issuers)
    is_known = is_known_text(patient_id) and is_known_text(issuer or "")
    return (
        PatientIdentifier(patient_id, issuer)
        if is_known and has_known_character_set(row)
        else _NOBODY
    )


def is_row_of(row: Row, known_as: KnownAs, *, unnamed: bool) -> bool:
    """Return whether a row is the patient's; ``unnamed``: of a row that names no patient."""
    owner = owner_of(row) if values(row, "PatientID") else None
    return is_own_row(owner, known_as, unnamed=unnamed)

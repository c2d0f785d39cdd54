"""What a FHIR R4 Patient says: whether the record is in use, and its identifiers (SIA-17)."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sidecar.access.facts import PatientIdentifier, is_fhir_id
from sidecar.common.fetch import FetchFailed
from sidecar.patients.validity import is_current

log = logging.getLogger(__name__)

_USES = frozenset({"usual", "official", "temp", "secondary"})
"""Codes of R4 identifier-use without ``old``: an old number may be somebody else's now."""


class NotInUse(Exception):
    """A record is not in use. ``reason`` and ``text`` are for the app, ``log`` for operators."""

    reason = "patient_inactive"
    text = "The hospital's record of this patient is not in use."
    log = "the EHR's Patient is not active: its token gets nothing until the record is in use again"


class PatientMerged(NotInUse):
    """Another record replaces this record at the EHR, or the EHR returns another record."""

    reason = "patient_merged"
    text = (
        "The hospital has merged this patient's record into another one. "
        "Log in again, so that the app gets the record that is in use now."
    )
    log = (
        "the EHR answers a Patient by another record: it was merged, and its token gets nothing "
        "until the patient logs in again"
    )


def identifiers_of(
    resource: Mapping[str, Any], patient: str, issuers: Mapping[str, str | None], now: datetime
) -> frozenset[PatientIdentifier]:
    """Return the identifiers of a Patient resource with this id.

    ``issuers``: system -> IssuerOfPatientID, or ``None`` for one without.

    Raises ``PatientMerged`` for another Patient, and for a Patient that another one replaces
    (R4 Patient.link: it "must no longer be used"). Raises ``NotInUse`` for a Patient that is
    not active, and ``FetchFailed`` for what is no readable Patient. An identifier counts in its
    period alone, and not with ``use`` old.
    """
    _check_in_use(resource, patient)
    entries = resource.get("identifier", [])
    if not isinstance(entries, list):
        raise FetchFailed("wrong_shape")
    identifiers = set()
    for entry in entries:
        if not isinstance(entry, dict) or not _is_valid(entry, now):
            continue
        system, value = entry.get("system"), entry.get("value")
        if not isinstance(value, str) or not isinstance(system, str) or system not in issuers:
            continue
        identifier = PatientIdentifier(value, issuers[system])
        if identifier.is_searchable():
            identifiers.add(identifier)
        else:
            log.warning("an identifier of the EHR cannot be searched for exactly and is left out")
    return frozenset(identifiers)


def _check_in_use(resource: Mapping[str, Any], patient: str) -> None:
    """Raise as ``identifiers_of`` does, unless the Patient has this id and is in use."""
    if resource.get("resourceType") != "Patient":
        raise FetchFailed("wrong_resource")
    if resource.get("id") != patient:
        raise (
            PatientMerged
            if is_another(resource.get("id"), patient)
            else FetchFailed("wrong_resource")
        )
    links, active = resource.get("link", []), resource.get("active", True)
    if not isinstance(links, list) or not isinstance(active, bool):
        raise FetchFailed("wrong_shape")
    if not all(isinstance(link, dict) and isinstance(link.get("type"), str) for link in links):
        raise FetchFailed("wrong_shape")
    if any(link["type"] == "replaced-by" for link in links):
        raise PatientMerged
    if not active:
        raise NotInUse


def _is_valid(identifier: Mapping[str, Any], now: datetime) -> bool:
    """Return whether an Identifier has a known ``use`` and is in its period (R4 Identifier)."""
    use = identifier.get("use", "usual")
    return isinstance(use, str) and use in _USES and is_current(identifier.get("period"), now)


def is_another(fhir_id: object, patient: str) -> bool:
    """Return whether ``fhir_id`` is the FHIR id of another record."""
    return isinstance(fhir_id, str) and is_fhir_id(fhir_id) and fhir_id != patient

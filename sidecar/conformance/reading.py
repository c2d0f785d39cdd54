"""Readers of FHIR resources and of tokens, whatever a server wrote into them."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from sidecar.conformance.rows import is_uid

_ID = r"([A-Za-z0-9.-]{1,64})"
_REFERENCE = rf"(?:.*/)?Patient/{_ID}(?:/_history/[^/]*)?"
_PATIENT = re.compile(_REFERENCE, re.ASCII)
_PATIENT_OR_ID = re.compile(rf"{_ID}|{_REFERENCE}", re.ASCII)


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the JSON objects in a list; none if ``value`` is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """Return the strings in a list; none if ``value`` is no list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def resources(bundle: Mapping[str, Any], resource_type: str) -> list[dict[str, Any]]:
    """Return the Bundle's resources of a type."""
    entries = objects([entry.get("resource") for entry in objects(bundle.get("entry"))])
    return [resource for resource in entries if resource.get("resourceType") == resource_type]


def keys(bundle: Mapping[str, Any]) -> list[str]:
    """Return what tells the Bundle's ImagingStudies from each other."""
    return [key_of(study) for study in resources(bundle, "ImagingStudy")]


def key_of(study: Mapping[str, Any]) -> str:
    """Return the StudyInstanceUID, else the id: where studies cannot be read, ids may change."""
    return uid_of(study) or str(study.get("id"))


def link(bundle: Mapping[str, Any], relation: str, base: str) -> str | None:
    """Return the absolute URL of the Bundle's link with this relation."""
    for candidate in objects(bundle.get("link")):
        url = candidate.get("url")
        if candidate.get("relation") == relation and isinstance(url, str):
            return urljoin(base + "/", url)
    return None


def subject_of(study: Mapping[str, Any]) -> str:
    """Return the subject's reference; empty if there is none."""
    subject = study.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    return reference if isinstance(reference, str) else ""


def patient_of(study: Mapping[str, Any]) -> str | None:
    """Return the Patient's id in the subject's reference."""
    match = _PATIENT.fullmatch(subject_of(study))
    return None if match is None else match[1]


def uid_of(study: Mapping[str, Any]) -> str | None:
    """Return the StudyInstanceUID of an ImagingStudy."""
    for identifier in objects(study.get("identifier")):
        value = identifier.get("value")
        if identifier.get("system") == "urn:dicom:uid" and isinstance(value, str):
            uid = value.removeprefix("urn:oid:")
            return uid if is_uid(uid) else None
    return None


def patient_in(token: str | None) -> str | None:
    """Return the ``patient`` claim of an access token that is a JWT, without verifying it.

    The claim is an id or a reference. It is used for searches alone.
    """
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    patient = claims.get("patient") if isinstance(claims, dict) else None
    return read_patient(patient) if isinstance(patient, str) else None


def read_patient(text: str) -> str | None:
    """Return the id in ``123``, ``Patient/123`` or ``https://ehr/Patient/123``."""
    match = _PATIENT_OR_ID.fullmatch(text)
    return None if match is None else match[1] or match[2]


def plural(number: int, noun: str) -> str:
    """Return ``1 study``, ``2 studies``."""
    if number != 1:
        noun = noun.removesuffix("y") + "ie" * noun.endswith("y") + "s"
    return f"{number} {noun}"

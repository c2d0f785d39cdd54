"""QIDO-RS rows -> ImagingStudy (SIA-30; https://hl7.org/fhir/R4/imagingstudy.html).

Built as plain dicts by small pure functions; one odd attribute is left out and never spoils the
study.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from sidecar.dicom.json_model import Row, number, text, texts
from sidecar.dicom.uid import is_uid
from sidecar.fhir.attributes import (
    based_on,
    concepts,
    laterality,
    performers,
    person,
    present,
    printable,
    reasons,
    title,
)
from sidecar.fhir.dates import Started, dicom_offset, started
from sidecar.fhir.frames import frames_extension

DICOM_TERMINOLOGY = "http://dicom.nema.org/resources/ontology/DCM"
UID_SYSTEM = "urn:dicom:uid"

_CODE = re.compile(r"[A-Z0-9_]{1,16}", re.ASCII)
_ID_LENGTH = 64
_HASHED = "sha256-"
_HASHED_ID = re.compile(r"sha256-[a-z2-7]{52}", re.ASCII)
_NO_UID = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "unsupported",
        }
    ]
}
_NOT_ONLINE = (
    "The archive keeps these images on slow storage: a retrieval may be answered with 503 and "
    "Retry-After until they are there."
)

_LARGEST = 2**31 - 1
"""The largest unsignedInt of FHIR."""


@dataclass(frozen=True, slots=True)
class Site:
    """Settings of the hospital that its ImagingStudies depend on.

    - ``zone``: time zone of studies that name none (``None``: unknown)
    - ``true_timezone``: whether the PACS's TimezoneOffsetFromUTC can be believed
    - ``fhir_base``: our own base URL
    - ``accession_system``: identifier system of accession numbers, if they have one
    """

    ehr_fhir_url: str
    zone: tzinfo | None = None
    true_timezone: bool = True
    fhir_base: str = ""
    accession_system: str | None = None


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Series row and, when wanted, the rows of its instances."""

    row: Row
    instances: Sequence[Row] | None = None


def study_uid(row: Row) -> str:
    """Return the StudyInstanceUID; empty if there is none."""
    return text(row, "StudyInstanceUID") or ""


def study_id(uid: str) -> str:
    """Return the id of the study: its UID if that is short enough, else its SHA-256 in base 32.

    A FHIR id has at most 64 characters (R4 datatypes.html#id), an archive's UID may have more.
    """
    if len(uid) <= _ID_LENGTH:
        return uid
    digest = base64.b32encode(hashlib.sha256(uid.encode()).digest()).decode("ascii")
    return _HASHED + digest.rstrip("=").lower()


def is_study_id(text: str) -> bool:
    """Return whether ``study_id`` may have made ``text``."""
    return len(text) <= _ID_LENGTH and (is_uid(text) or _HASHED_ID.fullmatch(text) is not None)


def accession_number(row: Row) -> str | None:
    """Return the AccessionNumber without control characters."""
    return printable(row, "AccessionNumber")


def availability(row: Row) -> str | None:
    """Return InstanceAvailability: ONLINE, NEARLINE, OFFLINE, UNAVAILABLE (PS3.3 C.4.23.1.1)."""
    return text(row, "InstanceAvailability")


def study_started(row: Row, site: Site) -> Started | None:
    """Return when the study began, as far as its row has that."""
    return _started(row, "StudyDate", "StudyTime", site)


def imaging_study(
    row: Row,
    *,
    patient: str,
    endpoint: Mapping[str, Any],
    site: Site,
    last_updated: str,
    series: Iterable[SeriesRows] | None = None,
    contained: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the ImagingStudy of a study row.

    ``series`` adds their list, ``contained`` a contained Endpoint.
    """
    series = None if series is None else list(series)
    elements = None if series is None else _each_once(_series(rows, site) for rows in series)
    resource: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": study_id(study_uid(row)),
        "meta": {"lastUpdated": last_updated},
    }
    if contained is not None:
        resource["contained"] = [contained]
    resource["identifier"] = _identifiers(row, site.accession_system)
    resource["status"] = "available"
    codes = modality_codes(row, (rows.row for rows in series or ()))
    resource["modality"] = [_modality(code) for code in codes]
    resource["subject"] = {"reference": f"{site.ehr_fhir_url}/Patient/{patient}", "type": "Patient"}
    began = study_started(row, site)
    optional = {
        "started": began.text if began else None,
        "basedOn": based_on(row),
        "referrer": person(row, "ReferringPhysicianName"),
        "interpreter": [reader]
        if (reader := person(row, "NameOfPhysiciansReadingStudy"))
        else None,
        "endpoint": [endpoint],
        "numberOfSeries": _count(row, "NumberOfStudyRelatedSeries", elements),
        "numberOfInstances": _number_of_instances(row, elements),
        "procedureCode": concepts(row, "ProcedureCodeSequence"),
        "reasonCode": reasons(row),
        "note": [{"text": _NOT_ONLINE}] if availability(row) in ("NEARLINE", "OFFLINE") else None,
        "description": printable(row, "StudyDescription"),
        "series": elements or None,
    }
    return resource | present(optional)


def _identifiers(row: Row, accession_system: str | None) -> list[dict[str, Any]]:
    identifiers: list[dict[str, Any]] = [
        {"system": UID_SYSTEM, "value": f"urn:oid:{study_uid(row)}"}
    ]
    number_of_study = accession_number(row)
    if number_of_study:
        code = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
        system = {} if accession_system is None else {"system": accession_system}
        identifiers.append({"type": {"coding": [code]}, **system, "value": number_of_study})
    return identifiers


def modality_codes(row: Row, series: Iterable[Row] = ()) -> list[str]:
    """Return the modalities of the study row, else those of its series, each once.

    SIA-30 demands one: ``OT`` (other) when there is none.
    """
    codes = own_modality_codes(row) or [
        code for series_row in series for code in _codes(series_row, "Modality")[:1]
    ]
    return list(dict.fromkeys(codes)) or ["OT"]


def own_modality_codes(row: Row) -> list[str]:
    """Return the modalities that the study row names, each once."""
    return _codes(row, "ModalitiesInStudy")


def _codes(row: Row, keyword: str) -> list[str]:
    """Return the valid codes (VR CS: upper case, PS3.5 6.2), each once."""
    found = (code.strip().upper() for value in texts(row, keyword) for code in value.split("\\"))
    return list(dict.fromkeys(code for code in found if _CODE.fullmatch(code)))


def _modality(code: str) -> dict[str, str]:
    return {"system": DICOM_TERMINOLOGY, "code": code}


def _count(row: Row, keyword: str, elements: Sequence[object] | None) -> int | None:
    """Return the archive's number, or that of the ``elements`` where they are more.

    R4 allows a number that is larger than the list.
    """
    found = number(row, keyword)
    return found if elements is None else max(found or 0, len(elements))


def _number_of_instances(row: Row, series: Sequence[Mapping[str, Any]] | None) -> int | None:
    """Return the archive's number of instances, or that of the ``series`` where they have more."""
    found = number(row, "NumberOfStudyRelatedInstances")
    listed = sum(element.get("numberOfInstances", 0) for element in series or ())
    return None if found is None else max(found, min(listed, _LARGEST))


def _uid_element(uid: str) -> dict[str, Any]:
    """Return the ``uid`` of a series or instance, or why it is absent: R4 limits it like an id."""
    return {"uid": uid} if len(uid) <= _ID_LENGTH else {"_uid": _NO_UID}


def _series(series: SeriesRows, site: Site) -> tuple[str, dict[str, Any]] | None:
    row = series.row
    uid = text(row, "SeriesInstanceUID")
    if uid is None or not is_uid(uid):
        return None
    began = _started(row, "SeriesDate", "SeriesTime", site)
    body_site = printable(row, "BodyPartExamined")
    instances = _each_once(_instance(instance, site) for instance in series.instances or ())
    optional = {
        "number": number(row, "SeriesNumber"),
        "description": printable(row, "SeriesDescription"),
        "numberOfInstances": _count(row, "NumberOfSeriesRelatedInstances", instances or None),
        "bodySite": {"display": body_site} if body_site else None,
        "laterality": laterality(row),
        "started": began.text if began else None,
        "performer": performers(row),
        "instance": instances or None,
    }
    modality = next(iter(_codes(row, "Modality")), "OT")
    return uid, {**_uid_element(uid), "modality": _modality(modality), **present(optional)}


def _each_once(elements: Iterable[tuple[str, dict[str, Any]] | None]) -> list[dict[str, Any]]:
    """Return the elements that could be made, the first of each UID: pages may overlap."""
    by_uid: dict[str, dict[str, Any]] = {}
    for found in elements:
        if found is not None:
            by_uid.setdefault(*found)
    return list(by_uid.values())


def _instance(row: Row, site: Site) -> tuple[str, dict[str, Any]] | None:
    uid, sop_class = text(row, "SOPInstanceUID"), text(row, "SOPClassUID")
    if uid is None or sop_class is None or not (is_uid(uid) and is_uid(sop_class)):
        return None
    frames = number(row, "NumberOfFrames")
    extended = {} if not frames else {"extension": [frames_extension(site.fhir_base, frames)]}
    element: dict[str, Any] = {
        **extended,
        **_uid_element(uid),
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"},
    }
    optional = {"number": number(row, "InstanceNumber"), "title": title(row)}
    return uid, element | present(optional)


def _started(row: Row, date: str, time: str, site: Site) -> Started | None:
    offset = dicom_offset(text(row, "TimezoneOffsetFromUTC")) if site.true_timezone else None
    return started(text(row, date), text(row, time), offset or site.zone, site=site.zone or UTC)

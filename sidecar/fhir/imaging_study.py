"""QIDO-RS rows -> ImagingStudy (SIA-30; https://hl7.org/fhir/R4/imagingstudy.html).

Built as plain dicts by small pure functions; one odd attribute is left out and never spoils the study.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from sidecar.common.dicom_json import Row, number, person_name, text, texts
from sidecar.common.uid import is_uid
from sidecar.fhir.dates import Started, dicom_offset, started

DICOM_TERMINOLOGY = "http://dicom.nema.org/resources/ontology/DCM"
UID_SYSTEM = "urn:dicom:uid"


@dataclass(frozen=True, slots=True)
class Site:
    """What the hospital's configuration says.

    ``zone``: the time zone of studies that name none (``None``: unknown); ``true_timezone``: whether the PACS's
    TimezoneOffsetFromUTC can be believed.
    """

    ehr_fhir_url: str
    zone: tzinfo | None = None
    true_timezone: bool = True


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """A series row and, when wanted, the rows of its instances."""

    row: Row
    instances: Sequence[Row] | None = None


def study_uid(row: Row) -> str:
    """The StudyInstanceUID, also the resource's id: 64 characters of digits and dots are a FHIR id."""
    return text(row, "StudyInstanceUID") or ""


def study_started(row: Row, site: Site) -> Started | None:
    """When the study began, as far as the row tells."""
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
    """Return the ImagingStudy of a study row; ``series`` adds their list, ``contained`` a contained Endpoint."""
    series_elements = None if series is None else [found for one in series if (found := _series(one, site))]
    resource: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": study_uid(row),
        "meta": {"lastUpdated": last_updated},
    }
    if contained is not None:
        resource["contained"] = [contained]
    resource["identifier"] = _identifiers(row)
    resource["status"] = "available"
    resource["modality"] = _modalities(row, series_elements)
    resource["subject"] = {"reference": f"{site.ehr_fhir_url}/Patient/{patient}", "type": "Patient"}
    began = study_started(row, site)
    referrer = person_name(row, "ReferringPhysicianName")
    optional = {
        "started": began.text if began else None,
        "referrer": {"display": _display(referrer)} if referrer else None,
        "endpoint": [endpoint],
        "numberOfSeries": _count(row, "NumberOfStudyRelatedSeries", series_elements),
        "numberOfInstances": number(row, "NumberOfStudyRelatedInstances"),
        "description": text(row, "StudyDescription"),
        "series": series_elements or None,
    }
    return resource | {name: value for name, value in optional.items() if value is not None}


def _identifiers(row: Row) -> list[dict[str, Any]]:
    identifiers: list[dict[str, Any]] = [{"system": UID_SYSTEM, "value": f"urn:oid:{study_uid(row)}"}]
    accession_number = text(row, "AccessionNumber")
    if accession_number:
        code = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
        identifiers.append({"type": {"coding": [code]}, "value": accession_number})
    return identifiers


def _modalities(row: Row, series: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    """Modalities of the study row, else those of its series; ``OT`` (other) when nobody says: SIA-30 wants one."""
    codes = dict.fromkeys(code for value in texts(row, "ModalitiesInStudy") for code in value.split("\\") if code)
    if not codes and series:
        codes = dict.fromkeys(one["modality"]["code"] for one in series)
    return [_modality(code) for code in codes] or [_modality("OT")]


def _modality(code: str) -> dict[str, str]:
    return {"system": DICOM_TERMINOLOGY, "code": code}


def _count(row: Row, keyword: str, elements: Sequence[object] | None) -> int | None:
    found = number(row, keyword)
    return len(elements) if found is None and elements is not None else found


def _series(series: SeriesRows, site: Site) -> dict[str, Any] | None:
    row = series.row
    uid = text(row, "SeriesInstanceUID")
    if uid is None or not is_uid(uid):
        return None
    began = _started(row, "SeriesDate", "SeriesTime", site)
    body_site = text(row, "BodyPartExamined")
    instances = [found for one in series.instances or () if (found := _instance(one))]
    optional = {
        "number": number(row, "SeriesNumber"),
        "description": text(row, "SeriesDescription"),
        "numberOfInstances": _count(row, "NumberOfSeriesRelatedInstances", instances or None),
        "bodySite": {"display": body_site} if body_site else None,
        "started": began.text if began else None,
        "instance": instances or None,
    }
    element: dict[str, Any] = {"uid": uid, "modality": _modality(text(row, "Modality") or "OT")}
    return element | {name: value for name, value in optional.items() if value is not None}


def _instance(row: Row) -> dict[str, Any] | None:
    uid, sop_class = text(row, "SOPInstanceUID"), text(row, "SOPClassUID")
    if uid is None or sop_class is None or not is_uid(uid):
        return None
    element: dict[str, Any] = {
        "uid": uid,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"},
    }
    instance_number = number(row, "InstanceNumber")
    return element if instance_number is None else element | {"number": instance_number}


def _started(row: Row, date: str, time: str, site: Site) -> Started | None:
    offset = dicom_offset(text(row, "TimezoneOffsetFromUTC")) if site.true_timezone else None
    return started(text(row, date), text(row, time), offset or site.zone)


def _display(name: str) -> str:
    """``Doe^Jane^Q^Dr^MD`` -> ``Dr Jane Q Doe MD`` (PS3.5 6.2.1: family, given, middle, prefix, suffix)."""
    family, given, middle, prefix, suffix = ([*name.split("^"), "", "", "", ""])[:5]
    return " ".join(part.strip() for part in (prefix, given, middle, family, suffix) if part.strip())

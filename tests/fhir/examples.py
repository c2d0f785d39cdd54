"""Resources as they should be, and a way to break them."""

import copy
from typing import Any

BASE = "https://imaging.example.org/fhir"
GONE = object()
"""As a value in a table: the element is taken away."""


def endpoint(identity: str = "123") -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "id": identity,
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type",
                        "code": "any",
                    }
                ]
            }
        ],
        "address": BASE + "/Patient/123/$wado-rs",
    }


def study(uid: str = "1.2.3") -> dict[str, Any]:
    dcm = "http://dicom.nema.org/resources/ontology/DCM"
    return {
        "resourceType": "ImagingStudy",
        "id": uid,
        "meta": {"lastUpdated": "2024-02-29T08:15:00.123Z"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:" + uid}, {"value": "A-1"}],
        "status": "available",
        "modality": [{"system": dcm, "code": "CT"}, {"system": dcm, "code": "SR"}],
        "subject": {"reference": "https://ehr.example.org/fhir/Patient/123", "type": "Patient"},
        "started": "2024-02-29T09:15:00+01:00",
        "endpoint": [{"reference": "Endpoint/123"}],
        "numberOfSeries": 1,
        "numberOfInstances": 2,
        "series": [
            {
                "uid": uid + ".1",
                "number": 0,
                "modality": {"system": dcm, "code": "CT"},
                "numberOfInstances": 2,
                "started": "2024-02-29",
                "instance": [
                    {
                        "uid": uid + ".1.1",
                        "number": 1,
                        "sopClass": {
                            "system": "urn:ietf:rfc:3986",
                            "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2",
                        },
                    }
                ],
            }
        ],
    }


def good() -> dict[str, Any]:
    """Return a page of two studies of three, and their Endpoint."""
    entries = [
        {
            "fullUrl": f"{BASE}/ImagingStudy/{one['id']}",
            "resource": one,
            "search": {"mode": "match"},
        }
        for one in (study("1.2.3"), study("1.2.4"))
    ]
    included = {
        "fullUrl": BASE + "/Endpoint/123",
        "resource": endpoint(),
        "search": {"mode": "include"},
    }
    return {
        "resourceType": "Bundle",
        "id": "5d9f2b0a-0000-4000-8000-000000000000",
        "meta": {"lastUpdated": "2024-03-01T00:00:00Z"},
        "type": "searchset",
        "total": 3,
        "link": [
            {
                "relation": "self",
                "url": BASE + "/ImagingStudy?patient=123&_include=ImagingStudy%3Aendpoint",
            },
            {"relation": "next", "url": BASE + "/ImagingStudy?patient=123&_after=x"},
        ],
        "entry": [*entries, included],
    }


def broken(resource: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy of ``resource`` with the element at ``path`` (names and indexes, with dots) set
    to ``value``.
    """
    changed = copy.deepcopy(resource)
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    place: Any = changed
    for step in steps:
        place = place[step]
    if value is GONE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return changed

"""Our resources in FHIR R5 (https://hl7.org/fhir/R5/imagingstudy.html, endpoint.html)."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

VERSIONS = {"4.0": "4.0.1", "5.0": "5.0.0"}
"""Release by the value of ``fhirVersion`` (https://hl7.org/fhir/R4/http.html#version-parameter)."""
DEFAULT_VERSION = "4.0"


def in_version(resource: Json, version: str) -> Json:
    """Return an R4 resource in this FHIR version."""
    return to_r5(resource) if version == "5.0" else resource


def to_r5(resource: Json) -> dict[str, Any]:
    """Return an R4 resource as R5; what is the same in both stays as it is."""
    match resource["resourceType"]:
        case "ImagingStudy":
            return _imaging_study(resource)
        case "Endpoint":
            return _endpoint(resource)
        case "CapabilityStatement" | "StructureDefinition":
            return {**resource, "fhirVersion": VERSIONS["5.0"]}
        case _:
            return dict(resource)


def _imaging_study(resource: Json) -> dict[str, Any]:
    study: dict[str, Any] = {}
    for name, value in resource.items():
        match name:
            case "contained":
                study[name] = [to_r5(element) for element in value]
            case "modality":
                study[name] = [_concept(element) for element in value]
            case "procedureCode":
                study["procedure"] = [{"concept": concept} for concept in value]
            case "reasonCode":
                study["reason"] = [{"concept": concept} for concept in value]
            case "interpreter":
                pass  # R5 has none.
            case "series":
                study[name] = [_series(element) for element in value]
            case _:
                study[name] = value
    return study


def _series(element: Json) -> dict[str, Any]:
    series = {**element, "modality": _concept(element["modality"])}
    if "bodySite" in element:
        series["bodySite"] = {"concept": _concept(element["bodySite"])}
    if "laterality" in element:
        series["laterality"] = _concept(element["laterality"])
    return series


def _concept(coding: Json) -> dict[str, Any]:
    """Return a CodeableConcept; a coding with nothing but a display becomes its text."""
    return {"text": coding["display"]} if set(coding) == {"display"} else {"coding": [coding]}


def _mime_types(resource: Json) -> Json:
    """Return the MIME types, if ``_elements`` has not left them out."""
    return {"mimeType": resource["payloadMimeType"]} if "payloadMimeType" in resource else {}


def _endpoint(resource: Json) -> dict[str, Any]:
    moved = ("connectionType", "payloadType", "payloadMimeType", "address")
    endpoint = {name: value for name, value in resource.items() if name not in moved}
    return {
        **endpoint,
        "connectionType": [_concept(resource["connectionType"])],
        "payload": [{"type": resource["payloadType"], **_mime_types(resource)}],
        "address": resource["address"],
    }

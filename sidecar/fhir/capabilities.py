"""What we say of ourselves without a token (SIA-2, 3): CapabilityStatement and smart-configuration."""

from typing import Any

from sidecar.fhir.search import SUPPORTED

APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
_PARAMETERS = {
    "patient": ("reference", "Patient/<id> or <id>: the patient of the access token"),
    "subject": ("reference", "The same as patient"),
    "identifier": ("token", "urn:oid:<StudyInstanceUID>, urn:dicom:uid|urn:oid:<UID>, or an accession number"),
    "started": ("date", "When the study began"),
    "_lastUpdated": ("date", "When this server first saw the study as it is now"),
}


def capability_statement(*, fhir_base: str, version: str, released: str, smart: dict[str, Any]) -> dict[str, Any]:
    """Return the CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html)."""
    read = [{"code": "read"}]
    parameters = [
        {"name": name, "type": kind, "documentation": documentation}
        for name, (kind, documentation) in _PARAMETERS.items()
        if name in SUPPORTED
    ]
    endpoints = [
        {"url": short, "valueUri": smart[name]}
        for short, name in (("authorize", "authorization_endpoint"), ("token", "token_endpoint"))
        if name in smart
    ]
    security: dict[str, Any] = {
        "cors": True,
        "service": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                        "code": "SMART-on-FHIR",
                    }
                ]
            }
        ],
        "description": "Access tokens of the hospital's EHR (SMART App Launch).",
    }
    if endpoints:
        uris = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
        security["extension"] = [{"url": uris, "extension": endpoints}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": released,
        "kind": "instance",
        "software": {"name": "SMART Imaging Access sidecar", "version": version},
        "implementation": {"description": "Imaging studies of the hospital's archive", "url": fhir_base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": security,
                "resource": [
                    {
                        "type": "ImagingStudy",
                        "interaction": [*read, {"code": "search-type"}],
                        "searchInclude": ["ImagingStudy:endpoint"],
                        "searchParam": parameters,
                    },
                    {"type": "Endpoint", "interaction": read},
                ],
            }
        ],
    }


def smart_configuration(*, issuer: str | None, authorization: str | None, token: str | None) -> dict[str, Any]:
    """Return our ``.well-known/smart-configuration``: tokens come from the EHR's endpoints."""
    document: dict[str, Any] = {
        "capabilities": ["smart-imaging-access", APP_LAUNCH],
        "scopes_supported": ["patient/ImagingStudy.rs", "patient/ImagingStudy.read", "patient/*.rs", "patient/*.read"],
        "grant_types_supported": ["authorization_code"],
        "code_challenge_methods_supported": ["S256"],
    }
    known = {"issuer": issuer, "authorization_endpoint": authorization, "token_endpoint": token}
    return document | {name: value for name, value in known.items() if value is not None}

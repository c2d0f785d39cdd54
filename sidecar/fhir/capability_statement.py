"""CapabilityStatement and smart-configuration, which need no token (SIA-2, 3)."""

from dataclasses import dataclass
from typing import Any

from sidecar.fhir.search_parameters import PARAMETERS

APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
BACKEND_SERVICES = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"


@dataclass(frozen=True, slots=True)
class OfferedFeatures:
    """Features that the site has switched on; neither implies the other (SIA-2)."""

    app_launch: bool = True
    backend_services: bool = False

    def capabilities(self) -> list[str]:
        """Return the features by their names in smart-configurations."""
        switched = ((self.app_launch, APP_LAUNCH), (self.backend_services, BACKEND_SERVICES))
        return ["smart-imaging-access", *(url for on, url in switched if on)]

    def scopes(self) -> list[str]:
        """Return the scopes that clients may request."""
        launch = [
            "patient/ImagingStudy.rs",
            "patient/ImagingStudy.read",
            "patient/*.rs",
            "patient/*.read",
        ]
        return [
            *(launch if self.app_launch else ()),
            *(["system/ImagingStudy.rs"] if self.backend_services else ()),
        ]

    def grant_types(self) -> list[str]:
        """Return the grant types by which clients get tokens."""
        switched = (
            (self.app_launch, "authorization_code"),
            (self.backend_services, "client_credentials"),
        )
        return [name for on, name in switched if on]


def capability_statement(
    *, fhir_base: str, version: str, released: str, smart: dict[str, Any]
) -> dict[str, Any]:
    """Return the CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html)."""
    read = [{"code": "read"}]
    # A chain is no parameter of its own; the documentation of patient names it.
    parameters = [
        {"name": name, "type": parameter.kind, "documentation": parameter.documentation}
        for name, parameter in PARAMETERS.items()
        if parameter.kind and "." not in name
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
        "implementation": {
            "description": "Imaging studies of the hospital's archive",
            "url": fhir_base,
        },
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
                        "conditionalRead": "full-support",
                        "searchInclude": ["ImagingStudy:endpoint"],
                        "searchParam": parameters,
                    },
                    {"type": "Endpoint", "interaction": read},
                    {"type": "StructureDefinition", "interaction": read},
                ],
                "operation": [
                    {
                        "name": "versions",
                        "definition": "http://hl7.org/fhir/OperationDefinition/CapabilityStatement-versions",
                    }
                ],
            }
        ],
    }


def ehr_snippet(fhir_base: str, offered: OfferedFeatures) -> dict[str, Any]:
    """Return our part of the EHR's ``.well-known/smart-configuration`` (SIA-1, 2), to paste in."""
    return {"associated_endpoints": [{"url": fhir_base, "capabilities": offered.capabilities()}]}


def smart_configuration(
    offered: OfferedFeatures, *, issuer: str | None, authorization: str | None, token: str | None
) -> dict[str, Any]:
    """Return our ``.well-known/smart-configuration``: tokens come from the EHR's endpoints."""
    document: dict[str, Any] = {
        "capabilities": offered.capabilities(),
        "scopes_supported": offered.scopes(),
        "grant_types_supported": offered.grant_types(),
        "code_challenge_methods_supported": ["S256"],
    }
    known = {"issuer": issuer, "authorization_endpoint": authorization, "token_endpoint": token}
    return document | {name: value for name, value in known.items() if value is not None}

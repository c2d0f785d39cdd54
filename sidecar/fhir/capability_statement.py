"""CapabilityStatement and smart-configuration, which need no token (SIA-2, 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.fhir.search_parameters import PARAMETERS

GUIDE = "http://fhir.org/argonaut/smart-imaging"
APP_LAUNCH = f"{GUIDE}/capabilities/app-launch"
BACKEND_SERVICES = f"{GUIDE}/capabilities/backend-services"
_DEFINITIONS = {
    "patient": "clinical-patient",
    "identifier": "clinical-identifier",
    "_id": "Resource-id",
    "_lastUpdated": "Resource-lastUpdated",
}
"""R4's SearchParameters that have another id than ``ImagingStudy-<name>``."""


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

    def authorization_metadata(self) -> dict[str, list[str]]:
        """Return what the EHR's smart-configuration has to say of its authorization server.

        What Backend Services clients need of it are SMART's discovery requirements for asymmetric
        client authentication.
        """
        switched = (
            (self.app_launch, "authorization_code"),
            (self.backend_services, "client_credentials"),
        )
        metadata = {
            "grant_types_supported": [name for on, name in switched if on],
            "scopes_supported": self.scopes(),
        }
        if self.backend_services:
            metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
            metadata["token_endpoint_auth_signing_alg_values_supported"] = ["RS384", "ES384"]
        return metadata


def capability_statement(
    *, fhir_base: str, version: str, released: str, smart: dict[str, Any]
) -> dict[str, Any]:
    """Return the CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html)."""
    read = [{"code": "read"}]
    # A chain is no parameter of its own; the documentation of patient names it.
    parameters = [
        {
            "name": name,
            "definition": "http://hl7.org/fhir/SearchParameter/"
            + _DEFINITIONS.get(name, f"ImagingStudy-{name}"),
            "type": parameter.kind,
            "documentation": parameter.documentation,
        }
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
        "url": f"{fhir_base}/metadata",
        "name": "SmartImagingAccessSidecar",
        "status": "active",
        "date": released,
        "kind": "instance",
        "instantiates": [f"{GUIDE}/CapabilityStatement/smart-imaging-server"],
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
                        "supportedProfile": [f"{GUIDE}/StructureDefinition/smart-imaging-study"],
                        "interaction": [*read, {"code": "search-type"}],
                        "conditionalRead": "full-support",
                        "searchInclude": ["ImagingStudy:endpoint"],
                        "searchParam": parameters,
                    },
                    {
                        "type": "Endpoint",
                        "supportedProfile": [f"{GUIDE}/StructureDefinition/smart-wado-endpoint"],
                        "interaction": read,
                    },
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
    """Return what the EHR's ``.well-known/smart-configuration`` has to have for us (SIA-1, 2)."""
    endpoint = {"url": fhir_base, "capabilities": offered.capabilities()}
    return {**offered.authorization_metadata(), "associated_endpoints": [endpoint]}


def smart_configuration(
    offered: OfferedFeatures,
    published: Mapping[str, Sequence[str]],
    *,
    issuer: str | None,
    authorization: str | None,
    token: str | None,
) -> dict[str, Any]:
    """Return our ``.well-known/smart-configuration``: tokens come from the EHR's endpoints.

    ``published``: what the EHR's own says of its authorization server, which it knows better.
    """
    known = {"issuer": issuer, "authorization_endpoint": authorization, "token_endpoint": token}
    return {
        **offered.authorization_metadata(),
        "code_challenge_methods_supported": ["S256"],
        **published,
        "capabilities": offered.capabilities(),
        **{name: value for name, value in known.items() if value is not None},
    }

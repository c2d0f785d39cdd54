"""What anybody may read of us without a token (SIA-2, 3)."""

import re
from datetime import UTC
from typing import Any

import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from sidecar import RELEASED, __version__
from sidecar.fhir.capability_statement import (
    OfferedFeatures,
    capability_statement,
    ehr_snippet,
    smart_configuration,
)
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search_parameters import CHAINS, PARAMETERS, RESULTS
from sidecar.fhir.search_parser import parse_search

BASE = "https://imaging.example.org/fhir"
EHR = "https://ehr.example.org"
APP_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
BACKEND_SERVICES = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


def smart(**known: str | None) -> dict[str, Any]:
    ehr: dict[str, str | None] = {
        "issuer": EHR,
        "authorization": EHR + "/authorize",
        "token": EHR + "/token",
    }
    return smart_configuration(OfferedFeatures(), {}, **(ehr | known))


def statement(document: dict[str, Any] | None = None) -> dict[str, Any]:
    return capability_statement(
        fhir_base=BASE,
        version=__version__,
        released=RELEASED,
        smart=smart() if document is None else document,
    )


@pytest.mark.parametrize("document", [smart(), smart(issuer=None), smart(token=None), {}])
def test_the_statement_is_valid(document: dict[str, Any]) -> None:
    """Also while the EHR's own configuration cannot be had."""
    CapabilityStatement.model_validate(statement(document))


def test_the_statement_says_what_we_are() -> None:
    """SIA-3; R4 cpb-14: an instance says where it is."""
    found = statement()
    assert found["fhirVersion"] == "4.0.1"
    assert found["kind"] == "instance"
    assert found["implementation"]["url"] == BASE
    assert found["software"]["version"] == __version__
    assert found["format"] == ["application/fhir+json"]
    assert found["url"] == BASE + "/metadata"
    assert re.fullmatch("[A-Z][A-Za-z0-9_]{0,254}", found["name"])  # R4 cps-0.
    guide = "http://fhir.org/argonaut/smart-imaging"
    assert found["instantiates"] == [f"{guide}/CapabilityStatement/smart-imaging-server"]
    for kind, profile in (
        ("ImagingStudy", "smart-imaging-study"),
        ("Endpoint", "smart-wado-endpoint"),
    ):
        assert resource(kind)["supportedProfile"] == [f"{guide}/StructureDefinition/{profile}"]


def resource(kind: str) -> dict[str, Any]:
    (rest,) = statement()["rest"]
    assert rest["mode"] == "server"
    return next(one for one in rest["resource"] if one["type"] == kind)


def test_the_statement_names_what_can_be_done() -> None:
    assert {interaction["code"] for interaction in resource("ImagingStudy")["interaction"]} == {
        "read",
        "search-type",
    }
    assert {one["code"] for one in resource("Endpoint")["interaction"]} == {"read"}
    assert {offered["type"] for offered in statement()["rest"][0]["resource"]} == {
        "ImagingStudy",
        "Endpoint",
        "StructureDefinition",
    }


# R4's own types: https://hl7.org/fhir/R4/imagingstudy.html#search
TYPES = {
    "patient": "reference",
    "subject": "reference",
    "identifier": "token",
    "started": "date",
    "_lastUpdated": "date",
    "_id": "token",
    "modality": "token",
    "status": "token",
    "bodysite": "token",
    "reason": "token",
    "series": "token",
    "instance": "token",
    "dicom-class": "token",
    "endpoint": "reference",
}
# The same page, and https://hl7.org/fhir/R4/searchparameter-registry.html.
DEFINITIONS = {
    "patient": "clinical-patient",
    "subject": "ImagingStudy-subject",
    "identifier": "clinical-identifier",
    "started": "ImagingStudy-started",
    "_lastUpdated": "Resource-lastUpdated",
    "_id": "Resource-id",
    "modality": "ImagingStudy-modality",
    "status": "ImagingStudy-status",
    "bodysite": "ImagingStudy-bodysite",
    "reason": "ImagingStudy-reason",
    "series": "ImagingStudy-series",
    "instance": "ImagingStudy-instance",
    "dicom-class": "ImagingStudy-dicom-class",
    "endpoint": "ImagingStudy-endpoint",
}
EXAMPLES = {
    "patient": "123",
    "subject": "Patient/123",
    "identifier": "urn:oid:1.2",
    "started": "ge2024",
    "_lastUpdated": "gt2024-02-29T00:00:00Z",
    "_id": "1.2",
    "modality": "CT",
    "status": "available",
    "bodysite": "CHEST",
    "reason": "http://snomed.info/sct|1",
    "series": "1.2.3",
    "instance": "urn:oid:1.2.3",
    "dicom-class": "urn:oid:1.2.840.10008.5.1.4.1.1.2",
    "endpoint": "Endpoint/123",
}


def test_the_statement_names_what_can_be_searched() -> None:
    """Each parameter that it names is understood, and each that is understood in all of its
    forms and no result parameter is named.
    """
    parameters = {
        parameter["name"]: parameter["type"]
        for parameter in resource("ImagingStudy")["searchParam"]
    }
    assert parameters == TYPES
    definitions = {
        parameter["name"]: parameter["definition"].rpartition("/SearchParameter/")
        for parameter in resource("ImagingStudy")["searchParam"]
    }
    assert {base for base, _, _ in definitions.values()} == {"http://hl7.org/fhir"}
    assert {name: identity for name, (_, _, identity) in definitions.items()} == DEFINITIONS
    chains = set(CHAINS.values())
    partly = {"basedon", "referrer", "performer", "interpreter"}
    missing_alone = {"encounter", "_tag", "_profile", "_security", "_source"}
    refused = {"_filter", "_query", "_text", "_content", "_list"}
    assert set(PARAMETERS) - set(parameters) - set(RESULTS) == (
        {"_after"} | chains | partly | missing_alone | refused
    )
    (include,) = resource("ImagingStudy")["searchInclude"]
    parse_search([*EXAMPLES.items(), ("_include", include)], Site(EHR, UTC), strict=True)


def test_the_statement_leads_to_the_login() -> None:
    """For clients older than smart-configuration."""
    security = statement()["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    (uris,) = security["extension"]
    assert uris["url"] == OAUTH_URIS
    assert {extension["url"]: extension["valueUri"] for extension in uris["extension"]} == {
        "authorize": EHR + "/authorize",
        "token": EHR + "/token",
    }
    assert "extension" not in statement({})["rest"][0]["security"]


def test_the_smart_configuration_offers_app_launch_and_nothing_else() -> None:
    """SIA-2: neither capability implies the other."""
    found = smart()
    assert {"smart-imaging-access", APP_LAUNCH} <= set(found["capabilities"])
    assert BACKEND_SERVICES not in found["capabilities"]
    assert "client_credentials" not in found["grant_types_supported"]
    assert not any(scope.startswith("system/") for scope in found["scopes_supported"])
    assert {"patient/ImagingStudy.rs", "patient/*.read"} <= set(found["scopes_supported"])
    assert found["code_challenge_methods_supported"] == ["S256"]


def test_the_smart_configuration_has_the_ehrs_endpoints() -> None:
    found = smart()
    assert (found["issuer"], found["authorization_endpoint"], found["token_endpoint"]) == (
        EHR,
        EHR + "/authorize",
        EHR + "/token",
    )


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("issuer", "issuer"),
        ("authorization", "authorization_endpoint"),
        ("token", "token_endpoint"),
    ],
)
def test_what_is_not_known_is_left_out(argument: str, name: str) -> None:
    """Never null."""
    found = smart(**{argument: None})
    assert name not in found
    assert None not in found.values()


@pytest.mark.parametrize("app_launch", [True, False])
@pytest.mark.parametrize("backend_services", [True, False])
def test_what_is_switched_on_is_what_is_offered(app_launch: bool, backend_services: bool) -> None:
    """SIA-2: neither implies the other; in our own document and in the EHR's."""
    offered = OfferedFeatures(app_launch, backend_services)
    document = smart_configuration(
        offered, {}, issuer=EHR, authorization=None, token=EHR + "/token"
    )
    snippet = ehr_snippet(BASE, offered)
    (ours,) = snippet["associated_endpoints"]
    for capabilities in (document["capabilities"], ours["capabilities"]):
        assert "smart-imaging-access" in capabilities
        assert (APP_LAUNCH in capabilities) is app_launch
        assert (BACKEND_SERVICES in capabilities) is backend_services
    for said in (document, snippet):
        assert ("client_credentials" in said["grant_types_supported"]) is backend_services
        assert ("authorization_code" in said["grant_types_supported"]) is app_launch
        assert ("system/ImagingStudy.rs" in said["scopes_supported"]) is backend_services
        assert ("patient/ImagingStudy.rs" in said["scopes_supported"]) is app_launch
        methods = said.get("token_endpoint_auth_methods_supported", ())
        assert ("private_key_jwt" in methods) is backend_services
        algorithms = said.get("token_endpoint_auth_signing_alg_values_supported", ())
        assert ({"RS384", "ES384"} <= set(algorithms)) is backend_services


def test_the_ehr_knows_its_authorization_server_better() -> None:
    """SIA-2: what it publishes wins; what we are for is ours to say."""
    published = {
        "scopes_supported": ("system/*.rs",),
        "grant_types_supported": ("client_credentials", "refresh_token"),
        "token_endpoint_auth_signing_alg_values_supported": ("ES384",),
    }
    offered = OfferedFeatures(app_launch=False, backend_services=True)
    document = smart_configuration(offered, published, issuer=EHR, authorization=None, token=None)
    assert document == {
        **published,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["smart-imaging-access", BACKEND_SERVICES],
        "issuer": EHR,
    }

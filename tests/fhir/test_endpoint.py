"""The Endpoint of a patient (SIA-31, 32)."""

from fhir.resources.R4B.endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.endpoint import Endpoints
from tests.fhir.profile import REQUIRES_ACCESS_TOKEN, check_endpoint

ID = "6a9e4f0c-2f0b-4a55-9d2e-6f0f0f0f0f0f"
BASE = "https://imaging.example.org/fhir"
fhir_ids = st.from_regex(r"\A[A-Za-z0-9\-.]{1,64}\Z").filter(lambda text: text.strip(".") != "")


@given(fhir_ids, st.booleans(), st.booleans())
def test_every_endpoint_is_valid(patient: str, contained: bool, older: bool) -> None:
    endpoints = Endpoints(BASE, contained=contained, requires_access_token=older)
    check_endpoint(endpoints.resource(patient))
    Endpoint.model_validate(endpoints.resource(patient))
    local = endpoints.capability("urn:uuid:" + ID, BASE, until="2026-09-30T00:00:00Z")
    check_endpoint(local)
    Endpoint.model_validate(local)


@given(fhir_ids)
def test_the_address_is_the_patients_root(patient: str) -> None:
    """SIA-32: [base]/Patient/123/$wado-rs; every FHIR id goes into a path as it is."""
    endpoints = Endpoints(BASE)
    assert (
        endpoints.resource(patient)["address"]
        == f"{BASE}/Patient/{patient}/$wado-rs"
        == endpoints.address(patient)
    )


def test_a_standing_endpoint_is_referred_to_by_its_id() -> None:
    endpoints = Endpoints(BASE)
    assert endpoints.reference("123") == {"reference": "Endpoint/123"}
    assert endpoints.resource("123")["id"] == "123"


def test_a_contained_endpoint_is_referred_to_inside() -> None:
    endpoints = Endpoints(BASE, contained=True)
    assert endpoints.reference("123") == {"reference": "#e"}
    assert endpoints.resource("123")["id"] == "e"


def test_requires_access_token_is_there_only_when_it_is_asked_for() -> None:
    """SIA-31: then in both of its forms, of a standing Endpoint and of a response-local one."""
    extensions = [{"url": url, "valueBoolean": True} for url in REQUIRES_ACCESS_TOKEN]
    for older, wanted in ((False, None), (True, extensions)):
        endpoints = Endpoints(BASE, requires_access_token=older)
        assert endpoints.resource("123").get("extension") == wanted
        assert endpoints.capability("urn:uuid:" + ID, BASE, until="2026").get("extension") == wanted


def test_two_patients_have_two_endpoints() -> None:
    """Nothing is shared between answers."""
    endpoints = Endpoints(BASE)
    first = endpoints.resource("1")
    first["payloadType"].clear()
    assert endpoints.resource("2")["payloadType"]
    assert endpoints.resource("1")["address"] != endpoints.resource("2")["address"]

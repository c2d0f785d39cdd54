"""The Endpoint of a patient (SIA-31, 32)."""

import pytest
from fhir.resources.R4B.endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from sidecar.fhir.endpoint import Endpoints
from tests.fhir.profile import REQUIRES_ACCESS_TOKEN, REQUIRES_ACCESS_TOKEN_2023, check_endpoint

BASE = "https://imaging.example.org/fhir"
fhir_ids = st.from_regex(r"\A[A-Za-z0-9\-.]{1,64}\Z").filter(lambda text: text.strip(".") != "")


@given(fhir_ids, st.booleans(), st.booleans())
def test_every_endpoint_is_valid(patient: str, contained: bool, compat_2023: bool) -> None:
    endpoint = Endpoints(BASE, contained=contained, compat_2023=compat_2023).resource(patient)
    check_endpoint(endpoint)
    Endpoint.model_validate(endpoint)


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


@pytest.mark.parametrize(
    ("compat_2023", "urls"),
    [(False, [REQUIRES_ACCESS_TOKEN]), (True, [REQUIRES_ACCESS_TOKEN, REQUIRES_ACCESS_TOKEN_2023])],
)
def test_it_says_that_a_token_is_needed(compat_2023: bool, urls: list[str]) -> None:
    """SIA-31: the 2023 URL only when asked for."""
    extensions = Endpoints(BASE, compat_2023=compat_2023).resource("123")["extension"]
    assert extensions == [{"url": url, "valueBoolean": True} for url in urls]


def test_two_patients_have_two_endpoints() -> None:
    """Nothing is shared between answers."""
    endpoints = Endpoints(BASE)
    first = endpoints.resource("1")
    first["extension"].clear()
    assert endpoints.resource("2")["extension"]
    assert endpoints.resource("1")["address"] != endpoints.resource("2")["address"]

"""Scopes, patient and audience at places that a site configures (SIA-10)."""

from typing import Any

import pytest

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.access.scopes import parse_scopes
from sidecar.tokens.claims import (
    MAXIMUM_CONSTRAINTS,
    Claims,
    PatientClaim,
    TokenRequirements,
    WrongShape,
    token_of,
)
from sidecar.tokens.rejection import TokenRejected
from tests.tables.claims import NOW

GRANTS = parse_scopes("patient/ImagingStudy.rs openid")


def placed(answer: dict[str, Any], **claims: Any) -> Token | None:
    """An active answer, read where ``claims`` say that things stand."""
    expected = TokenRequirements(claims=Claims(**claims), fhir_url="https://ehr.example.org/fhir")
    return token_of({"active": True, "exp": NOW + 60} | answer, expected, now=NOW)


@pytest.mark.parametrize("claim", ["scope", "scp"])
@pytest.mark.parametrize("is_named", [False, True])
def test_scopes_are_a_text_or_a_list(claim: str, is_named: bool) -> None:
    for scopes in ("patient/ImagingStudy.rs openid", ["patient/ImagingStudy.rs", "openid"]):
        token = placed({claim: scopes}, **({"scope": ((claim,),)} if is_named else {}))
        assert token is not None
        assert token.grants == GRANTS


@pytest.mark.parametrize(
    ("scope", "scp", "is_one"),
    [
        ("patient/ImagingStudy.rs openid", ["openid", "patient/ImagingStudy.rs"], True),
        ("patient/ImagingStudy.rs openid", None, True),
        (None, "patient/ImagingStudy.rs openid", True),
        ("patient/ImagingStudy.rs", ["openid", "patient/ImagingStudy.rs"], False),
        ("openid", ["patient/ImagingStudy.rs"], False),
        ("", ["patient/ImagingStudy.rs"], False),
        ("patient/ImagingStudy.rs", [], False),
    ],
)
def test_two_places_name_the_same_scopes(scope: object, scp: object, is_one: bool) -> None:
    """Of two that differ nobody knows which counts (SIA-16)."""
    if not is_one:
        with pytest.raises(WrongShape, match="scope"):
            placed({"scope": scope, "scp": scp})
        return
    token = placed({"scope": scope, "scp": scp})
    assert token is not None
    assert set(token.grants) == set(GRANTS)


def test_a_place_that_is_named_is_the_only_one() -> None:
    token = placed({"scope": "patient/ImagingStudy.rs", "scp": ["openid"]}, scope=(("scp",),))
    assert token is not None
    assert token.grants == ()


def test_scopes_on_other_types_count_where_the_site_says_so() -> None:
    """A server without scopes on ImagingStudy; a constraint on reports says nothing of studies."""
    scopes = (
        "patient/DiagnosticReport.rs patient/DiagnosticReport.rs?category=LAB patient/Patient.rs"
    )
    for resources, granted in (
        (("ImagingStudy",), ()),
        (("ImagingStudy", "DiagnosticReport"), parse_scopes("patient/ImagingStudy.rs")),
    ):
        token = placed({"scope": scopes}, scope_resources=resources)
        assert token is not None
        assert token.grants == granted


def test_what_stands_elsewhere() -> None:
    """Vendor shapes by configuration, not by code."""
    answer = {
        "launch_response": {"patient": "123"},
        "azp": "app",
        "https://ehr.example.org/user": "u1",
    }
    token = placed(
        answer,
        patient=(PatientClaim(("launch_response", "patient")),),
        client_id=("azp",),
        subject=("https://ehr.example.org/user",),
    )
    assert token is not None
    assert (token.patient, token.client_id, token.subject) == ("123", "app", "u1")


@pytest.mark.parametrize(
    ("sub", "patient"),
    [
        ("https://ehr.example.org/fhir/Patient/123", "123"),
        ("Patient/123", "123"),
        ("123", None),
        ("https://ehr.example.org/fhir/Practitioner/123", None),
        ("https://other.example.org/fhir/Patient/123", None),
        ("https://ehr.example.org/fhirPatient/123", None),
        ("Patient", None),
    ],
)
def test_a_patient_by_reference(sub: str, patient: str | None) -> None:
    """Of the EHR itself; anything else is no patient."""
    token = placed({"sub": sub}, patient=(PatientClaim(("sub",), is_reference=True),))
    assert token is not None
    assert token.patient == patient


@pytest.mark.parametrize(
    "sub", ["Patient/", "Patient/1/2", "Patient/a b", "https://ehr.example.org/fhir/Patient/1?x=2"]
)
def test_a_reference_to_an_odd_patient_is_a_wrong_shape(sub: str) -> None:
    with pytest.raises(WrongShape):
        placed({"sub": sub}, patient=(PatientClaim(("sub",), is_reference=True),))


def test_several_places_must_name_one_patient() -> None:
    places = (PatientClaim(("patient",)), PatientClaim(("sub",), is_reference=True))
    token = placed({"patient": "1", "sub": "Patient/1"}, patient=places)
    assert token is not None
    assert token.patient == "1"
    with pytest.raises(WrongShape):
        placed({"patient": "1", "sub": "Patient/2"}, patient=places)


def test_a_way_through_something_else_is_a_wrong_shape() -> None:
    with pytest.raises(WrongShape):
        placed({"launch_response": "x"}, patient=(PatientClaim(("launch_response", "patient")),))


@pytest.mark.parametrize(
    ("aud", "good"),
    [
        ("https://imaging.example.org", True),
        (["x", "https://imaging.example.org"], True),
        ("x", False),
        ([], False),
        (None, False),
        ({"https://imaging.example.org": 1}, False),
        (["https://imaging.example.org/"], False),
    ],
)
def test_the_audience(aud: object, good: bool) -> None:
    """With one configured, a token that names none is not for us."""
    answer = {"active": True, "exp": NOW + 60, "aud": aud}
    expected = TokenRequirements(audience=("https://imaging.example.org",))
    if good:
        assert token_of(answer, expected, now=NOW) is not None
        return
    with pytest.raises(TokenRejected) as rejected:
        token_of(answer, expected, now=NOW)
    assert rejected.value.reason is Reason.WRONG_AUDIENCE


def test_the_number_of_constraints_is_bounded() -> None:
    """Each costs time for each study; a token without so many is as it was."""
    scopes = [
        f"patient/ImagingStudy.rs?_id=1.2.{number}" for number in range(MAXIMUM_CONSTRAINTS + 1)
    ]
    answer = {"active": True, "exp": 2_000, "patient": "p1"}
    token = token_of(
        answer | {"scope": " ".join([*scopes[1:], *["openid", "patient/*.rs"] * 500])},
        TokenRequirements(),
        now=1_000,
    )
    assert token is not None
    assert len(token.grants) == MAXIMUM_CONSTRAINTS + 1
    with pytest.raises(WrongShape, match="scope"):
        token_of(answer | {"scope": " ".join(scopes)}, TokenRequirements(), now=1_000)

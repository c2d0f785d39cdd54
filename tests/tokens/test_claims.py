"""An introspection answer -> the facts of a token, none, or a refusal to guess (SIA-10, SIA-16)."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import INVALID_TOKEN, STATUS, Reason
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
from tests.tables.claims import ISSUER, NOW, REJECTIONS

ACTIVE: dict[str, Any] = {
    "active": True,
    "scope": "launch/patient patient/ImagingStudy.rs",
    "client_id": "app",
    "exp": 1_700_000_060,
    "patient": "p1",
}


def read(changes: dict[str, Any], *, issuers: tuple[str, ...] = (ISSUER,)) -> Token | None:
    """The facts of the usual answer with ``changes``; a member changed to ``...`` is left out."""
    answer = {name: value for name, value in (ACTIVE | changes).items() if value is not ...}
    return token_of(answer, TokenRequirements(issuers=issuers), now=NOW)


def test_an_active_token() -> None:
    """SIA-10: every fact where it belongs."""
    assert read(
        {"sub": "u1", "iss": ISSUER, "fhirUser": "Patient/p1", "token_type": "Bearer", "nbf": 1}
    ) == Token(
        grants=parse_scopes("patient/ImagingStudy.rs"),
        expires_at=1_700_000_060.0,
        patient="p1",
        client_id="app",
        subject="u1",
        issuer=ISSUER,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW + 0.5},
        {"exp": 2**40},
        {"exp": 1e300},
        {"nbf": NOW},
        {"nbf": None},
        {"nbf": 0},
        {"iat": "odd"},
        {"iss": ISSUER},
        {"iss": None},
        {"iss": ...},
        {"token_type": "bearer"},
        {"token_type": "BEARER"},
        {"token_type": "access_token"},
        {"token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"token_type": None},
        {"client_id": ...},
        {"unknown": {"deep": [1]}},
        {"token_use": "access"},
        {"token_use": "access_token"},
        {"token_use": None},
        {"typ": "Bearer"},
        {"typ": None},
        {"typ": "at+jwt"},
        {"typ": "application/at+jwt"},
        {"typ": "AT+JWT"},
        {"cnf": None},
        {"token_type": "Bearer", "token_use": "access_token", "typ": "Bearer"},
    ],
    ids=repr,
)
def test_still_an_active_token(changes: dict[str, Any]) -> None:
    """What is optional may be missing, null or unknown to us."""
    token = read(changes)
    assert token is not None
    assert (token.patient, token.grants) == ("p1", parse_scopes("patient/ImagingStudy.rs"))


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": False, "exp": "odd", "scope": 1},
        {"active": False, "token_use": "refresh_token"},
    ],
    ids=repr,
)
def test_not_an_active_token(changes: dict[str, Any]) -> None:
    """SIA-10: by the authorization server's word, whatever else it says."""
    assert read(changes) is None


@pytest.mark.parametrize(
    ("reason", "changes"),
    [(reason, one) for reason, rows in REJECTIONS.items() for one in rows],
    ids=str,
)
def test_an_active_token_that_is_not_good_here(reason: Reason, changes: dict[str, Any]) -> None:
    """SIA-10: 401 as for any token that is none; operators learn which claim, what is expected and
    what came.
    """
    with pytest.raises(TokenRejected) as rejected:
        read(changes)
    assert rejected.value.reason is reason
    assert rejected.value.claim in changes
    assert STATUS[reason] == 401
    assert reason in INVALID_TOKEN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"token_use": "refresh"},
            "wrong_token_type: token_use should be an access token's, and is refresh",
        ),
        ({"iss": "https://x"}, f"wrong_issuer: iss should be {ISSUER}, and is https://x"),
        ({"exp": NOW - 5}, "expired_token: exp should be after 1700000000, and is 1699999995"),
        ({"nbf": NOW + 50}, "not_yet_valid: nbf should be 1700000000 or before, and is 1700000050"),
        ({"cnf": {"jkt": "a-thumbprint"}}, "sender_constrained: it has cnf"),
        (
            {"token_use": "a\x1b[2J\n" + "x" * 1_000},
            "wrong_token_type: token_use should be an access token's, and is "
            "a?[2J?" + "x" * 194 + "…",
        ),
        ({"exp": -1e300}, "expired_token: exp should be after 1700000000, and is <number>"),
    ],
)
def test_operators_see_both_values(changes: dict[str, Any], said: str) -> None:
    """Printable, of bounded length."""
    with pytest.raises(TokenRejected) as rejected:
        read(changes)
    assert rejected.value.for_operators() == said


@pytest.mark.parametrize(
    ("aud", "shown"),
    [
        (None, "the token names none"),
        ("x", "is x"),
        (["x", 1], "is x, <int>"),
        ([], "is <empty>"),
        ({"a": "b"}, "is <dict>"),
        (list("abcdefgh"), "is a, b, c, d, e, …"),
    ],
)
def test_operators_see_both_audiences(aud: object, shown: str) -> None:
    """Several of each."""
    with pytest.raises(TokenRejected) as rejected:
        token_of(ACTIVE | {"aud": aud}, TokenRequirements(audience=("us", "us too")), now=NOW)
    assert (
        rejected.value.for_operators()
        == f"wrong_audience: aud should be one of us, us too, and {shown}"
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"active": "true"}, "active"),
        ({"active": "false"}, "active"),
        ({"active": 1}, "active"),
        ({"active": 0}, "active"),
        ({"active": None}, "active"),
        ({"active": ...}, "active"),
        ({"active": []}, "active"),
        ({"active": {"active": True}}, "active"),
        ({"active": "True"}, "active"),
        ({"active": 1.0}, "active"),
        ({"exp": ...}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": "1900000000"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": math.nan}, "exp"),
        ({"exp": math.inf}, "exp"),
        ({"exp": -math.inf}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": [1_900_000_000]}, "exp"),
        ({"exp": {}}, "exp"),
        ({"exp": "2030-01-01T00:00:00Z"}, "exp"),
        ({"nbf": "0"}, "nbf"),
        ({"nbf": False}, "nbf"),
        ({"nbf": math.nan}, "nbf"),
        ({"nbf": 10**400}, "nbf"),
        ({"scope": ["patient/ImagingStudy.rs", 1]}, "scope"),
        ({"scope": {"a": "b"}}, "scope"),
        ({"scope": 1}, "scope"),
        ({"patient": {"reference": "Patient/p1"}}, "patient"),
        ({"patient": ["p1"]}, "patient"),
        ({"patient": 1}, "patient"),
        ({"patient": "Patient/p1"}, "patient"),
        ({"patient": ""}, "patient"),
        ({"patient": "p1,p2"}, "patient"),
        ({"patient": "*"}, "patient"),
        ({"patient": "../p2"}, "patient"),
        ({"patient": ".."}, "patient"),
        ({"patient": "p1\\p2"}, "patient"),
        ({"patient": "p1\n"}, "patient"),
        ({"patient": "https://other.example.org/fhir/Patient/p1"}, "patient"),
        ({"patient": "x" * 65}, "patient"),
        ({"iss": 1}, "iss"),
        ({"iss": [ISSUER]}, "iss"),
        ({"client_id": 1}, "client_id"),
        ({"sub": {}}, "sub"),
        ({"sub": "a\ud800"}, "sub"),
        ({"sub": "a\u2028b"}, "sub"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"sub": "x" * 513}, "sub"),
        ({"iss": "a\x1b[0m"}, "iss"),
        ({"token_type": ["bearer"]}, "token_type"),
        ({"token_type": True}, "token_type"),
        ({"typ": 1}, "typ"),
        ({"token_use": ["access"]}, "token_use"),
        ({"typ": {}}, "typ"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_wrong_shape_is_not_guessed_at(changes: dict[str, Any], field: str) -> None:
    """SIA-16: ``"true"`` and ``1`` are not ``true``; the failure names the member and never its
    value.
    """
    with pytest.raises(WrongShape) as wrong:
        read(changes)
    assert wrong.value.field == field
    assert str(wrong.value) == f"introspection answer: {field}"


@pytest.mark.parametrize("scope", [..., None, "", " ", "openid"])
def test_a_token_without_scope_has_no_grants(scope: object) -> None:
    """SIA-11, 14: active, and good for nothing."""
    token = read({"scope": scope})
    assert token is not None
    assert token.grants == ()


@pytest.mark.parametrize("patient", [..., None])
def test_a_token_without_patient(patient: object) -> None:
    """SIA-14: no context is no patient; ``sub`` and ``fhirUser`` are never taken for one."""
    token = read({"patient": patient, "sub": "p1", "fhirUser": "Patient/p1"})
    assert token is not None
    assert token.patient is None


def test_any_issuer_when_none_is_configured() -> None:
    """``ehr.issuer`` is optional."""
    assert read({"iss": "https://other.example.org"}, issuers=()) is not None


@pytest.mark.parametrize("exp", [..., None])
def test_an_answer_without_exp_is_good_for_a_while(exp: object) -> None:
    """RFC 7662: ``exp`` is optional. For as long as the caller says, from now; without that it is a
    wrong shape.
    """
    answer = {name: value for name, value in (ACTIVE | {"exp": exp}).items() if value is not ...}
    token = token_of(answer, TokenRequirements(lifetime_seconds=60, leeway_seconds=30), now=NOW)
    assert token is not None
    assert token.expires_at == NOW + 60
    with pytest.raises(WrongShape, match="exp"):
        token_of(answer, TokenRequirements(), now=NOW)
    with pytest.raises(TokenRejected):
        token_of(answer | {"exp": NOW - 1}, TokenRequirements(lifetime_seconds=60), now=NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "active": st.sampled_from([True, True, True, False, "true", 1, None]) | JSON,
    "exp": st.sampled_from(
        [NOW - 1, NOW, NOW + 1, 1_900_000_000, "1900000000", True, math.nan, 10**400]
    )
    | JSON,
    "nbf": st.sampled_from([NOW - 1, NOW, NOW + 1, None]) | JSON,
    "iss": st.sampled_from([ISSUER, "https://other.example.org", None]) | JSON,
    "token_type": st.sampled_from(["Bearer", "DPoP", None]) | JSON,
    "token_use": st.sampled_from(["access", "refresh", None]) | JSON,
    "scope": st.sampled_from(["patient/ImagingStudy.rs", "patient/*.read system/*.rs"]) | JSON,
    "patient": st.sampled_from(["p1", "Patient/p1", None]) | JSON,
    "client_id": st.text() | JSON,
    "sub": st.text() | JSON,
}
ANSWERS = st.fixed_dictionaries({}, optional=MEMBERS) | st.dictionaries(st.text(), JSON)


def outcome(answer: dict[str, Any], issuer: str | None) -> tuple[Token | None, str | None]:
    """The facts, or the member that is wrong; no other failure."""
    try:
        return token_of(
            answer, TokenRequirements(issuers=(issuer,) if issuer else ()), now=NOW
        ), None
    except TokenRejected:
        return None, None
    except WrongShape as wrong:
        return None, wrong.field


@given(ANSWERS, st.sampled_from([None, ISSUER]))
@example(ACTIVE, ISSUER)
def test_any_answer_is_a_live_token_or_none_or_refused(
    answer: dict[str, Any], issuer: str | None
) -> None:
    """SIA-10, 16: no other failure; a token comes from ``active: true`` and a future ``exp``."""
    token, wrong = outcome(answer, issuer)
    assert wrong is None or wrong in MEMBERS
    if token is None:
        return
    assert answer["active"] is True
    assert type(answer["exp"]) in (int, float)
    assert token.expires_at == answer["exp"] > NOW
    assert math.isfinite(token.expires_at)
    assert answer.get("nbf") is None or answer["nbf"] <= NOW
    assert issuer is None or answer.get("iss") in (None, issuer)
    assert answer.get("token_use") in (None, "access")
    assert token.patient == answer.get("patient")
    assert set(token.grants) == set(parse_scopes(answer.get("scope") or ""))


@given(st.sampled_from(sorted(MEMBERS)), JSON)
def test_one_odd_member_never_widens(name: str, value: Any) -> None:
    """SIA-16: whatever one member becomes, the others keep their meaning."""
    token, wrong = outcome(ACTIVE | {name: value}, ISSUER)
    assert wrong in (None, name)
    if token is not None:
        assert name == "patient" or token.patient == "p1"
        assert name == "scope" or token.grants == parse_scopes(ACTIVE["scope"])


GRANTS = parse_scopes("patient/ImagingStudy.rs openid")


def placed(answer: dict[str, Any], **claims: Any) -> Token | None:
    """An active answer, read where ``claims`` say that things stand."""
    expected = TokenRequirements(claims=Claims(**claims), fhir_url="https://ehr.example.org/fhir")
    return token_of({"active": True, "exp": NOW + 60} | answer, expected, now=NOW)


@pytest.mark.parametrize("claim", ["scope", "scp"])
def test_scopes_are_a_text_or_a_list(claim: str) -> None:
    for scopes in ("patient/ImagingStudy.rs openid", ["patient/ImagingStudy.rs", "openid"]):
        found = placed({claim: scopes}, scope=(claim,))
        assert found is not None
        assert found.grants == GRANTS


def test_what_stands_elsewhere() -> None:
    """Vendor shapes by configuration, not by code."""
    answer = {
        "launch_response": {"patient": "123"},
        "azp": "app",
        "https://ehr.example.org/user": "u1",
    }
    found = placed(
        answer,
        patient=(PatientClaim(("launch_response", "patient")),),
        client_id=("azp",),
        subject=("https://ehr.example.org/user",),
    )
    assert found is not None
    assert (found.patient, found.client_id, found.subject) == ("123", "app", "u1")


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
    found = placed({"sub": sub}, patient=(PatientClaim(("sub",), is_reference=True),))
    assert found is not None
    assert found.patient == patient


@pytest.mark.parametrize(
    "sub", ["Patient/", "Patient/1/2", "Patient/a b", "https://ehr.example.org/fhir/Patient/1?x=2"]
)
def test_a_reference_to_an_odd_patient_is_a_wrong_shape(sub: str) -> None:
    with pytest.raises(WrongShape):
        placed({"sub": sub}, patient=(PatientClaim(("sub",), is_reference=True),))


def test_several_places_must_name_one_patient() -> None:
    places = (PatientClaim(("patient",)), PatientClaim(("sub",), is_reference=True))
    found = placed({"patient": "1", "sub": "Patient/1"}, patient=places)
    assert found is not None
    assert found.patient == "1"
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


def test_clocks_may_be_wrong_by_the_leeway() -> None:
    answer = {"active": True, "exp": NOW - 10, "nbf": NOW + 10}
    with pytest.raises(TokenRejected):
        token_of(answer, TokenRequirements(), now=NOW)
    found = token_of(answer, TokenRequirements(leeway_seconds=30), now=NOW)
    assert found is not None
    assert found.expires_at == NOW + 20


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

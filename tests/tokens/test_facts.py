"""An introspection answer -> the facts of a token, none, or a refusal to guess (SIA-10, SIA-16)."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.scopes import parse_scopes
from sidecar.access.token import Token
from sidecar.tokens.facts import WrongShape, token_of

NOW = 1_700_000_000.0
ISSUER = "https://ehr.example.org"
ACTIVE: dict[str, Any] = {
    "active": True,
    "scope": "launch/patient patient/ImagingStudy.rs",
    "client_id": "app",
    "exp": 1_700_000_060,
    "patient": "p1",
}


def read(changes: dict[str, Any], *, issuer: str | None = ISSUER) -> Token | None:
    """The facts of the usual answer with ``changes``; a member changed to ``...`` is left out."""
    answer = {name: value for name, value in (ACTIVE | changes).items() if value is not ...}
    return token_of(answer, issuer=issuer, now=NOW)


def test_an_active_token() -> None:
    """SIA-10: every fact where it belongs."""
    assert read({"sub": "u1", "iss": ISSUER, "fhirUser": "Patient/p1", "token_type": "Bearer", "nbf": 1}) == Token(
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
        {"exp": NOW + 0.5}, {"exp": 2**40}, {"exp": 1e300}, {"nbf": NOW}, {"nbf": None}, {"nbf": 0}, {"iat": "odd"},
        {"iss": ISSUER}, {"iss": None}, {"iss": ...}, {"token_type": "bearer"}, {"token_type": "BEARER"},
        {"token_type": "access_token"}, {"token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"token_type": None}, {"client_id": ...}, {"unknown": {"deep": [1]}},
    ],
    ids=repr,
)  # fmt: skip
def test_still_an_active_token(changes: dict[str, Any]) -> None:
    """What is optional may be missing, null or unknown to us."""
    token = read(changes)
    assert token is not None
    assert (token.patient, token.grants) == ("p1", parse_scopes("patient/ImagingStudy.rs"))


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False}, {"active": False, "exp": "odd", "scope": 1}, {"exp": NOW}, {"exp": NOW - 1}, {"exp": 0},
        {"exp": -1}, {"exp": -1e300}, {"nbf": NOW + 0.001}, {"nbf": NOW + 3600}, {"iss": "https://other.example.org"},
        {"iss": ISSUER + "/"}, {"iss": ISSUER.upper()}, {"iss": ""}, {"token_type": "refresh_token"},
        {"token_type": "DPoP"}, {"token_type": "dpop"}, {"token_type": "Refresh"}, {"token_type": "mac"},
        {"token_type": "N_A"}, {"token_type": ""}, {"token_type": "bearer "}, {"token_type": "id_token"},
        {"token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"token_type": "urn:ietf:params:oauth:token-type:id_token"},
    ],
    ids=repr,
)  # fmt: skip
def test_not_an_active_token(changes: dict[str, Any]) -> None:
    """SIA-10: expired (to the second), not yet, of another issuer, or no bearer access token: 401, not a failure."""
    assert read(changes) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"active": "true"}, "active"), ({"active": "false"}, "active"), ({"active": 1}, "active"),
        ({"active": 0}, "active"), ({"active": None}, "active"), ({"active": ...}, "active"),
        ({"active": []}, "active"),
        ({"active": {"active": True}}, "active"), ({"active": "True"}, "active"), ({"active": 1.0}, "active"),
        ({"exp": ...}, "exp"), ({"exp": None}, "exp"), ({"exp": "1900000000"}, "exp"), ({"exp": True}, "exp"),
        ({"exp": math.nan}, "exp"), ({"exp": math.inf}, "exp"), ({"exp": -math.inf}, "exp"), ({"exp": 10**400}, "exp"),
        ({"exp": [1_900_000_000]}, "exp"), ({"exp": {}}, "exp"), ({"exp": "2030-01-01T00:00:00Z"}, "exp"),
        ({"nbf": "0"}, "nbf"), ({"nbf": False}, "nbf"), ({"nbf": math.nan}, "nbf"), ({"nbf": 10**400}, "nbf"),
        ({"scope": ["patient/ImagingStudy.rs"]}, "scope"), ({"scope": {"a": "b"}}, "scope"), ({"scope": 1}, "scope"),
        ({"patient": {"reference": "Patient/p1"}}, "patient"), ({"patient": ["p1"]}, "patient"),
        ({"patient": 1}, "patient"), ({"patient": "Patient/p1"}, "patient"), ({"patient": ""}, "patient"),
        ({"patient": "p1,p2"}, "patient"), ({"patient": "*"}, "patient"), ({"patient": "../p2"}, "patient"),
        ({"patient": ".."}, "patient"), ({"patient": "p1\\p2"}, "patient"), ({"patient": "p1\n"}, "patient"),
        ({"patient": "https://other.example.org/fhir/Patient/p1"}, "patient"), ({"patient": "x" * 65}, "patient"),
        ({"iss": 1}, "iss"), ({"iss": [ISSUER]}, "iss"), ({"client_id": 1}, "client_id"), ({"sub": {}}, "sub"),
        ({"sub": "a\ud800"}, "sub"), ({"sub": "a\u2028b"}, "sub"), ({"client_id": "a\nb"}, "client_id"),
        ({"sub": "x" * 513}, "sub"), ({"iss": "a\x1b[0m"}, "iss"),
        ({"token_type": ["bearer"]}, "token_type"), ({"token_type": True}, "token_type"),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
def test_a_wrong_shape_is_not_guessed_at(changes: dict[str, Any], field: str) -> None:
    """SIA-16: ``"true"`` and ``1`` are not ``true``; the failure names the member and never its value."""
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
    assert read({"iss": "https://other.example.org"}, issuer=None) is not None


@pytest.mark.parametrize(
    "changes",
    [{"token_use": "id"}, {"token_use": "refresh"}, {"typ": "Refresh"}, {"typ": "ID"}, {"cnf": {"jkt": "x"}},
     {"cnf": {"x5t#S256": "x"}, "token_type": "Bearer"}],
    ids=repr,
)  # fmt: skip
def test_a_token_that_says_it_is_no_plain_access_token(changes: dict[str, Any]) -> None:
    """SIA-10: an ID or refresh token, or one bound to a key (RFC 9449 6.2, RFC 8705 3.2) whose proof nobody checks."""
    assert read(changes) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "active": st.sampled_from([True, True, True, False, "true", 1, None]) | JSON,
    "exp": st.sampled_from([NOW - 1, NOW, NOW + 1, 1_900_000_000, "1900000000", True, math.nan, 10**400]) | JSON,
    "nbf": st.sampled_from([NOW - 1, NOW, NOW + 1, None]) | JSON,
    "iss": st.sampled_from([ISSUER, "https://other.example.org", None]) | JSON,
    "token_type": st.sampled_from(["Bearer", "DPoP", None]) | JSON,
    "scope": st.sampled_from(["patient/ImagingStudy.rs", "patient/*.read system/*.rs"]) | JSON,
    "patient": st.sampled_from(["p1", "Patient/p1", None]) | JSON,
    "client_id": st.text() | JSON,
    "sub": st.text() | JSON,
}
ANSWERS = st.fixed_dictionaries({}, optional=MEMBERS) | st.dictionaries(st.text(), JSON)


def outcome(answer: dict[str, Any], issuer: str | None) -> tuple[Token | None, str | None]:
    """The facts, or the member that is wrong; no other failure."""
    try:
        return token_of(answer, issuer=issuer, now=NOW), None
    except WrongShape as wrong:
        return None, wrong.field


@given(ANSWERS, st.sampled_from([None, ISSUER]))
@example(ACTIVE, ISSUER)
def test_any_answer_is_a_live_token_or_none_or_refused(answer: dict[str, Any], issuer: str | None) -> None:
    """SIA-10, 16: no other failure, and no token but from ``active: true`` with an ``exp`` ahead."""
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

"""An introspection answer -> the facts of a token, none, or a refusal to guess (SIA-10, SIA-16)."""

import math
from typing import Any

import pytest

from sidecar.access.facts import Token
from sidecar.access.reasons import INVALID_TOKEN, STATUS, Reason
from sidecar.access.scopes import parse_scopes
from sidecar.tokens.claims import (
    TokenRequirements,
    WrongShape,
    token_of,
)
from sidecar.tokens.rejection import TokenRejected
from tests.tables.claims import ISSUER, NOW, REJECTIONS
from tests.tokens.active_answers import ACTIVE


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
    [(reason, changes) for reason, rows in REJECTIONS.items() for changes in rows],
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
    ("changes", "logged"),
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
def test_operators_see_both_values(changes: dict[str, Any], logged: str) -> None:
    """Printable, of bounded length."""
    with pytest.raises(TokenRejected) as rejected:
        read(changes)
    assert rejected.value.for_operators() == logged


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


def test_clocks_may_be_wrong_by_the_leeway() -> None:
    answer = {"active": True, "exp": NOW - 10, "nbf": NOW + 10}
    with pytest.raises(TokenRejected):
        token_of(answer, TokenRequirements(), now=NOW)
    token = token_of(answer, TokenRequirements(leeway_seconds=30), now=NOW)
    assert token is not None
    assert token.expires_at == NOW + 20

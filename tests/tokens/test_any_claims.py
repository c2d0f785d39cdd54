"""Any introspection answer, by Hypothesis: a live token, none, or a refusal to guess (SIA-16)."""

import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.scopes import parse_scopes
from sidecar.tokens.claims import (
    TokenRequirements,
    WrongShape,
    token_of,
)
from sidecar.tokens.rejection import TokenRejected
from tests.tables.claims import ISSUER, NOW
from tests.tokens.active_answers import ACTIVE

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

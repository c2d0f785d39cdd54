"""The access token in a request's Authorization header (RFC 6750 2.1): exactly one, or refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tokens.bearer import MAXIMUM_LENGTH, MalformedCredentials, bearer_token

JWT = "eyJhbGciOiJSUzM4NCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"Bearer {JWT}", JWT),
        (f"bearer {JWT}", JWT),
        (f"BEARER {JWT}", JWT),
        (f"bEaReR {JWT}", JWT),
        ("Bearer   abc", "abc"),
        ("Bearer a", "a"),
        ("Bearer AZaz09-._~+/", "AZaz09-._~+/"),
        ("Bearer abc==", "abc=="),
        ("Bearer Bearer", "Bearer"),
        ("Bearer " + "a" * MAXIMUM_LENGTH, "a" * MAXIMUM_LENGTH),
    ],
    ids=lambda value: value[:30],
)
def test_one_well_formed_token(header: str, token: str) -> None:
    """The scheme's case does not count (RFC 9110 11.1), the token's does."""
    assert bearer_token([header]) == token


def test_no_header_is_no_token() -> None:
    """Different from a wrong one: 401 without ``error`` (RFC 6750 3.1)."""
    assert bearer_token([]) is None


@pytest.mark.parametrize(
    "headers",
    [
        ["Bearer a", "Bearer b"],
        ["Bearer a", "Bearer a"],
        ["Bearer a", ""],
        ["Basic eDp5", "Bearer a"],
        [""],
        [" "],
        ["Bearer"],
        ["Bearer "],
        ["Bearer    "],
        ["a"],
        [JWT],
        ["Basic eDp5"],
        ["DPoP a"],
        ["Token a"],
        ["Bearer a,b"],
        ["Bearer a, Bearer b"],
        ["Bearer a b"],
        ["Bearer a "],
        ["Bearer a\t"],
        [" Bearer a"],
        ["Bearer\ta"],
        ["Bearera"],
        ["Bearer:a"],
        ["Bearer=a"],
        ['Bearer "a"'],
        ["Bearer token=a"],
        ["Bearer a;b"],
        ["Bearer a=b"],
        ["Bearer =a"],
        ["Bearer ="],
        ["Bearer a%20b"],
        ["Bearer a*"],
        ["Bearer a\\b"],
        ["Bearer a?b"],
        ["Bearer a\n"],
        ["Bearer a\r\nX: y"],
        ["Bearer a\x00"],
        ["Bearer \u00e4"],
        ["Bearer \uff41"],
        ["Beare\u0280 a"],
        ["Bearer a\u00a0"],
        ["Bearer \ud800"],
        ["Bearer " + "a" * (MAXIMUM_LENGTH + 1)],
        ["Bearer " + "a" * 100_000],
        ["Bearer " + "," * 100_000],
        ["Bearer" + " " * 100_000],
        ["Bearer " + "=" * 100_000],
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_anything_else_is_malformed(headers: list[str]) -> None:
    """Which of two credentials a peer would pick is not ours to guess; the failure does not quote
    them.
    """
    with pytest.raises(MalformedCredentials) as malformed:
        bearer_token(headers)
    assert str(malformed.value) in ("not one bearer token", "more than one Authorization header")


@given(st.text() | st.text(alphabet="Bearerb  a.,=\t\n").map(lambda text: f"Bearer {text}"))
def test_any_header_is_a_token_or_malformed(header: str) -> None:
    """A token is RFC 6750's ``b64token``, and the whole rest of the header."""
    try:
        token = bearer_token([header])
    except MalformedCredentials:
        return
    assert token is not None
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token)
    assert header[:7].lower() == "bearer "
    assert header[7:].lstrip(" ") == token


@pytest.mark.parametrize(
    "headers",
    [["Bearer recognizable,token"], ["recognizable"], ["Bearer recognizable", "Bearer b"]],
)
def test_the_failure_does_not_quote_the_header(
    headers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-54's spirit: credentials are in no log and no exception text."""
    with pytest.raises(MalformedCredentials) as malformed:
        bearer_token(headers)
    assert "recognizable" not in str(malformed.value) + repr(malformed.value) + caplog.text
    assert malformed.value.__context__ is None

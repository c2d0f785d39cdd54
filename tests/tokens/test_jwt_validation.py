"""Verify signed access tokens: RFC 8725's list of what goes wrong with JWTs (SIA-10, 16)."""

import base64
import contextlib
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.jwks import REFRESH_SECONDS
from sidecar.tokens.jwt_validation import LocalThenIntrospection, LocalValidation
from sidecar.tokens.rejection import TokenRejected
from sidecar.tokens.signatures import NotSigned, Signatures, _header
from tests.common.peer import Clock, Peer, Reply
from tests.tables.tokens import REFUSED, with_header
from tests.tokens.signing import (
    ALGORITHMS,
    AUDIENCE,
    EC_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    claims,
    jwks,
    public,
    sign,
    validation,
)


async def validated(
    session: aiohttp.ClientSession, peer: Peer, token: str, **options: Any
) -> Token | None:
    """What a token is, with the usual keys."""
    peer.say(Reply(jwks()))
    return await validation(session, peer, **options).validate(token)


async def refused_for(validating: LocalValidation, token: str) -> Reason | None:
    """Why it is refused, ``None`` when it is good, or says that it is not active."""
    try:
        await validating.validate(token)
    except TokenRejected as rejected:
        return rejected.reason
    return None


@pytest.mark.parametrize(
    "token",
    [
        sign(claims()),
        with_header({"alg": "RS256", "kid": "one"}),
        sign(claims(), EC_KEY, "ES384", "two"),
        sign(claims(), key_id=None),
        sign(claims(aud=["x", AUDIENCE])),
        sign(claims(scope=["patient/ImagingStudy.rs"])),
        sign(claims(), typ="at+jwt"),
    ],
)
async def test_good_tokens(session: aiohttp.ClientSession, peer: Peer, token: str) -> None:
    found = await validated(session, peer, token)
    assert found is not None
    assert (found.patient, found.client_id, found.issuer) == ("p1", "app", ISSUER)


MISFITS = {
    "no expiry": sign(claims(exp=None)),
    "odd expiry": sign(claims(exp="x")),
    "issued at a truth": sign(claims(iat=None) | {"iat": True}),
    "a patient in an object": sign(claims(patient={})),
    "a subject in numbers": sign(claims(sub=None) | {"sub": 4711}),
    "an odd kind": sign(claims(typ=["at+jwt"])),
}


@pytest.mark.parametrize(
    ("reason", "token"),
    [
        pytest.param(reason, token, id=name)
        for reason, rows in REFUSED.items()
        for name, token in rows.items()
    ],
)
async def test_bad_tokens(
    session: aiohttp.ClientSession, peer: Peer, reason: Reason | None, token: str
) -> None:
    """Each with its reason, which is the metric's label; ``None``: it says itself that it is not
    active.
    """
    outcomes: list[str] = []
    peer.say(Reply(jwks()))
    assert (
        await refused_for(
            validation(session, peer, observe=lambda what, _: outcomes.append(what)), token
        )
        == reason
    )
    assert outcomes == [reason or "inactive"]


@pytest.mark.parametrize("case", MISFITS)
async def test_what_is_signed_and_cannot_be_used(
    session: aiohttp.ClientSession, peer: Peer, case: str
) -> None:
    """502: the authorization server means it, so that neither a repetition nor another login will
    mend it.
    """
    with pytest.raises(BadGateway):
        await validated(session, peer, MISFITS[case])


async def test_the_type_that_is_wanted(session: aiohttp.ClientSession, peer: Peer) -> None:
    """RFC 9068: with ``at+jwt`` wanted, an ID token cannot pass even if it names us."""
    for header, good in (
        ({"typ": "at+jwt"}, True),
        ({"typ": "application/AT+JWT"}, True),
        ({}, False),
    ):
        peer.say(Reply(jwks()))
        found = await refused_for(
            validation(session, peer, token_type="at+jwt"), sign(claims(), **header)
        )
        assert found == (None if good else Reason.WRONG_TOKEN_TYPE)


@given(
    text=st.text(max_size=60)
    | st.from_regex(r"[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}")
)
def test_any_text_is_looked_at_without_harm(text: str) -> None:
    with contextlib.suppress(NotSigned):
        assert isinstance(_header(text), dict)


async def test_no_audience_no_validation(session: aiohttp.ClientSession, peer: Peer) -> None:
    async def issuer() -> str:
        return ISSUER

    with pytest.raises(ValueError, match="ID token"):
        LocalValidation(
            Signatures(validation(session, peer)._signatures._jwks, ALGORITHMS),
            issuer,
            TokenRequirements(),
        )


async def test_keys_are_kept_and_rotate(session: aiohttp.ClientSession, peer: Peer) -> None:
    """A new kid is looked up, not more than every ten seconds whatever comes; a key withdrawn ends
    with its time.
    """
    clock = Clock()
    peer.say(Reply(jwks(public(RSA_KEY, "one"))))
    validating = validation(session, peer, clock)
    for _ in range(5):
        assert await validating.validate(sign(claims()))
    assert len(peer.asked) == 1
    peer.say(Reply(jwks(public(OTHER_RSA_KEY, "new"))))
    new = sign(claims(), OTHER_RSA_KEY, key_id="new")
    assert await refused_for(validating, new)  # The keys were fetched a moment ago.
    clock.now += REFRESH_SECONDS
    for _ in range(5):
        assert await validating.validate(new)
        assert await refused_for(validating, sign(claims()))
    assert len(peer.asked) == 2
    peer.say(Reply(status=500))
    clock.now += 599
    assert await validating.validate(new)
    clock.now += 2
    with pytest.raises(Unavailable):
        await validating.validate(new)


async def test_junk_does_not_reach_the_authorization_server(
    session: aiohttp.ClientSession, peer: Peer
) -> None:
    peer.say(Reply(jwks()))
    validating = validation(session, peer)
    for number in range(50):
        assert await refused_for(validating, sign(claims(), key_id=f"junk-{number}"))
    assert len(peer.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply("<html>"),
        Reply([]),
        Reply({"keys": {}}),
        Reply({"keys": [{}] * 101}),
    ],
)
async def test_without_keys_nothing_is_decided(
    session: aiohttp.ClientSession, peer: Peer, reply: Reply
) -> None:
    peer.say(reply)
    with pytest.raises(Unavailable):
        await validation(session, peer).validate(sign(claims()))


async def test_odd_keys_spoil_nothing(session: aiohttp.ClientSession, peer: Peer) -> None:
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "one"}
    odd = [
        1,
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        secret,
        public(OTHER_RSA_KEY, "one", use="enc"),
    ]
    peer.say(Reply({"keys": [*odd, public(RSA_KEY, "one")]}))
    assert await validation(session, peer).validate(sign(claims()))


async def test_a_key_for_one_algorithm_alone(session: aiohttp.ClientSession, peer: Peer) -> None:
    peer.say(Reply(jwks(public(RSA_KEY, "one", alg="RS512"))))
    assert await refused_for(validation(session, peer), sign(claims())) is Reason.UNVERIFIED_TOKEN


TOKEN = Token((), 2e9, patient="p1", client_id="app")


@pytest.mark.parametrize(
    ("local", "introspected", "patient"),
    [(None, TOKEN, None), (TOKEN, None, None), (TOKEN, TOKEN, "p1"), (Token((), 3e9), TOKEN, "p1")],
)
async def test_both_must_agree(
    local: Token | None, introspected: Token | None, patient: str | None
) -> None:
    asked: list[str] = []
    found = await both(local, introspected, asked).validate("x")
    assert (found.patient if found else None) == patient
    assert len(asked) == (local is not None)  # What is refused here costs the EHR nothing.


@pytest.mark.parametrize("local", [Token((), 3e9, patient="p2"), Token((), 3e9, client_id="other")])
async def test_both_must_speak_of_the_same(local: Token, caplog: pytest.LogCaptureFixture) -> None:
    """Of one patient and one app; neither is named in the log."""
    with pytest.raises(TokenRejected) as rejected:
        await both(local, TOKEN, []).validate("x")
    assert rejected.value.reason is Reason.CONTRADICTORY_TOKEN
    (record,) = caplog.records
    assert vars(record)["claim"] in ("patient", "client_id")
    assert not {"p1", "p2", "other"} & set(map(str, vars(record).values()))


def both(
    local: Token | None, introspected: Token | None, asked: list[str]
) -> LocalThenIntrospection:
    """What each of them says."""

    async def check(token: str) -> Token | None:
        return local

    async def introspect(token: str) -> Token | None:
        asked.append(token)
        return introspected

    return LocalThenIntrospection(check, introspect)

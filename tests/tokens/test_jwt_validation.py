"""Signed access tokens, verified here: RFC 8725's list of what goes wrong with JWTs (SIA-10, 16)."""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.jwks import REFRESH_SECONDS, Jwks
from sidecar.tokens.jwt_validation import LocalThenIntrospection, LocalValidation
from sidecar.tokens.rejection import TokenRejected
from sidecar.tokens.signatures import NotSigned, Signatures, _header
from tests.common.peer import Clock, Peer, Reply
from tests.tokens.signing import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    claims,
    jwks,
    public,
    sign,
)

ALGORITHMS = ("RS256", "ES384")


def validation(
    session: aiohttp.ClientSession, peer: Peer, clock: Clock | None = None, **options: Any
) -> LocalValidation:
    """Before the keys that ``peer`` publishes."""

    async def url() -> str:
        return peer.url + "/jwks"

    async def issuer() -> str:
        return ISSUER

    keys = Jwks(session, url, timeout_seconds=60, clock=clock or Clock())
    expected = TokenRequirements(audience=(AUDIENCE,), leeway_seconds=30)
    return LocalValidation(Signatures(keys, ALGORITHMS), issuer, expected, **options)


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


def with_header(header: dict[str, Any], **changes: Any) -> str:
    """Well signed under just this header: PyJWT by itself leaves names out."""
    parts = (header, claims(**changes))
    signed = b".".join(
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in parts
    )
    signature = RSA_KEY.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    "token",
    [sign(claims()), with_header({"alg": "RS256", "kid": "one"}), sign(claims(), EC_KEY, "ES384", "two"),
     sign(claims(), key_id=None),
     sign(claims(aud=["x", AUDIENCE])), sign(claims(scope=["patient/ImagingStudy.rs"])), sign(claims(), typ="at+jwt")],
)  # fmt: skip
async def test_good_tokens(session: aiohttp.ClientSession, peer: Peer, token: str) -> None:
    found = await validated(session, peer, token)
    assert found is not None
    assert (found.patient, found.client_id, found.issuer) == ("p1", "app", ISSUER)


def unsigned(algorithm: str) -> str:
    """``alg: none`` in its spellings."""
    parts = [{"alg": algorithm, "typ": "JWT"}, claims()]
    return (
        ".".join(
            base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode()
            for one in parts
        )
        + "."
    )


def hmac_with_the_public_key() -> str:
    """The classic confusion: RS256's public key as an HMAC secret."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    mac = hmac.new(pem, head + b"." + body, hashlib.sha256).digest()
    return b".".join((head, body, base64.urlsafe_b64encode(mac).rstrip(b"="))).decode()


def tampered() -> str:
    head, _, signature = sign(claims()).split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(patient="p2")).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


def twice() -> str:
    """Two readings of one name: PyJWT alone would take the second."""
    text = json.dumps(claims())[:-1] + ', "patient": "p2"}'
    return jwt.PyJWS().encode(text.encode(), RSA_KEY, algorithm="RS256", headers={"kid": "one"})


def in_utf_16() -> str:
    """Well signed, and JSON for whoever guesses the encoding."""
    text = json.dumps(claims()).encode("utf-16")
    return jwt.PyJWS().encode(text, RSA_KEY, algorithm="RS256", headers={"kid": "one"})


NOW = int(time.time())
REFUSED: dict[Reason | None, dict[str, str]] = {
    Reason.UNVERIFIED_TOKEN: {
        "none": unsigned("none"), "None": unsigned("None"), "NONE": unsigned("NONE"),
        "hmac": hmac_with_the_public_key(), "tampered": tampered(), "a name twice": twice(),
        "another key": sign(claims(), OTHER_RSA_KEY), "another kid": sign(claims(), key_id="three"),
        "an algorithm that is not allowed": sign(claims(), algorithm="RS512"),
        "PS256": sign(claims(), algorithm="PS256"),
        "another kind of key": sign(claims(), EC_KEY, "ES384", "one"),
        "its own key": sign(claims(), OTHER_RSA_KEY, key_id=None, jwk=public(OTHER_RSA_KEY)),
        "a key elsewhere": sign(claims(), OTHER_RSA_KEY, key_id=None, jku="https://evil.example.org/jwks"),
        "crit": sign(claims(), crit=["exp"]), "b64": with_header({"alg": "RS256", "kid": "one", "b64": True}),
        "UTF-16": in_utf_16(), "opaque": "abc", "empty": "", "dots": "..", "four parts": sign(claims()) + ".x",
        "no json": "YQ.YQ.YQ", "huge": sign(claims(more="x" * 20_000)), "not ascii": "é.é.é", "a list": "W10.W10.W10",
    },
    Reason.WRONG_ISSUER: {
        "another issuer": sign(claims(iss="https://evil.example.org")), "no issuer": sign(claims(iss=None)),
    },
    Reason.WRONG_AUDIENCE: {"another audience": sign(claims(aud="app")), "no audience": sign(claims(aud=None))},
    Reason.EXPIRED_TOKEN: {"expired": sign(claims(exp=NOW - 60))},
    Reason.NOT_YET_VALID: {
        "not yet": sign(claims(nbf=NOW + 86_400)), "issued later": sign(claims(iat=NOW + 86_400)),
    },
    Reason.SENDER_CONSTRAINED: {"bound to a key": sign(claims(cnf={"jkt": "x"}))},
    Reason.WRONG_TOKEN_TYPE: {
        "a refresh token of Keycloak": sign(claims(typ="Refresh")), "of Hydra": sign(claims(token_use="refresh_token")),
        "an ID token of Cognito": sign(claims(token_use="id")), "of Keycloak": sign(claims(typ="ID")),
        "a logout token": sign(claims(), typ="logout+jwt"), "a proof": sign(claims(), typ="dpop+jwt"),
        "a signed answer": sign(claims(), typ="token-introspection+jwt"),
        "an odd typ": with_header({"alg": "RS256", "kid": "one", "typ": ["at+jwt"]}),
        "an empty typ": with_header({"alg": "RS256", "kid": "one", "typ": ""}),
    },
    None: {"not active": sign(claims(active=False)), "active in words": sign(claims(active="true"))},
}  # fmt: skip
MISFITS = {
    "no expiry": sign(claims(exp=None)), "odd expiry": sign(claims(exp="x")),
    "issued at a truth": sign(claims(iat=None) | {"iat": True}), "a patient in an object": sign(claims(patient={})),
    "a subject in numbers": sign(claims(sub=None) | {"sub": 4711}), "an odd kind": sign(claims(typ=["at+jwt"])),
}  # fmt: skip


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
)  # fmt: skip
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

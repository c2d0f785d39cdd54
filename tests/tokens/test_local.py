"""Signed access tokens, verified here: RFC 8725's list of what goes wrong with JWTs (SIA-10, 16)."""

import base64
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

from sidecar.access.token import Token
from sidecar.common.errors import Unavailable
from sidecar.tokens.facts import Expected
from sidecar.tokens.jwks import REFRESH_SECONDS, Jwks
from sidecar.tokens.local import LocalThenIntrospection, LocalValidation
from sidecar.tokens.signatures import Signatures, looks_like_jwt
from tests.common.peer import Clock, Peer, Reply
from tests.tokens.signing import AUDIENCE, EC_KEY, ISSUER, OTHER_RSA_KEY, RSA_KEY, claims, jwks, public, sign

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
    expected = Expected(audience=(AUDIENCE,), leeway_seconds=30)
    return LocalValidation(Signatures(keys, ALGORITHMS), issuer, expected, **options)


async def validated(session: aiohttp.ClientSession, peer: Peer, token: str, **options: Any) -> Token | None:
    """What a token is, with the usual keys."""
    peer.say(Reply(jwks()))
    return await validation(session, peer, **options).validate(token)


def with_header(header: dict[str, Any]) -> str:
    """Well signed under just this header: PyJWT by itself leaves names out."""
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims()))
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
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts) + "."


def hmac_with_the_public_key() -> str:
    """The classic confusion: RS256's public key as an HMAC secret."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
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


NOW = int(time.time())
BAD = {
    "none": unsigned("none"), "None": unsigned("None"), "NONE": unsigned("NONE"), "hmac": hmac_with_the_public_key(),
    "tampered": tampered(), "a name twice": twice(),
    "another key": sign(claims(), OTHER_RSA_KEY), "another kid": sign(claims(), key_id="three"),
    "an algorithm that is not allowed": sign(claims(), algorithm="RS512"), "PS256": sign(claims(), algorithm="PS256"),
    "another kind of key": sign(claims(), EC_KEY, "ES384", "one"),
    "its own key": sign(claims(), OTHER_RSA_KEY, key_id=None, jwk=public(OTHER_RSA_KEY)),
    "a key elsewhere": sign(claims(), OTHER_RSA_KEY, key_id=None, jku="https://evil.example.org/jwks"),
    "crit": sign(claims(), crit=["exp"]), "b64": with_header({"alg": "RS256", "kid": "one", "b64": True}),
    "another issuer": sign(claims(iss="https://evil.example.org")), "no issuer": sign(claims(iss=None)),
    "another audience": sign(claims(aud="app")), "no audience": sign(claims(aud=None)),
    "expired": sign(claims(exp=NOW - 60)), "no expiry": sign(claims(exp=None)), "odd expiry": sign(claims(exp="x")),
    "not yet": sign(claims(nbf=NOW + 86_400)), "issued later": sign(claims(iat=NOW + 86_400)),
    "issued at a truth": sign(claims(iat=None) | {"iat": True}),
    "bound to a key": sign(claims(cnf={"jkt": "x"})), "a refresh token": sign(claims(typ="Refresh")),
    "not active": sign(claims(active=False)), "active in words": sign(claims(active="true")),
    "opaque": "abc", "empty": "", "dots": "..", "four parts": sign(claims()) + ".x", "no json": "YQ.YQ.YQ",
    "huge": sign(claims(more="x" * 20_000)), "not ascii": "é.é.é", "a list": "W10.W10.W10",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_bad_tokens(session: aiohttp.ClientSession, peer: Peer, case: str) -> None:
    assert await validated(session, peer, BAD[case]) is None


async def test_the_type_that_is_wanted(session: aiohttp.ClientSession, peer: Peer) -> None:
    """RFC 9068: with ``at+jwt`` wanted, an ID token cannot pass even if it names us."""
    for header, good in (({"typ": "at+jwt"}, True), ({"typ": "application/AT+JWT"}, True), ({}, False)):
        found = await validated(session, peer, sign(claims(), **header), token_type="at+jwt")
        assert (found is not None) == good


@given(text=st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}"))
def test_any_text_is_looked_at_without_harm(text: str) -> None:
    assert looks_like_jwt(text) in (True, False)


async def test_no_audience_no_validation(session: aiohttp.ClientSession, peer: Peer) -> None:
    async def issuer() -> str:
        return ISSUER

    with pytest.raises(ValueError, match="ID token"):
        LocalValidation(Signatures(validation(session, peer)._signatures._jwks, ALGORITHMS), issuer, Expected())


async def test_keys_are_kept_and_rotate(session: aiohttp.ClientSession, peer: Peer) -> None:
    """A new kid is looked up, not more than every ten seconds whatever comes; a key withdrawn ends with its time."""
    clock = Clock()
    peer.say(Reply(jwks(public(RSA_KEY, "one"))))
    validating = validation(session, peer, clock)
    for _ in range(5):
        assert await validating.validate(sign(claims()))
    assert len(peer.asked) == 1
    peer.say(Reply(jwks(public(OTHER_RSA_KEY, "new"))))
    new = sign(claims(), OTHER_RSA_KEY, key_id="new")
    assert await validating.validate(new) is None  # The keys were fetched a moment ago.
    clock.now += REFRESH_SECONDS
    for _ in range(5):
        assert await validating.validate(new)
        assert await validating.validate(sign(claims())) is None
    assert len(peer.asked) == 2
    peer.say(Reply(status=500))
    clock.now += 599
    assert await validating.validate(new)
    clock.now += 2
    with pytest.raises(Unavailable):
        await validating.validate(new)


async def test_junk_does_not_reach_the_authorization_server(session: aiohttp.ClientSession, peer: Peer) -> None:
    peer.say(Reply(jwks()))
    validating = validation(session, peer)
    for number in range(50):
        assert await validating.validate(sign(claims(), key_id=f"junk-{number}")) is None
    assert len(peer.asked) == 1


@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply("<html>"), Reply([]), Reply({"keys": {}}), Reply({"keys": [{}] * 101})]
)
async def test_without_keys_nothing_is_decided(session: aiohttp.ClientSession, peer: Peer, reply: Reply) -> None:
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
    assert await validation(session, peer).validate(sign(claims())) is None


TOKEN = Token((), 2e9, patient="p1", client_id="app")


@pytest.mark.parametrize(
    ("local", "introspected", "patient"),
    [(None, TOKEN, None), (TOKEN, None, None), (TOKEN, TOKEN, "p1"), (Token((), 3e9), TOKEN, "p1"),
     (Token((), 3e9, patient="p2"), TOKEN, None), (Token((), 3e9, client_id="other"), TOKEN, None)],
)  # fmt: skip
async def test_both_must_agree(local: Token | None, introspected: Token | None, patient: str | None) -> None:
    asked = []

    async def check(token: str) -> Token | None:
        return local

    async def introspect(token: str) -> Token | None:
        asked.append(token)
        return introspected

    found = await LocalThenIntrospection(check, introspect).validate("x")
    assert (found.patient if found else None) == patient
    assert len(asked) == (local is not None)  # What is refused here costs the EHR nothing.

"""Our own access token at the EHR (SIA-17): the signed assertion, the token's life, and what goes
wrong.
"""

import asyncio
import json
import logging
import time
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sidecar.common.errors import BadGateway, Problem, Unavailable
from sidecar.ehr.assertion import private_key_of
from sidecar.ehr.credentials import BackendServices, StaticToken
from tests.common.peer import Clock, Peer, Reply, all_that_is_said
from tests.ehr.backend import EC_JWK, EC_KEY, RSA_JWK, RSA_KEY, backend, pem
from tests.waiting import outlast

TOKEN = "a-recognizable-token"
P256_KEY = ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """SubjectPublicKeyInfo."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


KEYS: dict[str, tuple[str, str, Any]] = {
    "RS384 PEM": (pem(RSA_KEY), "RS384", RSA_KEY.public_key()),
    "RS384 JWK": (f"\n {RSA_JWK}", "RS384", RSA_KEY.public_key()),
    "ES384 PEM": (pem(EC_KEY), "ES384", EC_KEY.public_key()),
    "ES384 JWK": (EC_JWK, "ES384", EC_KEY.public_key()),
}


def granted(token: str = TOKEN, **members: Any) -> Reply:
    """A token response."""
    return Reply({"access_token": token, "token_type": "bearer", "expires_in": 300} | members)


async def problem_of(credentials: BackendServices) -> Problem:
    """The failure that a request meets."""
    with pytest.raises(Problem) as failed:
        await credentials.token()
    return failed.value


@pytest.mark.parametrize("kind", KEYS)
async def test_the_assertion_is_what_the_ehr_verifies(
    peer: Peer, session: aiohttp.ClientSession, kind: str
) -> None:
    """SMART Backend Services: RFC 7523 claims, five minutes at most, a ``jti`` of its own, the
    key's id.
    """
    text, algorithm, public = KEYS[kind]
    peer.say(granted())
    credentials = backend(peer, session, private_key=text, algorithm=algorithm)
    for _ in range(2):
        assert await credentials.token() == TOKEN
        credentials.forget()
    identifiers = set()
    for asked in peer.asked:
        assert (asked.method, asked.target) == ("POST", "/token")
        assert "Authorization" not in asked.headers
        form = dict(asked.form)
        assertion = form.pop("client_assertion")
        assert form == {
            "grant_type": "client_credentials",
            "scope": "system/Patient.r",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        claims = jwt.decode(
            assertion,
            public,
            algorithms=[algorithm],
            audience=f"{peer.url}/token",
            issuer="our client",
            options={"require": ["iss", "sub", "aud", "exp", "jti"]},
        )
        assert claims["sub"] == "our client"
        assert time.time() < claims["exp"] <= time.time() + 300
        identifiers.add(claims["jti"])
        head = jwt.get_unverified_header(assertion)
        assert (head["alg"], head["kid"], head["typ"]) == (algorithm, "key-1", "JWT")
    assert len(identifiers) == 2


async def test_without_a_key_id_there_is_no_kid(peer: Peer, session: aiohttp.ClientSession) -> None:
    """An EHR that knows one key only."""
    peer.say(granted())
    await backend(peer, session, key_id=None).token()
    assert "kid" not in jwt.get_unverified_header(peer.asked[0].form["client_assertion"])


@pytest.mark.parametrize(
    ("members", "lasts"), [({"expires_in": 300}, 270), ({"expires_in": 60.5}, 30.5), ({}, 270)]
)
async def test_a_token_is_kept_and_renewed_before_it_expires(
    peer: Peer, session: aiohttp.ClientSession, members: dict[str, Any], lasts: float
) -> None:
    """One request for many readings; never a token that dies on the way."""
    clock = Clock()
    peer.say(granted("one", **members), granted("two", **members))
    credentials = backend(peer, session, clock=clock)
    assert await credentials.token() == "one"
    clock.now += lasts - 0.1
    assert await credentials.token() == "one"
    assert len(peer.asked) == 1
    clock.now += 0.1
    assert await credentials.token() == "two"


async def test_a_clock_that_is_put_back_does_not_keep_our_token(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """Its age is measured by the monotonic clock; the wall clock is for what we sign."""
    wall, monotonic = Clock(), Clock()
    peer.say(granted("one"), granted("two"))
    credentials = backend(peer, session, clock=wall, monotonic=monotonic)
    assert await credentials.token() == "one"
    wall.now -= 86_400
    monotonic.now += 270
    assert await credentials.token() == "two"


async def test_a_token_without_a_lifetime_is_renewed_soon(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """``expires_in`` is only recommended (RFC 6749 5.1)."""
    clock = Clock()
    peer.say(Reply({"access_token": "one"}), granted("two"))
    credentials = backend(peer, session, clock=clock)
    assert [await credentials.token(), await credentials.token()] == ["one", "one"]
    clock.now += 60
    assert await credentials.token() == "two"


@pytest.mark.parametrize("lifetime", [0, 1, 30, -5])
async def test_a_token_that_is_almost_over_is_used_once(
    peer: Peer, session: aiohttp.ClientSession, lifetime: float
) -> None:
    """And asked for again at the next reading."""
    peer.say(granted("one", expires_in=lifetime), granted("two"))
    credentials = backend(peer, session, clock=Clock())
    assert [await credentials.token(), await credentials.token()] == ["one", "two"]


async def test_one_request_for_all_that_wait(peer: Peer, session: aiohttp.ClientSession) -> None:
    """After the token has expired, a hundred readings ask for one."""
    peer.say(granted())
    credentials = backend(peer, session)
    assert set(await asyncio.gather(*(credentials.token() for _ in range(100)))) == {TOKEN}
    assert len(peer.asked) == 1


async def test_a_forgotten_token_is_not_used_again(
    peer: Peer, session: aiohttp.ClientSession
) -> None:
    """The EHR refused it before its time."""
    peer.say(granted("one"), granted("two"))
    credentials = backend(peer, session)
    assert await credentials.token() == "one"
    credentials.forget()
    assert [await credentials.token(), await credentials.token()] == ["two", "two"]


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_our_key_is_refused(
    peer: Peer, session: aiohttp.ClientSession, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """502: not the caller's fault, and the operators read what to look at; not kept."""
    caplog.set_level(logging.DEBUG)
    peer.say(Reply({"error": "invalid_client", "access_token": TOKEN}, status), granted())
    credentials = backend(peer, session)
    problem = await problem_of(credentials)
    assert isinstance(problem, BadGateway)
    assert problem.for_operators() == f"backend_token_refused (status {status}, invalid_client)"
    assert [vars(record).get("setting") for record in caplog.records] == ["patients.client"]
    said = all_that_is_said(caplog, problem)
    assert TOKEN not in said
    assert peer.asked[0].form["client_assertion"] not in said
    assert await credentials.token() == TOKEN


async def _slow(request: web.Request) -> web.StreamResponse:
    await outlast(60)


FAULTS: dict[str, tuple[Reply, str]] = {
    "500": (Reply(granted().body, 500), "unexpected_status"),
    "redirect": (Reply(granted().body, 307, {"Location": "/elsewhere"}), "unexpected_status"),
    "not JSON": (Reply(f"access_token={TOKEN}"), "not_json"),
    "a token twice": (Reply(f'{{"access_token": "x", "access_token": "{TOKEN}"}}'), "not_json"),
    "an array": (Reply([TOKEN]), "not_an_object"),
    "no token": (Reply({"expires_in": 300}), "wrong_shape"),
    "token is an object": (granted(access_token={"value": TOKEN}), "wrong_shape"),
    "lifetime is a string": (granted(expires_in="300"), "wrong_shape"),
    "lifetime is true": (granted(expires_in=True), "wrong_shape"),
    "lifetime is null": (granted(expires_in=None), "wrong_shape"),
    "huge": (Reply(TOKEN + " " * 70_000), "too_large"),
    "slow": (Reply(write=_slow), "timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_unavailable(
    peer: Peer, session: aiohttp.ClientSession, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SIA-16: 503 with a time to come back; nothing is kept, and nothing said of the token or the
    assertion.
    """
    caplog.set_level(logging.DEBUG)
    reply, reason = FAULTS[fault]
    peer.say(reply, granted("good"))
    credentials = backend(peer, session, timeout_seconds=60)
    problem = await problem_of(credentials)
    assert isinstance(problem, Unavailable)
    assert problem.reason == f"backend_token_{reason}"
    assert (problem.retry_after or 0) > 0
    assert len(peer.asked) == 1
    said = all_that_is_said(caplog, problem)
    assert TOKEN not in said
    assert peer.asked[0].form["client_assertion"] not in said
    assert await credentials.token() == "good"


@pytest.mark.parametrize(
    "answer",
    [
        '{"access_token": ""}',
        '{"access_token": "x", "expires_in": 1e999}',
        f'{{"access_token": "x", "expires_in": {10**400}}}',
    ],
    ids=lambda text: text[:45],
)
async def test_a_token_response_that_cannot_be_meant(
    peer: Peer, session: aiohttp.ClientSession, answer: str
) -> None:
    """SIA-16: no token, or one for ever (1e999), or an OverflowError (10 to the 400) instead of a
    503.
    """
    peer.say(Reply(answer))
    assert isinstance(await problem_of(backend(peer, session)), Unavailable)


RS = json.loads(RSA_JWK)
UNUSABLE: dict[str, tuple[str, str]] = {
    "empty": ("", "RS384"),
    "junk": ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "RS384"),
    "half JSON": ('{"kty": "RSA"', "RS384"),
    "no kty": ("{}", "RS384"),
    "a JWKS": (json.dumps({"keys": [RS]}), "RS384"),
    "symmetric": ('{"kty": "oct", "k": "c2VjcmV0"}', "RS384"),
    "half a key": (json.dumps(RS | {"p": None}), "RS384"),
    "numbers": (json.dumps(RS | {"n": 1}), "RS384"),
    "encrypted": (pem(RSA_KEY, b"password"), "RS384"),
    "RSA for ES384": (pem(RSA_KEY), "ES384"),
    "EC for RS384": (pem(EC_KEY), "RS384"),
    "RSA JWK for ES384": (RSA_JWK, "ES384"),
    "EC JWK for RS384": (EC_JWK, "RS384"),
    "P-256 for ES384": (pem(P256_KEY), "ES384"),
    "P-256 JWK for ES384": (ECAlgorithm.to_jwk(P256_KEY), "ES384"),
}
PUBLIC: dict[str, tuple[str, str]] = {
    "RSA PEM": (public_pem(RSA_KEY), "RS384"),
    "EC PEM": (public_pem(EC_KEY), "ES384"),
    "RSA JWK": (RSAAlgorithm.to_jwk(RSA_KEY.public_key()), "RS384"),
    "EC JWK": (ECAlgorithm.to_jwk(EC_KEY.public_key()), "ES384"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_cannot_sign_is_refused_at_the_start(name: str) -> None:
    """Not at the first patient; the message does not quote the key."""
    text, algorithm = UNUSABLE[name]
    with pytest.raises(ValueError, match=f"^not a private key for {algorithm}$"):
        private_key_of(text, algorithm)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_key_is_refused_at_the_start(name: str) -> None:
    """The likeliest mistake: the other file of the pair."""
    text, algorithm = PUBLIC[name]
    with pytest.raises(ValueError, match=f"^not a private key for {algorithm}$"):
        private_key_of(text, algorithm)


async def test_a_token_from_elsewhere() -> None:
    """``bearer`` and ``none``: nothing to renew."""
    static, none = StaticToken(TOKEN), StaticToken(None)
    assert (static.forget(), none.forget()) == (False, False)
    assert await static.token() == TOKEN
    assert await none.token() is None


def test_a_static_token_is_not_shown() -> None:
    """As ``SecretStr`` in the settings: a log line with the object in it must not leak."""
    assert TOKEN not in repr(StaticToken(TOKEN))

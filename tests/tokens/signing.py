"""An authorization server's keys, what it signs with them, and the set that it publishes."""

import json
import time
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.jwks import Jwks
from sidecar.tokens.jwt_validation import LocalValidation
from sidecar.tokens.signatures import Signatures
from tests.common.peer import Clock, Peer

ISSUER = "https://ehr.example.org"
AUDIENCE = "https://imaging.example.org/fhir"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())


def public(key: Any, key_id: str | None = None, **more: str) -> dict[str, Any]:
    """The public half as a JWK."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    jwk = json.loads(algorithm.to_jwk(key.public_key()))
    return (
        {name: value for name, value in jwk.items() if name != "key_ops"}
        | ({"kid": key_id} if key_id else {})
        | more
    )


def jwks(*keys: dict[str, Any]) -> dict[str, Any]:
    """A set; the usual one by default."""
    return {"keys": list(keys or (public(RSA_KEY, "one"), public(EC_KEY, "two")))}


def claims(**changes: Any) -> dict[str, Any]:
    """Of a good access token; ``None`` leaves a claim out."""
    now = int(time.time())
    all_claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 86_400,
        "client_id": "app",
        "sub": "u1",
        "jti": "x",
        "scope": "patient/ImagingStudy.rs",
        "patient": "p1",
    } | changes
    return {name: value for name, value in all_claims.items() if value is not None}


def sign(
    payload: dict[str, Any],
    key: Any = RSA_KEY,
    algorithm: str = "RS256",
    key_id: str | None = "one",
    **header: Any,
) -> str:
    """A JWT in compact form."""
    headers = ({"kid": key_id} if key_id else {}) | header
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


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

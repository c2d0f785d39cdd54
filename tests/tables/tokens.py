"""JWTs that are refused, and why."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from sidecar.access.reasons import Reason
from tests.tokens.signing import EC_KEY, OTHER_RSA_KEY, RSA_KEY, claims, public, sign


def with_header(header: dict[str, Any], **changes: Any) -> str:
    """Well signed under just this header: PyJWT by itself leaves names out."""
    parts = (header, claims(**changes))
    signed = b".".join(
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in parts
    )
    signature = RSA_KEY.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


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

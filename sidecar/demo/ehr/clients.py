"""The demo EHR's two clients with credentials, and their authentication."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

import jwt
from cachetools import TLRUCache

from sidecar.demo.ehr.form import OAuthError, require

ALGORITHMS = ("RS384", "ES384")
"""SMART App Launch 2.2 "Client Authentication: Asymmetric"."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 300
MAXIMUM_ASSERTIONS = 100_000
"""Limit of remembered ``jti``. Only assertions signed by the private key can evict one."""

_KEY_TYPES = {"RS384": "RSA", "ES384": "EC"}


class RegisteredSecretClient:
    """Client with a secret: ``client_secret_basic`` and ``client_secret_post`` (RFC 6749 2.3.1)."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._client_id = client_id.encode()
        self._client_secret = client_secret.encode()

    def authenticate(self, authorization: Sequence[str], form: Mapping[str, str]) -> None:
        """Check the request's Authorization header values or its form.

        Raises ``OAuthError`` 401.
        """
        if authorization and "client_secret" in form:
            raise OAuthError(
                "invalid_client", "Use one way of client authentication.", status=401, basic=True
            )
        if authorization:
            client_id, client_secret = _basic(authorization)
        else:
            client_id, client_secret = form.get("client_id", ""), form.get("client_secret", "")
        # Both are compared in constant time, so that the time does not show which was wrong.
        same_id = hmac.compare_digest(client_id.encode(), self._client_id)
        same_secret = hmac.compare_digest(client_secret.encode(), self._client_secret)
        if not (same_id and same_secret):
            raise OAuthError(
                "invalid_client", "The client is not known here.", status=401, basic=True
            )


def _basic(authorization: Sequence[str]) -> tuple[str, str]:
    """Return id and secret of HTTP Basic, each form-decoded. Raises ``OAuthError`` 401."""
    refusal = OAuthError(
        "invalid_client", "The Authorization header is not HTTP Basic.", status=401, basic=True
    )
    scheme, _, encoded = authorization[0].partition(" ")
    if len(authorization) != 1 or scheme.lower() != "basic":
        raise refusal
    try:
        client_id, colon, client_secret = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
        if not colon:
            raise refusal
        return unquote_plus(client_id, errors="strict"), unquote_plus(
            client_secret, errors="strict"
        )
    except (binascii.Error, ValueError):
        raise refusal from None


class AssertionClient:
    """The backend client: ``private_key_jwt`` (RFC 7523; SMART App Launch 2.2 "Asymmetric").

    ``public_jwks`` is its JWK Set, ``audience`` the token endpoint's URL.
    """

    def __init__(
        self,
        client_id: str,
        public_jwks: Mapping[str, Any],
        *,
        audience: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client_id = client_id
        self._keys: list[Mapping[str, Any]] = list(public_jwks["keys"])
        self._audience = audience
        self._clock = clock
        self._seen: TLRUCache[str, float] = TLRUCache(
            MAXIMUM_ASSERTIONS, ttu=lambda identifier, expires_at, now: expires_at, timer=clock
        )

    def authenticate(self, authorization: Sequence[str], form: dict[str, str]) -> None:
        """Check the form's ``client_assertion``. Raises ``OAuthError`` (``invalid_client`` 401)."""
        if authorization or "client_secret" in form:
            raise OAuthError(
                "invalid_client",
                "Use private_key_jwt alone.",
                status=401,
                basic=bool(authorization),
            )
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError(
                "invalid_client", f"The client_assertion_type must be {ASSERTION_TYPE}.", status=401
            )
        claims = self._verify(require(form, "client_assertion"))
        if form.get("client_id", self.client_id) != self.client_id:
            raise _refused("client_id is not the assertion's")
        self._spend(claims)

    def _verify(self, assertion: str) -> dict[str, Any]:
        """Return the claims of an assertion that one of the client's keys signed for us.

        Raises ``OAuthError``.
        """
        try:
            header = jwt.get_unverified_header(assertion)
        except jwt.PyJWTError:
            raise _refused("it is not a JWT") from None
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise _refused("its algorithm must be RS384 or ES384")
        failure = "no key of the client fits its kid and alg"
        for key in self._candidates(algorithm, header.get("kid")):
            try:
                claims: dict[str, Any] = jwt.decode(
                    assertion,
                    key,
                    algorithms=[algorithm],
                    audience=self._audience,
                    issuer=self.client_id,
                    subject=self.client_id,
                    options={"require": ["iss", "sub", "aud", "exp", "jti"], "strict_aud": True},
                )
            except jwt.InvalidSignatureError:
                failure = "its signature is not the client's"
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
                raise _refused("iss, sub, aud, exp, iat, nbf or jti is missing or wrong") from None
            else:
                return claims
        raise _refused(failure)

    def _candidates(self, algorithm: str, key_id: object) -> list[jwt.PyJWK]:
        """Return the keys for ``algorithm``: that with ``key_id``, or all when it is ``None``."""
        return [
            # The key is bound to this algorithm, whatever a header says.
            jwt.PyJWK(dict(key), algorithm=algorithm)
            for key in self._keys
            if key.get("kty") == _KEY_TYPES[algorithm]
            and key.get("alg", algorithm) == algorithm
            and key_id in (None, key.get("kid"))
        ]

    def _spend(self, claims: dict[str, Any]) -> None:
        expires_at, identifier = float(claims["exp"]), claims["jti"]
        if expires_at > self._clock() + ASSERTION_SECONDS:
            raise _refused("exp must be at most five minutes ahead")
        if not isinstance(identifier, str) or not 0 < len(identifier) <= 256:
            raise _refused("jti must be a text of at most 256 characters")
        if identifier in self._seen:
            raise _refused("its jti was used before")
        self._seen[identifier] = expires_at


def _refused(why: str) -> OAuthError:
    return OAuthError("invalid_client", f"The client_assertion is refused: {why}.", status=401)

"""The demo EHR's OpenID Connect part: discovery, keys and ID tokens.

SMART App Launch 2.2 "Scopes for requesting identity data", OpenID Connect Core 1.0.
"""

import functools
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sidecar.demo.ehr.tokens import ACCESS_TOKEN_SECONDS, Authorization

ALGORITHM = "RS256"
"""The algorithm that SMART App Launch 2.2 asks of an EHR."""


@functools.cache
def _signing_key() -> tuple[str, rsa.RSAPrivateKey]:
    """Return the key of this process, and its ``kid``. Making it takes a tenth of a second."""
    return secrets.token_urlsafe(8), rsa.generate_private_key(65_537, 2_048)


class IdTokens:
    """Issuer of ID tokens. ``smart`` is the smart-configuration, ``fhir_url`` the FHIR base."""

    def __init__(
        self,
        smart: Mapping[str, Any],
        *,
        fhir_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer: str = smart["issuer"]
        self._fhir_url = fhir_url
        self._clock = clock
        self._key_id, self._key = _signing_key()
        public = orjson.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        named = {"kid": self._key_id, "use": "sig", "alg": ALGORITHM}
        self.jwks: dict[str, Any] = {"keys": [public | named]}
        self.configuration: dict[str, Any] = {
            **{name: value for name, value in smart.items() if name not in _SMART_ALONE},
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "fhirUser"],
        }

    def claims(self, authorization: Authorization, scope: str) -> dict[str, str]:
        """Return who logged in: ``sub``, and with its scope ``fhirUser``.

        Without the scope ``openid`` there is nothing.
        """
        login, scopes = authorization.login, scope.split()
        if login is None or "openid" not in scopes:
            return {}
        user = {"fhirUser": f"{self._fhir_url}/Patient/{login.user}"}
        return {"sub": login.user} | (user if "fhirUser" in scopes else {})

    def id_token(self, authorization: Authorization) -> str | None:
        """Return a signed ID token (OpenID Connect Core 1.0 section 2).

        Without the scope ``openid`` it is ``None``.
        """
        claims, login = self.claims(authorization, authorization.scope), authorization.login
        if not claims or login is None:
            return None
        now = int(self._clock())
        body: dict[str, Any] = {
            **claims,
            "iss": self._issuer,
            "aud": authorization.client_id,
            "iat": now,
            "exp": now + ACCESS_TOKEN_SECONDS,
            "auth_time": login.at,
        }
        if login.nonce is not None:
            body["nonce"] = login.nonce
        return jwt.encode(body, self._key, ALGORITHM, headers={"kid": self._key_id})


_SMART_ALONE = ("associated_endpoints", "capabilities")
"""Members of a smart-configuration that OpenID Connect Discovery does not have."""

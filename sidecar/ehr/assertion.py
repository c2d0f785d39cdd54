"""Sign assertions of our client id (RFC 7523, SMART "Asymmetric" client authentication)."""

import time
import uuid
from collections.abc import Callable

import jwt

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 240
"""Lifetime in seconds; SMART Backend Services allows five minutes at most."""


class ClientAssertion:
    """Sign assertions for ``client_id``.

    ``private_key`` is a PEM or a JWK (JSON text); ``algorithm`` RS384 or ES384. Raises
    ``ValueError`` for a key that cannot be used.
    """

    def __init__(
        self,
        client_id: str,
        private_key: str,
        *,
        key_id: str | None,
        algorithm: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client_id = client_id
        self._key = private_key_of(private_key, algorithm)
        self._key_id = key_id
        self._algorithm = algorithm
        self._clock = clock

    def form(self, audience: str) -> dict[str, str]:
        """Return the form fields of a request to ``audience``, the endpoint's URL."""
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.sign(audience)}

    def sign(self, audience: str) -> str:
        """Return a new assertion for this audience; its ``jti`` permits one use."""
        now = int(self._clock())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": uuid.uuid4().hex,
        }
        headers = {"kid": self._key_id} if self._key_id else None
        return jwt.encode(claims, self._key, algorithm=self._algorithm, headers=headers)


def private_key_of(text: str, algorithm: str) -> "jwt.PyJWK | str":
    """Return the key for PyJWT. Raises ``ValueError`` when it is no such private key."""
    try:
        key: jwt.PyJWK | str = (
            jwt.PyJWK.from_json(text, algorithm) if text.lstrip().startswith("{") else text
        )
        jwt.encode({}, key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"not a private key for {algorithm}") from error
    return key

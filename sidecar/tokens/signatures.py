"""Verify access tokens and introspection answers by their signature (RFC 7515, RFC 8725)."""

import json
from collections.abc import Collection
from typing import Any

import jwt

from sidecar.common.fetch import FetchFailed, strict_json_object
from sidecar.tokens.jwks import Jwks

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Algorithms that can be allowed: signatures by a private key, neither ``none`` nor HMAC."""
MAXIMUM_CHARACTERS = 16_384


class NotSigned(ValueError):
    """A text is no JWT that one of the keys has signed. ``why`` is a constant."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Signatures:
    """Verify by the keys of ``jwks`` with those of ``ALGORITHMS`` in ``algorithms``."""

    def __init__(self, jwks: Jwks, algorithms: Collection[str]) -> None:
        self._jwks = jwks
        self._algorithms = frozenset(algorithms) & frozenset(ALGORITHMS)

    async def claims(self, compact: str, types: Collection[str]) -> dict[str, Any]:
        """Return the claims of a JWT whose ``typ`` is in ``types`` (lower case), as ``verify``."""
        header, claims = await self.verify(compact)
        if media_type_of(header) not in types:
            raise NotSigned("type")
        return claims

    async def verify(self, compact: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return header and claims of a signed JWT (compact form); claims are not checked.

        Raises ``NotSigned``, and ``Unavailable`` (503) without keys.
        """
        header = _header(compact)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise NotSigned("algorithm")
        # Extensions that must be understood (RFC 7515 4.1.11), and are not here.
        if "crit" in header or "b64" in header:
            raise NotSigned("crit")
        for key in await self._jwks.candidates(header, algorithm):
            try:
                payload = jwt.PyJWS().decode(compact, key.key, algorithms=[algorithm])
                return header, strict_json_object(payload)
            except jwt.PyJWTError:
                continue
            except (FetchFailed, ValueError, TypeError):
                raise NotSigned("payload") from None
        raise NotSigned("signature")


def _header(compact: str) -> dict[str, Any]:
    if len(compact) > MAXIMUM_CHARACTERS or compact.count(".") != 2 or not compact.isascii():
        raise NotSigned("shape")
    try:
        padded = compact.partition(".")[0]
        return strict_json_object(jwt.utils.base64url_decode(padded.encode()))
    except (FetchFailed, ValueError, json.JSONDecodeError):
        raise NotSigned("shape") from None


def media_type_of(header: dict[str, Any]) -> str | None:
    """Return ``typ`` in lower case, without the optional ``application/`` (RFC 7515 4.1.9)."""
    typ = header.get("typ")
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else None

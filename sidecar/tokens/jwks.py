"""Fetch and cache the authorization server's public keys (RFC 7517)."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt

from sidecar.common.errors import Unavailable
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache

log = logging.getLogger(__name__)

LIMIT_BYTES = 1_048_576
MAXIMUM_KEYS = 100
REFRESH_SECONDS = 10
"""Shortest time in seconds between fetches for tokens with an unknown ``kid``."""
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""First letters of an algorithm -> ``kty``: a key of another kind never verifies (RFC 8725 3.1)."""
_UNAVAILABLE = "The keys of the hospital's authorization server cannot be had now; try again."


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A ``key`` for PyJWT; ``algorithm``: the one that it is restricted to, if any."""

    key: Any
    key_type: str
    key_id: str | None
    algorithm: str | None


class Jwks:
    """Cache the public keys from ``url()`` for ``ttl_seconds``.

    A key that was withdrawn verifies nothing after that time. An unknown ``kid`` has the keys
    fetched again, at most every ``REFRESH_SECONDS``: keys rotate, and junk tokens must cost
    nothing. Raises ``Unavailable`` (503) without keys (SIA-16). ``clock``: monotonic, in seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: Callable[[], Awaitable[str]],
        *,
        timeout_seconds: float,
        ttl_seconds: float = 600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._keys: LoadingCache[None, list[PublicKey]] = LoadingCache(
            NO_PATIENT_DATA, max_entries=1, ttl_seconds=ttl_seconds, clock=clock
        )
        self._refresh_from = float("-inf")

    async def candidates(self, header: Mapping[str, Any], algorithm: str) -> list[PublicKey]:
        """Return the keys that may have signed what has this header, possibly none."""
        keys = await self._keys.get(None, self._fetch)
        candidates = _matching(keys, header.get("kid"), algorithm)
        if not candidates and self._clock() >= self._refresh_from:
            keys = await self._keys.reload(None, self._fetch)
            candidates = _matching(keys, header.get("kid"), algorithm)
        return candidates

    async def probe(self) -> int:
        """Fetch the keys now; return how many can be used."""
        return len(await self._keys.reload(None, self._fetch))

    async def close(self) -> None:
        """Cancel the fetch that is under way."""
        await self._keys.close()

    async def _fetch(self) -> list[PublicKey]:
        # A failed fetch counts, too: a server that is down does not get one for each token.
        self._refresh_from = self._clock() + REFRESH_SECONDS
        try:
            answer = await fetch(
                self._session,
                "GET",
                await self._url(),
                limit_bytes=LIMIT_BYTES,
                timeout_seconds=self._timeout_seconds,
                headers={"Accept": "application/jwk-set+json, application/json"},
                name="ehr jwks",
            )
            if answer.status != 200:
                raise FetchFailed("unexpected_status", f"status {answer.status}")
            return await answer.read(lambda whole: _read(whole.strict_json_object()))
        except FetchFailed as failure:
            log.error(
                "the JWKS cannot be had", extra={"reason": failure.reason, "detail": failure.detail}
            )
            raise Unavailable(_UNAVAILABLE, reason="jwks_" + failure.reason).because(
                failure.detail
            ) from None


def _read(document: Mapping[str, Any]) -> list[PublicKey]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAXIMUM_KEYS:
        raise FetchFailed("wrong_shape")
    keys = []
    for entry in listed:
        # A secret key there would verify what anybody who reads the set has signed.
        if (
            not isinstance(entry, dict)
            or entry.get("kty") not in KEY_TYPES.values()
            or entry.get("use", "sig") != "sig"
        ):
            continue
        try:
            key = jwt.PyJWK(entry).key
            keys.append(PublicKey(key, entry["kty"], _text(entry, "kid"), _text(entry, "alg")))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue  # Unusable here.
    return keys


def _text(key: Mapping[str, Any], name: str) -> str | None:
    value = key.get(name)
    return value if isinstance(value, str) else None


def _matching(keys: list[PublicKey], key_id: object, algorithm: str) -> list[PublicKey]:
    return [
        key
        for key in keys
        if key.key_type == KEY_TYPES.get(algorithm[:2])
        and key.algorithm in (None, algorithm)
        and key_id in (None, key.key_id)
    ]

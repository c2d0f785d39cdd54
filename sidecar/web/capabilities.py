"""Issuing and opening capability URLs (SIA-33, 50..54)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TTLCache

from sidecar.access.capability import MAXIMUM_LENGTH, Capability, Operation, Sealer, token_hash
from sidecar.access.token import Token
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected

PREFIX = "capability"
"""First segment of their paths."""
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Issued:
    """An address for one study: ``root`` is its DICOMweb root, ``expires_at`` in seconds since 1970."""

    root: str
    expires_at: float
    requires_token: bool


class Capabilities:
    """Seals and opens them for ``public_base``, our own URL.

    ``bound``: they need their token beside them. ``recheck_seconds``: how often at most the token of one that does not
    is validated again, ``None``: never; else it is sealed in, and a token too long for a URL gets no capability. A
    token that is seen inactive here takes its capabilities with it at once.
    """

    def __init__(
        self,
        sealer: Sealer,
        tokens: TokenCache,
        public_base: str,
        *,
        bound: bool,
        operations: frozenset[Operation],
        lifetime_seconds: float,
        recheck_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sealer = sealer
        self._tokens = tokens
        self._public_base = public_base
        self.bound = bound
        self._operations = operations
        self._lifetime_seconds = lifetime_seconds
        self._recheck_seconds = recheck_seconds
        self._clock = clock
        self._issued_for: TTLCache[bytes, bool] = TTLCache(REMEMBERED, ttl=lifetime_seconds, timer=clock)
        self._revoked: TTLCache[bytes, bool] = TTLCache(REMEMBERED, ttl=lifetime_seconds, timer=clock)
        self._checked: TTLCache[bytes, Token] = TTLCache(REMEMBERED, ttl=recheck_seconds or 0, timer=clock)

    def issue(self, token: Token, bearer: str, audit_hash: str, patient: str, study: str) -> Issued | None:
        """Return an address for a study that the token may fetch, ``None`` when it would be too long."""
        expires_at = min(self._clock() + self._lifetime_seconds, token.expires_at)
        hashed = token_hash(bearer)
        capability = Capability(
            patient, study, self._operations, expires_at, token, hashed, audit_hash, self.bound,
            bearer if self._recheck_seconds is not None and not self.bound else None,
        )  # fmt: skip
        sealed = self._sealer.seal(capability)
        if len(sealed) > MAXIMUM_LENGTH:
            return None
        self._issued_for[hashed] = True
        return Issued(self.root(sealed), expires_at, self.bound)

    def root(self, sealed: str) -> str:
        """The DICOMweb root."""
        return f"{self._public_base}/{PREFIX}/{sealed}"

    def unseal(self, sealed: str) -> Capability | None:
        """Return what was sealed, ``None`` when it is not ours."""
        return self._sealer.unseal(sealed)

    def seen_inactive(self, bearer: str) -> None:
        """A token is not good any more: neither is what was issued for it."""
        hashed = token_hash(bearer)
        if hashed in self._issued_for:
            self._revoked[hashed] = True

    async def token(self, capability: Capability) -> Token | None:
        """Return the facts of a capability's token, ``None`` when it has been revoked, as far as is known.

        Those that were sealed in, or with rechecks what the authorization server says now. Raises what validation
        raises (503).
        """
        hashed = capability.token_hash
        if hashed in self._revoked:
            return None
        if self._recheck_seconds is None:
            return capability.token
        if (known := self._checked.get(hashed)) is not None:
            return known
        if capability.bearer is None:  # Issued before rechecks were switched on.
            return None
        try:
            found = await self._tokens.validate(capability.bearer)
        except TokenRejected:
            found = None
        if found is None:
            self._revoked[hashed] = True
        else:
            self._checked[hashed] = found
        return found

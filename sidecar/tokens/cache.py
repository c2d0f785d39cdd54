"""The token cache: one introspection per token and TTL, however many requests come (docs/decisions/0007).

Keys are SHA-256 of the token; the token itself is never kept. Active and inactive answers have tables of their own,
so that junk tokens cannot push out good ones. Failures are never cached.
"""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cachetools import TLRUCache

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.errors import Unavailable
from sidecar.common.single_flight import SingleFlight
from sidecar.tokens.rejection import TokenRejected

_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class _Entry:
    """``fresh_until`` and ``kept_until`` are times of the monotonic clock."""

    token: Token
    fresh_until: float
    kept_until: float


class TokenCache:
    """Puts a cache and single flight before ``introspect``.

    An active answer is fresh for min(``ttl_seconds``, ``exp`` - now), less up to a tenth of chance so that entries
    made together do not end together; an inactive one for ``negative_ttl_seconds``. Both tables hold at most
    ``max_entries``. While introspection is unavailable an entry may serve for ``stale_if_error_seconds`` more, never
    beyond ``exp``. ``observe(result)`` takes ``hit``, ``negative_hit``, ``miss``, ``stale``.

    Ages are measured by the ``monotonic`` clock: a wall clock that is put back must not keep a
    revoked token alive. ``clock``, in seconds since 1970, is compared with ``exp`` alone.
    """

    def __init__(
        self,
        introspect: Callable[[str], Awaitable[Token | None]],
        *,
        ttl_seconds: float = 60,
        negative_ttl_seconds: float = 10,
        max_entries: int = 50_000,
        stale_if_error_seconds: float = 0,
        observe: Callable[[str], None] = lambda result: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._introspect = introspect
        self._ttl_seconds = ttl_seconds
        self._stale_seconds = stale_if_error_seconds
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._flight: SingleFlight[bytes, Token | None] = SingleFlight()
        self._active: TLRUCache[bytes, _Entry] = TLRUCache(
            max_entries, ttu=lambda key, entry, now: entry.kept_until, timer=monotonic
        )
        self._inactive: TLRUCache[bytes, Reason | None] = TLRUCache(
            max_entries, ttu=lambda key, reason, now: now + negative_ttl_seconds, timer=monotonic
        )

    async def validate(self, token: str) -> Token | None:
        """Return the facts of ``token``, ``None`` when it is not active. Raises what introspection raises.

        ``TokenRejected`` is remembered as ``None`` is, and raised again by its reason alone.
        """
        key = hashlib.sha256(token.encode()).digest()
        entry = self._active.get(key)
        if entry is not None and self._is_before(entry.fresh_until, entry.token):
            self._observe("hit")
            return entry.token
        if (reason := self._inactive.get(key, _UNKNOWN)) is not _UNKNOWN:
            self._observe("negative_hit")
            if isinstance(reason, Reason):
                raise TokenRejected(reason)
            return None
        self._observe("miss")
        try:
            return await self._flight.run(key, lambda: self._ask(key, token))
        except Unavailable:
            if entry is not None and self._is_before(entry.kept_until, entry.token):
                self._observe("stale")
                return entry.token
            raise

    def _is_before(self, until: float, token: Token) -> bool:
        return self._monotonic() < until and self._clock() < token.expires_at

    async def _ask(self, key: bytes, token: str) -> Token | None:
        # Lifetimes count from the question: the answer may be as old as that.
        asked_at, asked_on = self._monotonic(), self._clock()
        try:
            found = await self._introspect(token)
        except TokenRejected as rejected:
            self._active.pop(key, None)
            self._inactive[key] = rejected.reason
            raise
        if found is None:
            self._active.pop(key, None)
            self._inactive[key] = None
            return None
        expires_at = asked_at + found.expires_at - asked_on
        lifetime = self._ttl_seconds * (1 - 0.1 * self._jitter())
        fresh_until = min(asked_at + lifetime, expires_at)
        kept_until = min(fresh_until + self._stale_seconds, expires_at)
        if self._is_before(kept_until, found):
            self._active[key] = _Entry(found, fresh_until, kept_until)
        return found

    async def close(self) -> None:
        """End what is under way."""
        await self._flight.close()

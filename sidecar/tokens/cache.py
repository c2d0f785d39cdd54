"""The token cache: one introspection per token and TTL, however many requests come (docs/decisions/0007).

Keys are SHA-256 of the token; the token itself is never kept. Active and inactive answers have
tables of their own, so that junk tokens cannot push out good ones. Failures are never cached.
"""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cachetools import TLRUCache

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.single_flight import SingleFlight
from sidecar.tokens.rejection import TokenRejected

_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class _Entry:
    """``until``: time of the monotonic clock, in seconds."""

    token: Token
    until: float


class TokenCache:
    """Puts a cache and single flight before ``introspect``.

    An active answer serves for min(``ttl_seconds``, ``exp`` - now), less up to a tenth of chance so
    that entries made together do not end together; an inactive one for ``negative_ttl_seconds``.
    Both tables hold at most ``max_entries``. ``observe(result)`` takes ``hit``, ``negative_hit``,
    ``miss``.

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
        observe: Callable[[str], None] = lambda result: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._introspect = introspect
        self._ttl_seconds = ttl_seconds
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._flight: SingleFlight[bytes, Token | None] = SingleFlight()
        self._active: TLRUCache[bytes, _Entry] = TLRUCache(
            max_entries, ttu=lambda key, entry, now: entry.until, timer=monotonic
        )
        self._inactive: TLRUCache[bytes, Reason | None] = TLRUCache(
            max_entries, ttu=lambda key, reason, now: now + negative_ttl_seconds, timer=monotonic
        )

    async def validate(self, token: str) -> Token | None:
        """Return the facts of ``token``, ``None`` when it is not active.

        Raises what introspection raises.

        ``TokenRejected`` is remembered as ``None`` is, and raised again by its reason alone.
        """
        key = hashlib.sha256(token.encode()).digest()
        entry = self._active.get(key)
        if entry is not None and self._clock() < entry.token.expires_at:
            self._observe("hit")
            return entry.token
        if (reason := self._inactive.get(key, _UNKNOWN)) is not _UNKNOWN:
            self._observe("negative_hit")
            if isinstance(reason, Reason):
                raise TokenRejected(reason)
            return None
        self._observe("miss")
        return await self._flight.run(key, lambda: self._ask(key, token))

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
        self._active[key] = _Entry(found, min(asked_at + lifetime, expires_at))
        return found

    async def close(self) -> None:
        """End what is under way."""
        await self._flight.close()

"""Cache introspected tokens: one introspection per token and lifetime (docs/decisions/0007).

Keys are the SHA-256 of tokens. Inactive answers have a table of their own, so that junk tokens
cannot push out good ones. Failures are not cached.
"""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache
from sidecar.tokens.rejection import TokenRejected


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result for a token: its facts, ``None`` when it is not active.

    ``reason``: why it was rejected, if it was. ``until``: end of an active answer, in seconds of
    the monotonic clock.
    """

    token: Token | None
    reason: Reason | None = None
    until: float = 0


class TokenCache:
    """Cache the answers of ``introspect``, with single flight.

    An active answer is cached for min(``ttl_seconds``, ``exp`` - now), less a random part of up to
    a tenth, so that entries made together do not end together; an inactive one for
    ``negative_ttl_seconds``. Both tables hold at most ``max_entries``. ``observe(result)`` takes
    ``hit``, ``negative_hit``, ``miss``. The ``monotonic`` clock measures ages: a wall clock that is
    put back must not keep a revoked token alive. ``clock``, in seconds since 1970, is compared with
    ``exp`` alone.
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
        self._answers: LoadingCache[bytes, _Answer] = LoadingCache(
            NO_PATIENT_DATA,
            max_entries=max_entries,
            ttl_seconds=lambda answer: answer.until - monotonic(),
            negative_seconds=negative_ttl_seconds,
            is_negative=lambda key, answer: answer.token is None,
            clock=monotonic,
        )

    async def validate(self, token: str) -> Token | None:
        """Return the facts of ``token``, ``None`` when it is not active.

        Raises what introspection raises. A ``TokenRejected`` is cached like ``None``, and raised
        again by its reason alone.
        """
        key = hashlib.sha256(token.encode()).digest()
        answer = self._answers.peek(key)
        if answer is None or _has_expired(answer, self._clock):
            self._observe("miss")
            answer = await self._answers.reload(key, lambda: self._ask(key, token))
        else:
            self._observe("hit" if answer.token else "negative_hit")
        if answer.reason is not None:
            raise TokenRejected(answer.reason)
        return answer.token

    async def _ask(self, key: bytes, token: str) -> _Answer:
        # Lifetimes count from the request: the answer may be as old.
        asked_at, asked_on = self._monotonic(), self._clock()
        try:
            found = await self._introspect(token)
        except TokenRejected as rejected:
            self._answers.put(key, _Answer(None, rejected.reason), self._answers.stamp(key))
            raise
        if found is None:
            return _Answer(None)
        expires_at = asked_at + found.expires_at - asked_on
        lifetime = self._ttl_seconds * (1 - 0.1 * self._jitter())
        return _Answer(found, until=min(asked_at + lifetime, expires_at))

    async def close(self) -> None:
        """Cancel the introspections that are under way."""
        await self._answers.close()


def _has_expired(answer: _Answer, clock: Callable[[], float]) -> bool:
    """Return whether the wall clock has reached the token's ``exp``."""
    return answer.token is not None and clock() >= answer.token.expires_at

"""Cache introspected tokens: one introspection per token and lifetime (docs/decisions/0007).

Keys are the SHA-256 of tokens. Inactive answers have a table of their own, so that junk tokens
cannot push out good ones. Failures are not cached. Behind it there may be a cache that several
processes share (docs/decisions/0048).
"""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.access.facts import Token
from sidecar.access.reasons import Reason
from sidecar.common.invalidation import NO_PATIENT_DATA
from sidecar.common.loading_cache import LoadingCache
from sidecar.tokens.rejection import TokenRejected
from sidecar.tokens.shared_answers import FoundAnswer, SharedAnswer

_SPREAD = 0.1
"""Largest part of its lifetime by which an active answer ends earlier."""


class SharedAnswers(Protocol):
    """Answers that processes share. Neither method raises, or takes long."""

    async def get(self, token: str) -> FoundAnswer | None:
        """Return what was put for ``token``, if there is something that can be used."""

    async def put(self, token: str, answer: SharedAnswer, seconds: float) -> None:
        """Store an answer for ``seconds`` from now at most."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result for a token: its facts, ``None`` when it is not active.

    ``reason``: why it was rejected, if it was. ``until``: end of the answer, in seconds of the
    monotonic clock. ``is_shared``: another process asked for it.
    """

    token: Token | None
    reason: Reason | None
    until: float
    is_shared: bool = False


class TokenCache:
    """Cache the answers of ``introspect``, with single flight.

    An active answer is cached for min(``ttl_seconds``, ``exp`` - now), less a random part of up to
    a tenth, so that entries made together do not end together; an inactive one for
    ``negative_ttl_seconds``. Both tables hold at most ``max_entries``. ``observe(result)`` takes
    ``hit``, ``negative_hit``, ``shared_hit``, ``shared_negative_hit``, ``miss``. The ``monotonic``
    clock measures ages: a wall clock that is put back must not keep a revoked token alive.
    ``clock``, in seconds since 1970, is compared with ``exp`` and with the time of a ``shared``
    answer.

    A shared answer lives as long as if it had been asked for here, and no longer than its own
    store keeps it. An active one is not taken any more for the last tenth of that, in which the
    copies in several processes end one after another: the first asks anew for all.
    """

    def __init__(
        self,
        introspect: Callable[[str], Awaitable[Token | None]],
        *,
        ttl_seconds: float = 60,
        negative_ttl_seconds: float = 10,
        max_entries: int = 50_000,
        shared: SharedAnswers | None = None,
        observe: Callable[[str], None] = lambda result: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._introspect = introspect
        self._ttl_seconds = ttl_seconds
        self._negative_ttl_seconds = negative_ttl_seconds
        self._shared = shared
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
        if answer is None or self._has_ended(answer):
            answer = await self._load(key, token)
        else:
            self._observe("hit" if answer.token else "negative_hit")
        if answer.reason is not None:
            raise TokenRejected(answer.reason)
        return answer.token

    async def _load(self, key: bytes, token: str) -> _Answer:
        result = "miss"
        try:
            answer = await self._answers.reload(key, lambda: self._ask(key, token))
            if answer.is_shared:
                result = "shared_hit" if answer.token else "shared_negative_hit"
        finally:
            self._observe(result)
        return answer

    async def _ask(self, key: bytes, token: str) -> _Answer:
        # Lifetimes count from the request: the answer may be as old.
        asked_at, asked_on = self._monotonic(), self._clock()
        if self._shared is not None:
            found = await self._shared.get(token)
            shared = None if found is None else self._of_shared(found, asked_at, asked_on)
            if shared is not None:
                return shared
        try:
            facts = await self._introspect(token)
        except TokenRejected as rejected:
            answer = self._negative(rejected.reason)
            self._answers.put(key, answer, self._answers.stamp(key))
            await self._share(token, answer, asked_on, answer.until)
            raise
        if facts is None:
            answer = self._negative(None)
            await self._share(token, answer, asked_on, answer.until)
            return answer
        expires_at = asked_at + facts.expires_at - asked_on
        answer = _Answer(facts, None, min(asked_at + self._lifetime(), expires_at))
        await self._share(token, answer, asked_on, min(asked_at + self._ttl_seconds, expires_at))
        return answer

    def _lifetime(self) -> float:
        return self._ttl_seconds * (1 - _SPREAD * self._jitter())

    def _negative(self, reason: Reason | None) -> _Answer:
        return _Answer(None, reason, self._monotonic() + self._negative_ttl_seconds)

    async def _share(self, token: str, answer: _Answer, asked_on: float, until: float) -> None:
        # What cannot be verified costs no question, and anybody can send it.
        if self._shared is not None and answer.reason is not Reason.UNVERIFIED_TOKEN:
            shared = SharedAnswer(answer.token, answer.reason, asked_on)
            await self._shared.put(token, shared, until - self._monotonic())

    def _of_shared(self, found: FoundAnswer, asked_at: float, asked_on: float) -> _Answer | None:
        """Return a shared answer with what is left of it; ``None`` when nothing is.

        That its store keeps it for a time of its own bounds it where clocks differ. One from the
        future has no age that could be trusted.
        """
        shared = found.answer
        age = asked_on - shared.asked_at
        if shared.token is None:
            left = self._negative_ttl_seconds - age
        elif age < self._ttl_seconds * (1 - _SPREAD):
            left = min(self._lifetime() - age, shared.token.expires_at - asked_on)
        else:
            return None
        left = min(left, found.remaining_seconds)
        if age < 0 or left <= 0:
            return None
        return _Answer(shared.token, shared.reason, asked_at + left, is_shared=True)

    async def close(self) -> None:
        """Cancel the introspections that are under way."""
        await self._answers.close()

    def _has_ended(self, answer: _Answer) -> bool:
        """Return whether the wall clock has reached the token's ``exp``, or a negative has ended.

        A shared one ends earlier than the table of negative answers has it.
        """
        if answer.token is None:
            return self._monotonic() >= answer.until
        return self._clock() >= answer.token.expires_at

"""Share validations of tokens between processes through Valkey or Redis (docs/decisions/0048).

It is there for speed alone: whatever happens to it, tokens are validated without it.
"""

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sidecar.common.circuit_breaker import Breaker
from sidecar.tokens.redis_client import LIMIT_BYTES, RedisClient
from sidecar.tokens.shared_answers import AnswerSeal, FoundAnswer, SharedAnswer

log = logging.getLogger(__name__)

Reply = TypeVar("Reply")

PREFIX = "smart-imaging-sidecar:token:"
"""How the names of entries begin."""
AT_ONCE = 64
"""Limit of questions at once. Further ones would wait for so long that they count as failed."""
FAILURES = 3
"""Failures in a row after which nothing is asked for ``OPEN_SECONDS``, one probe aside."""
OPEN_SECONDS = 5
PROBE_SECONDS = 5
"""Lifetime of the entry of a probe, in seconds."""
WARNING_SECONDS = 60
"""Shortest time between two warnings, in seconds. The metric counts what is not logged."""


class SharedTokenCache:
    """Get and put sealed answers by ``client``; neither ever raises or takes long.

    ``observe(outcome)`` takes ``hit``, ``miss``, ``stored``, ``unreadable`` (an entry that ``seal``
    does not open, or that has no end), ``too_long``, ``unavailable``, ``busy`` (nothing was asked
    beyond ``AT_ONCE``), and ``circuit_open`` (nor after ``FAILURES`` failures in a row).
    """

    def __init__(
        self,
        client: RedisClient,
        seal: AnswerSeal,
        *,
        observe: Callable[[str], None] = lambda outcome: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._seal = seal
        self._observe = observe
        self._monotonic = monotonic
        self._breaker = Breaker(failures=FAILURES, open_seconds=OPEN_SECONDS, clock=monotonic)
        self._asking = 0
        self._next_warning = -math.inf

    async def get(self, token: str) -> FoundAnswer | None:
        """Return what was put for ``token``; ``None`` without it, or when it cannot be used."""
        name = self._seal.name(token)
        reply = await self._ask(lambda: self._client.get(PREFIX + name))
        if reply is None:
            return None
        (entry,) = reply
        if entry is None:
            self._observe("miss")
            return None
        value, remaining_seconds = entry
        answer = self._seal.unseal(name, value)
        if answer is None or remaining_seconds <= 0:
            self._observe("unreadable")
            self._warn("an entry of the shared token cache is not ours", "unreadable")
            return None
        self._observe("hit")
        return FoundAnswer(answer, remaining_seconds)

    async def put(self, token: str, answer: SharedAnswer, seconds: float) -> None:
        """Store the answer of ``token`` for ``seconds`` from now at most."""
        name = self._seal.name(token)
        sealed = self._seal.seal(name, answer)
        if len(sealed) > LIMIT_BYTES:
            self._observe("too_long")
            return
        if await self._ask(lambda: self._client.put(PREFIX + name, sealed, seconds)) == (True,):
            self._observe("stored")

    async def probe(self) -> None:
        """Store an entry and read it again. Raises what the library raises, or ``ValueError``."""
        token = secrets.token_hex()
        name, answer = self._seal.name(token), SharedAnswer(None, None, 0)
        await self._client.put(PREFIX + name, self._seal.seal(name, answer), PROBE_SECONDS)
        entry = await self._client.get(PREFIX + name)
        if entry is None or self._seal.unseal(name, entry[0]) != answer:
            raise ValueError("it does not return what was stored")

    async def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(Exception):  # Of a server that does not let go.
            await self._client.close()

    async def _ask(self, question: Callable[[], Awaitable[Reply]]) -> tuple[Reply] | None:
        """Return the reply; ``None`` when nothing was asked, or there was none."""
        if self._asking >= AT_ONCE:
            self._observe("busy")
            return None
        if self._breaker.refuses():
            self._observe("circuit_open")
            return None
        self._asking += 1
        try:
            reply = await question()
        except Exception as failure:  # The library raises more than its own.
            self._breaker.failed()
            self._observe("unavailable")
            # Its class alone: a text may quote what the server wrote.
            self._warn("the shared token cache cannot be used", type(failure).__name__)
            return None
        finally:
            self._asking -= 1
        self._breaker.succeeded()
        return (reply,)

    def _warn(self, text: str, reason: str) -> None:
        if self._monotonic() >= self._next_warning:
            self._next_warning = self._monotonic() + WARNING_SECONDS
            log.warning(text, extra={"reason": reason})

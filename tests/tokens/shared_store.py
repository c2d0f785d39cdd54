"""A fake of the server behind the shared token cache."""

from dataclasses import dataclass, field
from typing import Any

from sidecar.access.facts import Token
from sidecar.tokens.shared_answers import AnswerSeal, SharedAnswer
from sidecar.tokens.shared_cache import SharedTokenCache
from tests.common.peer import Clock

SEAL = AnswerSeal(b"k" * 64, b"scope")
ANSWER = SharedAnswer(Token((), 2_000_000, patient="p1"), None, 1_000_000)


@dataclass
class Store:
    """Stands for the server: ``entries`` with their ends; raises ``failing`` when it is set."""

    clock: Clock
    entries: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    failing: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def get(self, name: str) -> tuple[bytes, float] | None:
        """Return a value and what is left of it."""
        self.asked.append("get")
        if self.failing is not None:
            raise self.failing
        value, until = self.entries.get(name, (b"", 0))
        return (value, until - self.clock.now) if until > self.clock.now else None

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        """Store."""
        self.asked.append("put")
        if self.failing is not None:
            raise self.failing
        self.entries[name] = value, self.clock.now + seconds
        return seconds > 0

    async def close(self) -> None:
        """Close."""
        if self.failing is not None:
            raise self.failing


def cache_at(store: Store, seen: list[str] | None = None) -> SharedTokenCache:
    """Return a process's way to the store."""
    client: Any = store
    return SharedTokenCache(
        client,
        SEAL,
        observe=(seen if seen is not None else []).append,
        monotonic=store.clock,
    )

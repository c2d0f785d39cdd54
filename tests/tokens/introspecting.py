"""What stands for introspection in the tests of the token cache."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from sidecar.access.facts import Token
from sidecar.ehr.client_authentication import ClientAuthentication, ClientSecretBasic
from sidecar.tokens.cache import SharedAnswers, TokenCache
from sidecar.tokens.claims import TokenRequirements
from sidecar.tokens.introspection import Introspection
from tests.common.peer import Clock, Peer

GOOD = "a-good-and-recognizable-token"


async def any_issuer() -> tuple[str, ...]:
    """Return no issuer: a test that is about something else."""
    return ()


class Server:
    """Stands for introspection: tokens in ``live`` are active until that second; ``failing`` is
    raised instead.
    """

    def __init__(self, clock: Clock, live: dict[str, float] | None = None) -> None:
        self.clock = clock
        self.live = live or {}
        self.failing: Exception | None = None
        self.asked: list[str] = []
        self.takes_seconds = 0.0
        self.go_on: asyncio.Event | None = None

    async def introspect(self, token: str) -> Token | None:
        """Ask."""
        self.asked.append(token)
        self.clock.now += self.takes_seconds
        if self.go_on is not None:
            await self.go_on.wait()
        if self.failing is not None:
            raise self.failing
        until = self.live.get(token)
        return (
            Token((), until, patient="p1") if until is not None and until > self.clock.now else None
        )


def build(
    server: Server,
    *,
    ttl: float = 60,
    negative: float = 10,
    entries: int = 1_000,
    jitter: float = 0,
    observe: Callable[[str], None] = lambda result: None,
    wall: Clock | None = None,
    shared: SharedAnswers | None = None,
) -> TokenCache:
    """A cache before ``server``, on its clock; ``wall``: a wall clock of its own."""
    return TokenCache(
        server.introspect,
        ttl_seconds=ttl,
        negative_ttl_seconds=negative,
        max_entries=entries,
        shared=shared,
        observe=observe,
        clock=wall or server.clock,
        monotonic=server.clock,
        jitter=lambda: jitter,
    )


def living(seconds: float) -> Server:
    """A server to which the good token is active for ``seconds``."""
    clock = Clock()
    return Server(clock, {GOOD: clock.now + seconds})


SECRET = "a-recognizable-secret"
ACTIVE: dict[str, Any] = {
    "active": True,
    "scope": "patient/ImagingStudy.rs",
    "client_id": "app",
    "exp": 9_999_999_999,
    "patient": "p1",
}


def introspection(
    peer: Peer | str, session: aiohttp.ClientSession, **options: Any
) -> Introspection:
    """Introspection at ``peer``."""
    url = peer if isinstance(peer, str) else f"{peer.url}/introspect"

    async def endpoint() -> str:
        return url

    authentication: ClientAuthentication = options.pop(
        "authentication", ClientSecretBasic("us", SECRET)
    )
    usual: dict[str, Any] = {
        "timeout_seconds": 60,
        "expected": TokenRequirements(),
        "issuers": any_issuer,
    }
    return Introspection(session, endpoint, authentication, **usual | options)

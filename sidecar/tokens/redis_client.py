"""A client of Valkey or Redis that trusts no reply: lengths, time and connections are bounded."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import BlockingConnectionPool, Connection, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse

CONNECTIONS = 16
"""Limit of connections of one process. Further questions wait for one within their time."""
LIMIT_BYTES = 16_384
"""Limit of a value's length."""
SECONDS = 0.25
"""Time limit of a question, in seconds, with connecting and waiting for a connection."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where the server is, and how we log in.

    ``url``: ``redis://host:port/database``, ``rediss://`` (TLS), or ``unix:///path``. ``ca_file``:
    the certificate authorities to trust for it, ``None``: the system's.
    """

    url: str
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = None


class _BoundedParser(_AsyncRESP2Parser):
    """Refuse a reply before it is read when it is too long or has parts.

    A line is bounded by asyncio's ``StreamReader`` (64 KiB).
    """

    async def _readline(self) -> bytes:
        line: bytes = await super()._readline()
        if line.startswith(b"*"):
            raise InvalidResponse("a reply has parts")
        return line

    async def _read(self, length: int) -> bytes:
        if not 0 <= length <= LIMIT_BYTES + 1:
            raise InvalidResponse("a reply is too long")
        value: bytes = await super()._read(length)
        return value


class _TlsConnection(Connection):
    """A connection with a TLS context that is made once.

    The one of the library is made for each connection, and trusts the system's certificate
    authorities beside those of a file.
    """

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


class RedisClient:
    """Reads and writes values with a lifetime at ``server``.

    Both methods raise ``TimeoutError`` after ``seconds``, and what the library raises.
    """

    def __init__(self, server: RedisServer, *, seconds: float) -> None:
        self._seconds = seconds
        pool = BlockingConnectionPool(
            max_connections=CONNECTIONS,
            timeout=seconds,
            username=server.username,
            password=server.password,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
            # RESP2: in RESP3 a server may push messages, one of which sends the client elsewhere.
            protocol=2,
            parser_class=_BoundedParser,
            **_where(server),
        )
        self._redis = Redis.from_pool(pool)

    async def get(self, name: str) -> tuple[bytes, float] | None:
        """Return a value and the seconds that the server will keep it; ``None`` without one.

        A value that is too long is cut at ``LIMIT_BYTES`` + 1. The seconds of a value that never
        ends are 0.
        """
        async with asyncio.timeout(self._seconds):
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.getrange(name, 0, LIMIT_BYTES)
                pipeline.pttl(name)
                value, milliseconds = await pipeline.execute()
        if not isinstance(value, bytes) or not isinstance(milliseconds, int):
            raise InvalidResponse("a reply has another type")
        return (value, max(milliseconds, 0) / 1_000) if value else None

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        """Store a value that ends ``seconds`` after the call began, whatever the call takes.

        Returns whether it was stored: its end may be too near.
        """
        milliseconds = int((seconds - self._seconds) * 1_000)
        if milliseconds <= 0:
            return False
        async with asyncio.timeout(self._seconds):
            await self._redis.set(name, value, px=milliseconds)
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _where(server: RedisServer) -> dict[str, Any]:
    parts = urlsplit(server.url)
    if parts.scheme == "unix":
        return {"connection_class": UnixDomainSocketConnection, "path": unquote(parts.path)}
    where: dict[str, Any] = {
        "connection_class": Connection,
        "host": parts.hostname,
        "port": parts.port or 6_379,
        "db": int(parts.path.strip("/") or 0),
    }
    if parts.scheme == "rediss":
        context = ssl.create_default_context(cafile=server.ca_file)
        where |= {"connection_class": _TlsConnection, "context": context}
    return where

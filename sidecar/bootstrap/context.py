"""What the builders of this package share, and the HTTP client that they build for a peer."""

import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp

from sidecar import __version__
from sidecar.common.connector import CleanConnector, CleanResponse
from sidecar.common.invalidation import Invalidation
from sidecar.ehr.discovery import Discovery
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import TlsClient
from sidecar.telemetry.metrics import Metrics

READ_BUFFER_BYTES = 2**19
"""Read buffer of each upstream response. Reading pauses when twice this waits in memory."""


class _Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


Part = TypeVar("Part", bound=_Closable)


@dataclass(frozen=True, slots=True)
class Host:
    """What the workers of a host share.

    ``key``: what keys are made of for which the settings name no file. ``folder``: of metrics and
    forgetting, ``None`` for a process alone.
    """

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The settings, and what several parts use. Leaving ``stack`` closes what was built."""

    settings: Settings
    host: Host
    metrics: Metrics
    invalidation: Invalidation
    stack: contextlib.AsyncExitStack
    ehr_session: aiohttp.ClientSession
    discovery: Discovery

    def closing(self, part: Part) -> Part:
        """Return ``part``, which is closed when ``stack`` is left."""
        self.stack.push_async_callback(part.close)
        return part

    async def session(self, ca_file: Path | None, connections: int) -> aiohttp.ClientSession:
        """Return an HTTP client as ``open_session`` makes it, closed when ``stack`` is left."""
        return await self.stack.enter_async_context(open_session(ca_file, connections=connections))


@contextlib.asynccontextmanager
async def open_session(
    ca_file: Path | None, *, connections: int, client: object = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the HTTP client for a peer.

    ``ca_file`` has the authorities to trust (``None``: the system's). At most ``connections`` are
    open at once. The certificate of ``client`` is shown if it is a ``TlsClient``.
    """
    context: ssl.SSLContext | bool = True
    if ca_file is not None or isinstance(client, TlsClient):
        context = ssl.create_default_context(cafile=ca_file)
        if isinstance(client, TlsClient):
            context.load_cert_chain(client.certificate_file, client.private_key_file)
    # trust_env stays off: a proxy variable must not send tokens elsewhere. No cookies: all users
    # would share them.
    async with aiohttp.ClientSession(
        connector=CleanConnector(limit=connections, ssl=context, keepalive_timeout=15),
        response_class=CleanResponse,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        headers={"User-Agent": f"smart-imaging-sidecar/{__version__}"},
    ) as session:
        yield session

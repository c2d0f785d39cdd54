"""A listener: an application served on a socket, until it is left."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from sidecar.web.connection import Runner

LINGERING_SECONDS = 2
"""How long the rest of a body that nobody wants is read before its connection is closed."""


@contextlib.asynccontextmanager
async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    drain_seconds: float = 1,
    idle_seconds: float = 75,
    observe_malformed: Callable[[int], None] = lambda status: None,
    name: str = "listener",
) -> AsyncIterator[int]:
    """Serve ``app`` on a socket; yields the port. On leaving, running requests get ``drain_seconds`` to end.

    ``idle_seconds``: how long a connection may wait for a whole request head; ``observe_malformed`` is told the status
    of each request that was not even HTTP. Raises ``OSError`` with ``name`` and address when the port cannot be had.
    """
    runner = Runner(
        # aiohttp waits this long twice: for handlers to end, and again before it cancels them.
        app, observe=observe_malformed, shutdown_timeout=drain_seconds / 2, access_log=None,
        keepalive_timeout=idle_seconds, lingering_time=LINGERING_SECONDS,
    )  # fmt: skip
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=False)
        try:
            await site.start()
        except OSError as error:
            known = error.errno if isinstance(error.errno, int) and error.errno > 0 else None
            why = os.strerror(known).lower() if known else error.strerror
            raise OSError(error.errno, why, f"{name}: {host}:{port}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()

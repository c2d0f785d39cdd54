"""A listener: an application that is served on listening sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web

from sidecar.server.shared_site import SharedSite
from sidecar.server.sockets import BACKLOG, listen_on
from sidecar.web.connection_limit import DEFAULT_LIMIT, ConnectionLimit
from sidecar.web.connection_runner import ConnectionRunner

LINGERING_SECONDS = 2
"""Seconds that the rest of an unwanted body is read before its connection is closed."""
_ARRIVING_SECONDS = 0.2
_FIRST_REQUEST_SECONDS = 5
_LOOK_SECONDS = 0.05
_LEAST_SECONDS = 0.001


class Listener:
    """Serve ``app`` on ``sockets``, which listen already.

    ``is_shared``: other processes accept on them, too, and get their share. A connection may wait
    ``idle_seconds`` for a whole request head. ``observe_malformed`` gets the status of each request
    that was not HTTP. ``limit`` bounds the open connections.
    """

    def __init__(
        self,
        app: web.Application,
        sockets: Sequence[socket.socket],
        *,
        is_shared: bool = False,
        idle_seconds: float = 75,
        observe_malformed: Callable[[int], None] = lambda status: None,
        limit: ConnectionLimit = DEFAULT_LIMIT,
    ) -> None:
        self._runner = ConnectionRunner(
            app,
            observe=observe_malformed,
            limit=limit,
            access_log=None,
            keepalive_timeout=idle_seconds,
            lingering_time=LINGERING_SECONDS,
        )
        self._sockets = sockets
        self._site = SharedSite if is_shared else web.SockSite

    async def start(self) -> None:
        """Accept connections."""
        await self._runner.setup()
        for listening in self._sockets:
            await self._site(self._runner, listening, backlog=BACKLOG).start()

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def stop_accepting(self) -> None:
        """Accept no more connections. Each that is open has one more answer."""
        for site in list(self._runner.sites):
            await site.stop()
        self._runner.close_after_answers()

    async def stop(self, drain_seconds: float, *, idle_seconds: float = _ARRIVING_SECONDS) -> None:
        """Accept no more connections, and give running requests ``drain_seconds`` to end.

        Clients must have their last bytes in that time, too; what is not whole then is reset.
        Idle connections have ``idle_seconds`` for one more request.
        """
        until = asyncio.get_running_loop().time() + drain_seconds
        await self.stop_accepting()
        await self._wait_for_requests(drain_seconds / 10, idle_seconds)
        # aiohttp waits this long twice: for handlers, and before it cancels them. 0 is for ever.
        self._runner.limit_shutdown(max(drain_seconds / 2, _LEAST_SECONDS))
        unsent = self._runner.keep_unsent()
        try:
            await self._runner.cleanup()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await unsent.sent()
        except asyncio.CancelledError:
            self._runner.reset_unfinished()
            raise
        finally:
            unsent.close()

    async def _wait_for_requests(self, seconds: float, idle_seconds: float) -> None:
        """Wait, at most ``seconds``, for requests that are on their way.

        A connection that was just accepted is not idle: it has one, which may take its time. Nor
        is one whose bytes wait to be read: to close it would lose a request (RFC 9112 9.5).
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.sleep(min(_ARRIVING_SECONDS, seconds))
        until = began + min(seconds, idle_seconds + _FIRST_REQUEST_SECONDS)
        while clock() < until:
            is_early = clock() - began < idle_seconds
            if not (self._runner.has_idle() if is_early else self._runner.close_idle()):
                break
            await asyncio.sleep(_LOOK_SECONDS)


@contextlib.asynccontextmanager
async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    name: str = "listener",
    drain_seconds: float = 0.1,
    **options: Any,
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs, and yield the port. ``options`` are the ``Listener``'s.

    Raises ``OSError`` with ``name`` and the address when the port cannot be had.
    On leaving, running requests get ``drain_seconds`` to end.
    """
    listener = Listener(app, listen_on(host, port, name), **options)
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.stop(drain_seconds)

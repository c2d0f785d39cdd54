"""A listener: an application that is served on a socket, which another may take over."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web

from sidecar.web.connection import ConnectionRunner
from sidecar.web.connection_limit import DEFAULT_LIMIT, ConnectionLimit

LINGERING_SECONDS = 2
"""Seconds that the rest of an unwanted body is read before its connection is closed."""
_ARRIVING_SECONDS = 0.2
_LEAST_SECONDS = 0.001


class Listener:
    """Serve ``app`` on ``host`` and ``port``, or on ``sockets`` that listen already.

    A connection may wait ``idle_seconds`` for a whole request head. ``observe_malformed`` gets the
    status of each request that was not HTTP. ``limit`` bounds the open connections. ``name`` stands
    in the error when the port cannot be had.
    """

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        *,
        sockets: Sequence[socket.socket] = (),
        idle_seconds: float = 75,
        observe_malformed: Callable[[int], None] = lambda status: None,
        limit: ConnectionLimit = DEFAULT_LIMIT,
        name: str = "listener",
    ) -> None:
        self._runner = ConnectionRunner(
            app,
            observe=observe_malformed,
            limit=limit,
            access_log=None,
            keepalive_timeout=idle_seconds,
            lingering_time=LINGERING_SECONDS,
        )
        self._host, self._port, self._name = host, port, name
        self._taken = list(sockets)

    async def start(self) -> None:
        """Accept connections.

        Raises ``OSError`` with name and address when the port cannot be had.
        """
        await self._runner.setup()
        try:
            if self._taken:
                for taken in self._taken:
                    await web.SockSite(self._runner, taken).start()
            else:
                await web.TCPSite(self._runner, self._host, self._port, reuse_port=False).start()
        except OSError as error:
            await self._runner.cleanup()
            known = error.errno if isinstance(error.errno, int) and error.errno > 0 else None
            why = os.strerror(known).lower() if known else error.strerror
            raise OSError(error.errno, why, f"{self._name}: {self._host}:{self._port}") from None

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        port: int = self._runner.addresses[0][1]
        return port

    def sockets(self) -> list[socket.socket]:
        """Return duplicates of its listening sockets, for a listener that takes over."""
        # aiohttp has no public way to them.
        servers = [getattr(site, "_server", None) for site in self._runner.sites]
        return [
            socket.socket(fileno=os.dup(listening.fileno()))
            for server in servers
            for listening in getattr(server, "sockets", ())
        ]

    async def stop(self, drain_seconds: float, *, process_ends: bool = True) -> None:
        """Accept no more connections, and give running requests ``drain_seconds`` to end.

        ``process_ends``: clients must have their last bytes in that time, too; what is not whole
        then is reset. Otherwise the kernel goes on sending them.
        """
        until = asyncio.get_running_loop().time() + drain_seconds
        for site in list(self._runner.sites):
            await site.stop()
        # A connection that was just accepted has a request on the way: it is not idle.
        await asyncio.sleep(min(_ARRIVING_SECONDS, drain_seconds / 10))
        # aiohttp waits this long twice: for handlers, and before it cancels them. 0 is for ever.
        self._runner.limit_shutdown(max(drain_seconds / 2, _LEAST_SECONDS))
        unsent = self._runner.keep_unsent()
        try:
            await self._runner.cleanup()
            if process_ends:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await unsent.sent()
        except asyncio.CancelledError:
            self._runner.reset_unfinished()
            raise
        finally:
            unsent.close(resets=process_ends)


@contextlib.asynccontextmanager
async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    drain_seconds: float = 0.1,
    **options: Any,
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs, and yield the port. ``options`` are the ``Listener``'s.

    On leaving, running requests get ``drain_seconds`` to end.
    """
    listener = Listener(app, host, port, **options)
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.stop(drain_seconds)

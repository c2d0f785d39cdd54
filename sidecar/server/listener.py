"""A listener: an application served on a socket, until it is left.

Another may take its socket over meanwhile.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web

from sidecar.web.connection import ConnectionRunner
from sidecar.web.connection_limit import DEFAULT_LIMIT, ConnectionLimit

LINGERING_SECONDS = 2
"""How long the rest of a body that nobody wants is read before its connection is closed."""
_ARRIVING_SECONDS = 0.2
_LEAST_SECONDS = 0.001


class Listener:
    """``app`` on ``host`` and ``port``, or on ``sockets`` that listen already.

    ``idle_seconds``: how long a connection may wait for a whole request head; ``observe_malformed``
    is told the status of each request that was not even HTTP; ``limit``: how many connections are
    open at once; ``name`` stands in the error when the port cannot be had.
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
                for one in self._taken:
                    await web.SockSite(self._runner, one).start()
            else:
                await web.TCPSite(self._runner, self._host, self._port, reuse_port=False).start()
        except OSError as error:
            await self._runner.cleanup()
            known = error.errno if isinstance(error.errno, int) and error.errno > 0 else None
            why = os.strerror(known).lower() if known else error.strerror
            raise OSError(error.errno, why, f"{self._name}: {self._host}:{self._port}") from None

    @property
    def port(self) -> int:
        """Where it listens."""
        found: int = self._runner.addresses[0][1]
        return found

    def sockets(self) -> list[socket.socket]:
        """Its listening sockets once more, for a listener that takes over: no connection is refused meanwhile."""
        # aiohttp has no other way to them.
        servers = [getattr(site, "_server", None) for site in self._runner.sites]
        return [
            socket.socket(fileno=os.dup(one.fileno()))
            for server in servers
            for one in getattr(server, "sockets", ())
        ]

    async def stop(self, drain_seconds: float, *, process_ends: bool = True) -> None:
        """Accept no more, and give running requests so long to end.

        ``process_ends``: their clients, too, to have their last bytes; whatever is not whole then
        is reset. Else the kernel goes on sending them.
        """
        until = asyncio.get_running_loop().time() + drain_seconds
        for site in list(self._runner.sites):
            await site.stop()
        # A connection that has just been accepted would be closed as an idle one: its request is on
        # the way.
        await asyncio.sleep(min(_ARRIVING_SECONDS, drain_seconds / 10))
        # aiohttp waits this long twice: for handlers to end, and again before it cancels them. 0
        # were for ever.
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
    drain_seconds: float = 1,
    idle_seconds: float = 75,
    observe_malformed: Callable[[int], None] = lambda status: None,
    limit: ConnectionLimit = DEFAULT_LIMIT,
    name: str = "listener",
) -> AsyncIterator[int]:
    """Serve ``app`` on a socket; yields the port.

    On leaving, running requests get ``drain_seconds`` to end.

    The rest as in ``Listener``.
    """
    listener = Listener(
        app,
        host,
        port,
        idle_seconds=idle_seconds,
        observe_malformed=observe_malformed,
        limit=limit,
        name=name,
    )
    await listener.start()
    try:
        yield listener.port
    finally:
        await listener.stop(drain_seconds)

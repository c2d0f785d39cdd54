"""Accept connections on a listening socket so that other processes get their share of them."""

import asyncio
import logging
import socket

from aiohttp import web

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.002
"""Seconds after each connection in which other processes may accept the next one."""
_ERROR_SECONDS = 1


class SharedSite(web.SockSite):
    """Accept one connection at a time, and pause after each.

    An event loop by itself accepts all that wait. The first process to wake would have all
    connections that are opened at once, and keep them.
    """

    async def start(self) -> None:
        """Accept connections from now on."""
        await web.BaseSite.start(self)
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause = self._loop.call_soon(self._go_on)

    async def stop(self) -> None:
        """Accept no more. Those that were accepted are served."""
        self._pause.cancel()
        self._loop.remove_reader(self._sock)
        await asyncio.gather(*self._connecting)
        self._sock.close()
        await super().stop()

    def _go_on(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        seconds: float = PAUSE_SECONDS
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):  # Another process was faster.
            return
        except OSError as error:  # Too many open files: later there may be fewer.
            log.error("a connection cannot be accepted", extra={"detail": error.strerror})
            seconds = _ERROR_SECONDS
        else:
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._go_on)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        assert self._runner.server is not None  # noqa: S101
        try:
            await self._loop.connect_accepted_socket(self._runner.server, connection)
        except OSError:  # Its client has gone.
            connection.close()

"""aiohttp applications on real sockets in a thread of their own, for tests whose clients block."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.waiting import WAIT_SECONDS

Result = TypeVar("Result")


class Background:
    """A context manager with an event loop in a thread; ``serve`` starts applications in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="background servers", daemon=True
        )
        self._runners: list[web.AppRunner] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for runner in reversed(self._runners):
            self.run(runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the background loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_SECONDS)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the background loop, in whose thread an application must be used."""

        async def inside() -> Result:
            return function()

        return self.run(inside())

    def serve(
        self,
        app: web.Application,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> int:
        """Serve ``app`` on a port, of the loopback if nothing else is said; returns the port."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        self._runners.append(runner)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
            bound: int = runner.addresses[0][1]
            return bound

        return self.run(start())

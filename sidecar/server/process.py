"""The process: one generation of the sidecar serves. A reload starts the next on its sockets.

The next generation takes over when all of it could be built; a bad file leaves the old one serving.
Transfers of the old one go on to their end. The next one begins with empty caches.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import socket

from sidecar import __version__
from sidecar.bootstrap.build import Sidecar, build
from sidecar.common.background import background
from sidecar.pacs.client import PacsClient
from sidecar.pacs.detection import detect_dialect
from sidecar.server import startup_log
from sidecar.server.file_watch import watch
from sidecar.server.listener import Listener
from sidecar.server.open_files import connections_allowed, raise_open_files
from sidecar.settings.document import Settings
from sidecar.settings.load import ConfigurationError
from sidecar.settings.server import Server
from sidecar.telemetry.metrics import Metrics
from sidecar.web.connection_limit import ADMIN_LIMIT, ConnectionLimit, OpenConnections

log = logging.getLogger(__name__)

RETIRED_SECONDS = 3_600
"""Seconds that the transfers of a replaced generation may go on."""
Load = Callable[[], Settings]
"""Read the configuration again. Raises ``ConfigurationError``."""


class Generation:
    """A sidecar with its two listeners, on the ``sockets`` (public, admin) of the one before.

    All generations of a process share ``metrics`` and ``connections`` (those of the public
    listener).
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        sockets: tuple[Sequence[socket], Sequence[socket]] = ((), ()),
        connections: OpenConnections | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.connections = OpenConnections() if connections is None else connections
        self._sockets = sockets
        self._over = asyncio.Event()
        self._drain_seconds = settings.server.drain_seconds
        self._heir: Settings | None = None
        self._started: asyncio.Future[Sidecar] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve())
        self._listeners: list[Listener] = []
        self.client_connections = connections_allowed(settings.server.max_connections)

    async def started(self) -> Sidecar:
        """Wait until it serves. Raises ``OSError`` for a port, ``ValueError`` for a setting."""
        return await asyncio.shield(self._started)

    def sockets(self) -> tuple[list[socket], list[socket]]:
        """Return its listening sockets, duplicated."""
        public, admin = self._listeners
        return public.sockets(), admin.sockets()

    def ports(self) -> tuple[int, int]:
        """Return the ports (public, admin), which are those of the first generation."""
        public, admin = (listener.sockets()[0].getsockname()[1] for listener in self._listeners)
        return public, admin

    async def end(self, drain_seconds: float, *, heir: Settings | None = None) -> None:
        """Accept no more connections, and give running transfers ``drain_seconds``.

        ``heir``: the settings of the next generation, if any.
        """
        self._drain_seconds, self._heir = drain_seconds, heir
        self._over.set()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            async with (
                build(self.settings, metrics=self.metrics) as sidecar,
                contextlib.AsyncExitStack() as stack,
            ):
                server = self.settings.server
                admin = Listener(
                    sidecar.admin,
                    server.admin_host,
                    server.admin_port,
                    sockets=self._sockets[1],
                    limit=ADMIN_LIMIT,
                    name="server.admin_port",
                )
                public = Listener(
                    sidecar.public,
                    server.host,
                    server.port,
                    sockets=self._sockets[0],
                    observe_malformed=sidecar.metrics.observe_malformed,
                    name="server.port",
                    limit=ConnectionLimit(
                        self.client_connections,
                        observe_refused=self.metrics.connections_refused.inc,
                        observe_closed=self.metrics.idle_connections_closed.inc,
                        connections=self.connections,
                    ),
                )
                # The public one first: the admin listener reports that we are ready.
                await public.start()
                try:
                    await admin.start()
                except OSError:
                    await public.stop(0)
                    raise
                stack.push_async_callback(admin.stop, 1)
                self._listeners = [public, admin]
                self._started.set_result(sidecar)
                await self._over.wait()
                # A replaced generation is not draining: a disconnect there is the client's.
                sidecar.readiness.draining = self._heir is None
                # The next generation delivers the events of the transfers that go on here.
                sidecar.audit.hand_over()
                await public.stop(self._drain_seconds, process_ends=self._heir is None)
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


async def run(
    settings: Settings,
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
    load: Load | None = None,
    files: Sequence[Path] = (),
) -> None:
    """Serve until ``stop`` is set, then drain.

    When ``reload`` is set, or a file has changed (``server.reload_seconds``), ``load`` the
    configuration and go on with it. ``files`` are those that ``load`` reads. Raises ``OSError`` for
    a port, ``ValueError`` for a setting that cannot be used.
    """
    raise_open_files()
    reload = asyncio.Event() if reload is None else reload
    current = Generation(settings, Metrics(__version__))
    listening = settings.server  # All generations have the sockets of the first.
    sidecar = await current.started()
    await _log_start(sidecar, current, "serving")
    retired: dict[asyncio.Task[None], Generation] = {}
    async with background(watch(lambda: current.settings, files, reload)):
        while not await _stopped(stop, reload):
            following = await _next(current, load, listening)
            if following is not None:
                ending = asyncio.create_task(current.end(RETIRED_SECONDS, heir=following.settings))
                retired[ending] = current
                ending.add_done_callback(retired.pop)
                current = following
                await _log_start(await current.started(), current, "reloaded")
    drain_seconds = current.settings.server.drain_seconds
    log.info("draining", extra={"seconds": drain_seconds})
    await asyncio.gather(current.end(drain_seconds), _drain(retired, drain_seconds))


async def _drain(retired: Mapping[asyncio.Task[None], Generation], seconds: float) -> None:
    """Give the transfers of replaced generations ``seconds`` to end, then reset them."""
    waiting = list(retired)
    for generation in list(retired.values()):  # Each leaves the mapping when it ends.
        (await generation.started()).readiness.draining = True
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _stopped(stop: asyncio.Event, reload: asyncio.Event) -> bool:
    """Wait for one of the events. Return whether it is ``stop``."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, reload)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    reload.clear()
    return stop.is_set()


async def _next(current: Generation, load: Load | None, listening: Server) -> Generation | None:
    """Start the next generation, or log why not and return ``None``.

    ``listening``: the settings with which the sockets were opened.
    """
    if load is None:
        return None
    try:
        settings = await asyncio.to_thread(load)
    except ConfigurationError as error:
        log.error(
            "the new configuration cannot be used: the old one goes on",
            extra={"problems": error.problems},
        )
        return None
    for name in ("host", "port", "admin_host", "admin_port"):
        now, wanted = getattr(listening, name), getattr(settings.server, name)
        if wanted != now:
            extra = {"setting": "server." + name, "configured": wanted, "listening": now}
            log.warning("a change that needs a restart", extra=extra)
    following = Generation(settings, current.metrics, current.sockets(), current.connections)
    try:
        await following.started()
    except (OSError, ValueError) as error:
        log.error(
            "the new configuration cannot be used: the old one goes on",
            extra={"problems": [str(error)]},
        )
        return None
    return following


async def _log_start(sidecar: Sidecar, generation: Generation, what: str) -> None:
    """Log what is configured and reachable."""
    problems = await sidecar.readiness.problems()
    log.info(what, extra=startup_log.summary(generation.ports(), problems))
    startup_log.log_settings(
        generation.settings, problems, client_connections=generation.client_connections
    )
    if "pacs" not in problems:
        await _compare_dialect(sidecar.pacs)


async def _compare_dialect(pacs: PacsClient) -> None:
    """Log a warning when the PACS is another product than is configured."""
    detected = await detect_dialect(pacs)
    if detected not in (None, pacs.dialect.name):
        log.warning(
            "the PACS looks like another product: check pacs.dialect",
            extra={"configured": pacs.dialect.name, "detected": detected},
        )

"""The process: one generation of the sidecar serves.

A reload starts the next one on the same sockets.

Everything is built anew from the files, and only when all of it could be built does it take over: a
bad file leaves the old one serving. What the old one is sending goes on to its end. As after a
restart, caches are empty.
"""

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from socket import socket

from pydantic import BaseModel

from sidecar import __version__
from sidecar.bootstrap.build import Sidecar, build
from sidecar.common.background import background
from sidecar.pacs.client import PacsClient
from sidecar.pacs.detection import detect_dialect
from sidecar.server import startup_log as startup
from sidecar.server.listener import Listener
from sidecar.settings.document import Settings
from sidecar.settings.load import ConfigurationError
from sidecar.settings.server import Server
from sidecar.telemetry.metrics import Metrics
from sidecar.web.connection_limit import ADMIN_LIMIT, ConnectionLimit, OpenConnections

log = logging.getLogger(__name__)

RETIRED_SECONDS = 3_600
"""How long the transfers of a generation that has been replaced may go on."""
Load = Callable[[], Settings]
"""Reads the configuration anew. Raises ``ConfigurationError``."""


class Generation:
    """A sidecar with its two listeners, from ``settings``.

    On ``sockets`` (public, admin) of the one before, if any.

    ``metrics`` and ``connections``, those of the public listener, are the process's: what an old
    generation still counts must be seen, and the connections that it still has must be counted.
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
        """Wait until it serves.

        Raises what kept it: ``OSError`` for a port, ``ValueError`` for a key.
        """
        return await asyncio.shield(self._started)

    def sockets(self) -> tuple[list[socket], list[socket]]:
        """Its listening sockets once more."""
        public, admin = self._listeners
        return public.sockets(), admin.sockets()

    def ports(self) -> tuple[int, int]:
        """Where it listens, which is not where its settings say after a reload with other ones."""
        public, admin = (listener.sockets()[0].getsockname()[1] for listener in self._listeners)
        return public, admin

    async def inherited(self, heir: Settings) -> None:
        """Deliver no audit events any more if ``heir``, the newest settings, have it done from the same folder."""
        if _deliver_the_same(heir, self.settings):
            (await self.started()).audit.retire()

    async def end(self, drain_seconds: float, *, heir: Settings | None = None) -> None:
        """Accept no more; what is under way gets so long.

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
                # The public one first: who hears from the other that we are there may send clients
                # at once.
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
                # Of one that was replaced nothing ends: a client that leaves it is a client that
                # leaves.
                sidecar.readiness.draining = self._heir is None
                # What its transfers still have to tell, the next one delivers.
                if self._heir is not None:
                    await self.inherited(self._heir)
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

    When ``reload`` is set, ``load`` the configuration and go on with it.

    ``files``: those that ``load`` reads, watched with ``server.reload_seconds`` like all that the
    settings name. Raises ``OSError`` when a port cannot be had, ``ValueError`` for a key that
    cannot be used.
    """
    _raise_open_files()
    reload = asyncio.Event() if reload is None else reload
    current = Generation(settings, Metrics(__version__))
    listening = settings.server  # Every generation has the sockets of the first.
    sidecar = await current.started()
    await _say(sidecar, current, "serving")
    retired: dict[asyncio.Task[None], Generation] = {}
    async with background(_watch(lambda: current.settings, files, reload)):
        while not await _stopped(stop, reload):
            following = await _next(current, load, listening)
            if following is not None:
                ending = asyncio.create_task(current.end(RETIRED_SECONDS, heir=following.settings))
                # One with the folder of the newest, but not of the one between.
                for old in list(retired.values()):
                    await old.inherited(following.settings)
                retired[ending] = current
                ending.add_done_callback(retired.pop)
                current = following
                await _say(await current.started(), current, "reloaded")
    drain_seconds = current.settings.server.drain_seconds
    log.info("draining", extra={"seconds": drain_seconds})
    await asyncio.gather(current.end(drain_seconds), _drain(retired, drain_seconds))


async def _drain(retired: Mapping[asyncio.Task[None], Generation], seconds: float) -> None:
    """Give so long to what generations before the last are still sending; then reset it."""
    waiting = list(retired)
    for generation in list(retired.values()):  # Each leaves the mapping when it ends.
        (await generation.started()).readiness.draining = True
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _stopped(stop: asyncio.Event, reload: asyncio.Event) -> bool:
    """Wait for either; ``True``: to stop."""
    waiting = [asyncio.create_task(one.wait()) for one in (stop, reload)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    reload.clear()
    return stop.is_set()


async def _next(current: Generation, load: Load | None, listening: Server) -> Generation | None:
    """Start the following generation, or say why not and leave the current one.

    ``listening``: the settings by which the sockets were opened.
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


def _deliver_the_same(one: Settings, other: Settings) -> bool:
    """Whether both take their audit events to the repository from one folder."""
    folders = [settings.audit.spool.folder for settings in (one, other)]
    return (
        all(folder is not None for folder in folders)
        and len({f.resolve() for f in folders if f is not None}) == 1
    )


async def _say(sidecar: Sidecar, generation: Generation, what: str) -> None:
    """Tell what is configured and reachable."""
    problems = await sidecar.readiness.problems()
    log.info(what, extra=startup.summary(generation.ports(), problems))
    startup.say(generation.settings, problems, client_connections=generation.client_connections)
    if "pacs" not in problems:
        await _compare_dialect(sidecar.pacs)


async def _compare_dialect(pacs: PacsClient) -> None:
    """Tell operators when the PACS is another product than they wrote: it would be asked in a way it misreads."""
    found = await detect_dialect(pacs)
    if found not in (None, pacs.dialect.name):
        log.warning(
            "the PACS looks like another product: check pacs.dialect",
            extra={"configured": pacs.dialect.name, "detected": found},
        )


async def _watch(
    settings: Callable[[], Settings], files: Sequence[Path], reload: asyncio.Event
) -> None:
    """Set ``reload`` when one of ``files``, or one that the settings name, has changed, if the site wants that."""
    known = _versions(settings(), files)
    while True:
        await asyncio.sleep(settings().server.reload_seconds or 1)
        seen = _versions(settings(), files)
        # Files that a reload has just named first are no change.
        changed = any(seen[file] != known[file] for file in seen.keys() & known.keys())
        if changed and settings().server.reload_seconds:
            reload.set()
        known = seen


def _versions(settings: Settings, files: Sequence[Path]) -> dict[Path, object]:
    return {file: _version(file) for file in (*files, *files_of(settings))}


def files_of(section: BaseModel) -> Iterator[Path]:
    """Every file that the settings name, but those that we write ourselves."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        listed = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else [value]
        )
        for one in listed:
            if isinstance(one, BaseModel):
                yield from files_of(one)
            elif isinstance(one, Path) and name not in ("file", "folder"):
                yield one


def _version(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def connections_allowed(configured: int) -> int:
    """Return how many client connections are accepted: ``configured``, or half of the files that may be open.

    The other half is for the archive, the EHR, files, and the admin listener, which has to answer
    in any case.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY or files // 2 >= configured:
        return configured
    allowed = files // 2
    log.warning(
        "fewer client connections than server.max_connections: raise the limit of open files of this process",
        extra={"configured": configured, "allowed": allowed},
    )
    return allowed


def _raise_open_files() -> None:
    """Take all the open files that the system grants: each client and each upstream connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4_096:
        log.warning(
            "few open files are allowed: raise the limit of this process", extra={"limit": soft}
        )

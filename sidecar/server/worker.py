"""A worker: the whole sidecar in a process, on the listening sockets of the supervisor."""

import asyncio
import logging

from sidecar import __version__
from sidecar.bootstrap.build import Sidecar, build
from sidecar.bootstrap.context import Host
from sidecar.common import event_loop
from sidecar.common.background import background
from sidecar.pacs.client import PacsClient
from sidecar.pacs.detection import detect_dialect
from sidecar.server.child import Channel
from sidecar.server.listener import Listener
from sidecar.server.open_files import connections_allowed, raise_open_files
from sidecar.server.startup_log import log_settings
from sidecar.server.worker_process import WorkerTask
from sidecar.settings.document import Settings
from sidecar.settings.shares import share_of_worker
from sidecar.telemetry.logs import configure_logs
from sidecar.telemetry.metrics import Metrics
from sidecar.web.connection_limit import ADMIN_LIMIT, ConnectionLimit

log = logging.getLogger(__name__)

RETIRE_SECONDS = 3_600
"""Seconds that the transfers of a replaced worker may go on."""
IDLE_SECONDS = 5
"""Seconds that a replaced worker keeps idle connections. Their next answer is the last one."""
HEARTBEAT_SECONDS = 5


def work(task: WorkerTask, channel: Channel) -> int:
    """Serve until the supervisor or a signal ends it. Return the exit code.

    A ``problem`` is sent when the settings cannot be used.
    """
    settings = share_of_worker(task.configuration.settings, task.configuration.workers)
    configure_logs(settings.log.level)
    raise_open_files()
    try:
        event_loop.serve(lambda stop: _serve(settings, task, channel, stop))
    except OSError as error:
        text = error.strerror or str(error)
        channel.send(problem=f"{error.filename}: {text}" if error.filename else text)
        return 2
    except ValueError as error:  # A file that was fine when the configuration was read.
        channel.send(problem=f"cannot start: {error}")
        return 2
    return 0


async def _serve(
    settings: Settings, task: WorkerTask, channel: Channel, stop: asyncio.Event
) -> None:
    """Serve until ``stop`` is set, or the supervisor replaces this worker or ends."""
    connections = connections_allowed(settings.limits.client_connections)
    metrics = Metrics(__version__, task.folder)
    metrics.worker_starts.labels(reason=task.reason).inc()
    async with build(settings, metrics=metrics, host=Host(task.host_key, task.folder)) as sidecar:
        admin = Listener(sidecar.admin, task.sockets.admin, limit=ADMIN_LIMIT)
        public = Listener(
            sidecar.public,
            task.sockets.public,
            is_shared=task.configuration.workers > 1,
            observe_malformed=metrics.observe_malformed,
            limit=ConnectionLimit(
                connections,
                observe_refused=metrics.connections_refused.inc,
                observe_closed=metrics.idle_connections_closed.inc,
            ),
        )
        # The public one first: the admin listener reports that we are ready.
        await public.start()
        await admin.start()
        stopped = asyncio.create_task(stop.wait())
        replaced = asyncio.create_task(_follow(channel, stop, metrics).wait())
        channel.send(ready=True)
        async with (
            background(_send_heartbeats(channel)),
            background(_log_start(sidecar, settings, task, connections)),
        ):
            await asyncio.wait([stopped, replaced], return_when=asyncio.FIRST_COMPLETED)
            drain_seconds = settings.server.drain_seconds
            if stopped.done():
                sidecar.readiness.draining = True
                if not channel.is_open:  # The supervisor is gone: the next one needs the port.
                    await admin.stop_accepting()
                    sidecar.audit.hand_over()
                await public.stop(drain_seconds)
            else:
                await public.stop_accepting()
                await admin.stop_accepting()
                channel.send(retiring=True)
                sidecar.audit.hand_over()
                ending = asyncio.create_task(public.stop(RETIRE_SECONDS, idle_seconds=IDLE_SECONDS))
                await asyncio.wait([stopped, ending], return_when=asyncio.FIRST_COMPLETED)
                # What breaks off from now on does so because of us.
                sidecar.readiness.draining = True
                await asyncio.wait([ending], timeout=drain_seconds)
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
            await admin.stop(1)


def _follow(channel: Channel, stop: asyncio.Event, metrics: Metrics) -> asyncio.Event:
    """Do what the supervisor sends. Return what is set when this worker was replaced."""
    loop, replaced = asyncio.get_running_loop(), asyncio.Event()

    def receive() -> None:
        messages, is_closed = channel.receive()
        for message in messages:
            if "retire" in message:
                replaced.set()
            elif "reload" in message:
                metrics.reloads.labels(outcome=message["reload"]).inc()
        if is_closed:  # Nobody would start us again, or end us.
            loop.remove_reader(channel)
            stop.set()

    loop.add_reader(channel, receive)
    return replaced


async def _send_heartbeats(channel: Channel) -> None:
    """Report to the supervisor that the event loop goes on."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        channel.send(heartbeat=True)


async def _log_start(
    sidecar: Sidecar, settings: Settings, task: WorkerTask, connections: int
) -> None:
    """Log what is configured and reachable, once for all workers."""
    if task.index != 0 or task.reason == "restart":
        return
    problems = await sidecar.readiness.problems()
    log_settings(settings, problems, client_connections=connections)
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

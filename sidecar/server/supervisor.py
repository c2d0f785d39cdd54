"""The supervisor: it opens the listening sockets, and keeps worker processes that accept on them.

It handles no request and imports little, so it stays small. A reload starts new workers on the same
sockets; when they are ready, the old ones accept no more and end with their transfers.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecar import __version__
from sidecar.server.child import Channel, Child, Message
from sidecar.server.children import Children, Ended, Event, Received
from sidecar.server.configuration import Configuration
from sidecar.server.file_watch import FileWatch
from sidecar.server.service_manager import notify, notify_reloading
from sidecar.server.sockets import Sockets
from sidecar.server.worker_process import Generation, Reason, Work, Worker, WorkerState, WorkerTask
from sidecar.telemetry.logs import configure_logs

log = logging.getLogger(__name__)

Load = Callable[[Channel], int]
"""Runs in a child: reads the configuration, and sends it or its problems."""

TICK_SECONDS = 0.5
START_SECONDS = 300
"""Seconds in which a worker must be ready."""
SILENT_SECONDS = 60
"""Seconds after which a worker without a heartbeat is killed: its event loop is stuck."""
END_SECONDS = 10
"""Seconds after ``server.drain_seconds`` in which all workers must have ended."""
RETIRING_WORKERS = 16
"""Limit of replaced workers that go on with their transfers. Beyond, the oldest one is ended.

No worker of the generation that was just replaced is too many.
"""


class Supervisor:
    """Keep workers until SIGTERM or SIGINT. Reload on SIGHUP, or when files have changed.

    ``load`` and ``work`` run in children. ``files`` are those that ``load`` reads. ``folder`` is
    shared by all workers.
    """

    def __init__(self, load: Load, work: Work, files: Sequence[Path], folder: Path) -> None:
        self._load, self._work = load, work
        self._files = [str(file) for file in files]
        self._folder = folder
        self._host_key = os.urandom(32)
        self._children = Children()
        self._loader: Child | None = None
        self._loaded: Message = {}
        self._reload_is_due = False
        self._sockets: Sockets | None = None
        self._current: Generation | None = None
        self._next: Generation | None = None
        self._still_accepting: set[Worker] = set()
        self._watch = FileWatch()
        self._looked = self._woke = time.monotonic()
        self._end_limit: float | None = None
        self.problems: Sequence[str] = ()
        """Why it could not start, a line each."""

    def run(self) -> None:
        """Serve until a signal ends it, or until it cannot start: then there are ``problems``."""
        with self._children.handling_signals():
            self._reload()
            while self._children or (self._current is not None and self._end_limit is None):
                for event in self._children.wait(TICK_SECONDS):
                    self._handle(event)
                self._look_around()
        if self._sockets is not None:
            self._sockets.close()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Received):
            self._receive(event.child, event.message)
        elif isinstance(event, Ended):
            self._forget(event.child, event.code)
        elif event.number == signal.SIGHUP:
            self._reload()
        elif event.number in (signal.SIGTERM, signal.SIGINT):
            self._end()

    def _reload(self) -> None:
        """Read the configuration; while another reload goes on, after that one.

        The first reload is the start.
        """
        if self._end_limit is not None:
            return
        self._reload_is_due = bool(self._loader or self._next or self._still_accepting)
        if not self._reload_is_due:
            if self._current is not None:
                notify_reloading()
            self._watch.has_changed(self._watched())  # What changes from now on is another change.
            self._loaded = {"problems": ["the configuration could not be read"]}
            try:
                self._loader = Child(self._load, self._children)
            except OSError as error:
                self._refuse([_no_process(error)])
            else:
                self._children.add(self._loader)

    def _use(self, loaded: Message) -> None:
        """Start workers with the configuration that was loaded."""
        if self._end_limit is not None:
            return
        if "problems" in loaded:
            self._refuse(loaded["problems"])
            return
        configuration = Configuration.decode(loaded["configuration"])
        self._watch.add(configuration.files)  # Before the workers read them.
        try:
            self._sockets = self._sockets or Sockets.open(configuration.settings.server)
        except OSError as error:
            self._refuse([f"{error.filename}: {error.strerror}"])
            return
        self._sockets.warn_of_changes(configuration.settings.server)
        reason: Reason = "start" if self._current is None else "reload"
        self._next = Generation(configuration)
        try:
            for index in range(configuration.workers):
                self._start_worker(self._next, index, reason)
        except OSError as error:
            self._refuse([_no_process(error)])

    def _start_worker(self, generation: Generation, index: int, reason: Reason) -> None:
        assert self._sockets is not None  # noqa: S101
        task = WorkerTask(
            generation.configuration, index, reason, self._sockets, self._folder, self._host_key
        )
        generation.workers[index] = worker = Worker(self._work, task, self._children)
        self._children.add(worker)

    def _restart_worker(self, generation: Generation, index: int) -> None:
        try:
            self._start_worker(generation, index, "restart")
        except OSError as error:
            delay = generation.postpone(index)
            log.error(
                "a worker cannot be started: it is tried again",
                extra={"worker": index, "problem": _no_process(error), "seconds": delay},
            )

    def _refuse(self, problems: Sequence[str]) -> None:
        """Go on with what serves, if anything does, and say why."""
        for worker in self._next.workers.values() if self._next is not None else ():
            worker.end()
        self._next = None
        if self._current is None:
            self.problems = problems
            return
        log.error(
            "the new configuration cannot be used: the old one goes on",
            extra={"problems": list(problems)},
        )
        self._reloaded("failed")

    def _replace(self, following: Generation) -> None:
        """Let ``following``, which serves, take over."""
        replaced, self._current, self._next = self._current, following, None
        configure_logs(following.configuration.settings.log.level)
        if replaced is None:
            self._log_what_serves("serving")
            self._report_ready()
            return
        self._still_accepting = set(replaced.workers.values())
        for worker in replaced.workers.values():
            worker.state = WorkerState.RETIRING
            worker.channel.send(retire=True)
        self._end_reload()  # At once, where each of them had ended, and waited for its next start.
        retiring = [worker for worker in self._workers() if worker.state is WorkerState.RETIRING]
        for worker in retiring[: -max(RETIRING_WORKERS, len(replaced.workers))]:
            worker.end()

    def _accepts_no_more(self, worker: Worker) -> None:
        if worker in self._still_accepting:
            self._still_accepting.discard(worker)
            self._end_reload()

    def _end_reload(self) -> None:
        """End the reload when the last of the replaced workers has stopped to accept."""
        if not self._still_accepting:
            self._log_what_serves("reloaded")
            self._reloaded("succeeded")

    def _log_what_serves(self, message: str) -> None:
        assert self._current is not None and self._sockets is not None  # noqa: PT018, S101
        what = {**self._sockets.ports(), "workers": self._current.configuration.workers}
        log.info(message, extra={"version": __version__, **what})

    def _reloaded(self, outcome: str) -> None:
        """Have a worker count the reload."""
        serving = [worker for worker in self._workers() if worker.state is WorkerState.SERVING]
        for worker in serving[:1]:
            worker.channel.send(reload=outcome)
        self._report_ready()

    def _report_ready(self) -> None:
        """Report to systemd that we serve, and begin the next reload if it is due."""
        notify("READY=1")
        if self._reload_is_due:
            self._reload()

    def _receive(self, child: Child, message: Message) -> None:
        if not isinstance(child, Worker):
            self._loaded = message
        elif "problem" in message:
            child.problem = message["problem"]
        elif "retiring" in message:
            self._accepts_no_more(child)
        elif "ready" in message and child.state is WorkerState.STARTING:
            child.state = WorkerState.SERVING
            if self._next is not None and self._next.is_serving():
                self._replace(self._next)

    def _forget(self, child: Child, code: int) -> None:
        """Handle the end of a child."""
        if child is self._loader:
            self._loader = None
            self._use(self._loaded)
        if not isinstance(child, Worker):
            return
        self._accepts_no_more(child)
        if child.state not in (WorkerState.STARTING, WorkerState.SERVING):
            return
        why = child.problem or f"a worker ended with {code} before it was ready"
        if self._next is not None and child in self._next.workers.values():
            self._refuse([why])
        elif self._current is not None:
            extra = {"worker": child.index, "code": code, "seconds": self._current.schedule(child)}
            problem = {} if child.problem is None else {"problem": child.problem}
            log.error("a worker has ended: it is started again", extra={**extra, **problem})

    def _end(self) -> None:
        """Let all workers end."""
        if self._end_limit is not None:
            return
        notify("STOPPING=1")
        drain_seconds = 0.0
        if self._current is not None:
            drain_seconds = self._current.configuration.settings.server.drain_seconds
            log.info("draining", extra={"seconds": drain_seconds})
        self._end_limit = time.monotonic() + drain_seconds + END_SECONDS
        self._next = None
        if self._loader is not None:
            self._loader.signal(signal.SIGKILL)
        for worker in self._workers():
            worker.end()

    def _look_around(self) -> None:
        """Do what is due by the clock."""
        now, before = time.monotonic(), self._woke
        self._woke = now
        if self._end_limit is not None:
            for child in self._children if now > self._end_limit else ():
                child.signal(signal.SIGKILL)
            return
        if now - before > SILENT_SECONDS / 2:  # We did not run, and perhaps they did not.
            for worker in self._workers():
                worker.heard = now
        self._kill_silent(now)
        if self._current is not None:
            for index in self._current.due():
                self._restart_worker(self._current, index)
            seconds = self._current.configuration.settings.server.reload_seconds
            if seconds and now - self._looked >= seconds:
                self._looked = now
                if self._watch.has_changed(self._watched()):
                    self._reload()

    def _kill_silent(self, now: float) -> None:
        for worker in self._workers():
            since, limit = worker.heard, SILENT_SECONDS
            if worker.state is WorkerState.STARTING:
                since, limit = worker.began, START_SECONDS
            if now - since > limit:
                log.error("a worker is silent: it is killed", extra={"seconds": limit})
                worker.began = worker.heard = now
                worker.signal(signal.SIGKILL)

    def _workers(self) -> Iterator[Worker]:
        """Return all workers, the oldest first."""
        return (child for child in self._children if isinstance(child, Worker))

    def _watched(self) -> list[str]:
        current = () if self._current is None else self._current.configuration.files
        return [*self._files, *current]


def _no_process(error: OSError) -> str:
    return f"a process cannot be started: {error.strerror}"

"""A supervisor in a process of its own, whose workers do as their configuration file says."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sidecar.server import supervisor
from sidecar.server.child import Channel
from sidecar.server.configuration import Configuration
from sidecar.server.worker_process import WorkerTask
from sidecar.settings.document import Ehr, Settings
from sidecar.settings.pacs import Pacs
from sidecar.settings.server import Log, Server
from sidecar.settings.tokens import Tokens
from sidecar.settings.upstream_auth import NoAuth
from sidecar.telemetry.logs import configure_logs
from tests.forked import forked_process
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until

DEFAULTS = {
    "host": "127.0.0.1",
    "admin_host": "127.0.0.1",
    "workers": 2,
    "drain_seconds": 0.5,
    "reload_seconds": 0.0,
    "log_level": "INFO",
    "files": [],
}


class Toy:
    """A supervisor with toy workers: each answers a connection with its index and pid.

    The configuration file is JSON: ``DEFAULTS``, the ports, and ``behaviour``:

    - ``serve``: ends on SIGTERM, and when it is replaced.
    - ``hold``: as serve, but when it is replaced it stays until SIGTERM.
    - ``problem``: cannot start, and says why. ``crash``: ends before it is ready.
    - ``fragile``: ends as soon as it is ready.
    - ``late``: is ready when the file ``go`` is in the folder.
    - ``half``: worker 0 has a problem, the others serve.
    - ``slow``: is never ready. ``silent``: is ready, and then says nothing more.
    - ``stubborn``: ignores SIGTERM.
    """

    def __init__(self, folder: Path, limits: Mapping[str, float] | None = None) -> None:
        self.port = free_ports_in_a_row(2)
        self.file = folder / "toy.json"
        self.log_file = folder / "toy.log"
        self.log_file.touch()
        self._limits = dict(limits or {})
        self._folder = folder

    def write(self, text: str | None = None, /, **changes: Any) -> None:
        """Write the configuration."""
        document = {**DEFAULTS, "port": self.port, "admin_port": self.port + 1, **changes}
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(document) if text is None else text)
        new.replace(self.file)

    def __enter__(self) -> Self:
        arguments = (str(self._folder), str(self.file), str(self.log_file), self._limits)
        self.process = forked_process(_main, arguments)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.is_alive():
            self.signal(signal.SIGTERM)
        self.end()

    def end(self) -> int | None:
        """Wait for its end; return the exit code. No child may be left."""
        children = self.children()
        self.process.join(WAIT_SECONDS)
        wait_until("the end of all", lambda: not any(child.is_running() for child in children))
        return self.process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def children(self) -> list[psutil.Process]:
        """Return its processes."""
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def wait_for(self, message: str, count: int = 1) -> dict[str, Any]:
        """Wait until the log has ``message`` so often, and return the last of the lines."""

        def lines() -> list[dict[str, Any]]:
            return [line for line in self.log() if line["message"] == message]

        return wait_until(
            message, lines, lambda found: len(found) >= count, explain=self.log_file.read_text
        )[-1]

    def answers(self, count: int = 20) -> set[tuple[int, int]]:
        """Return the index and the pid of each worker that answers one of ``count`` connections."""
        return set(self._answers(count))

    def _answers(self, count: int) -> Iterator[tuple[int, int]]:
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS) as client:
                index, pid = client.recv(100).split()
                yield int(index), int(pid)

    def wait_for_workers(self, count: int) -> set[tuple[int, int]]:
        """Wait until so many workers answer."""
        return wait_until("workers", self.answers, lambda found: len(found) == count)


def _main(folder: str, file: str, log_file: str, limits: Mapping[str, float]) -> None:
    """Run the supervisor, in a fork with a process group of its own."""
    os.setpgid(0, 0)
    opened = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    os.dup2(opened, 2)
    for name, seconds in limits.items():
        setattr(supervisor, name, seconds)

    def load(channel: Channel) -> int:
        try:
            document = json.loads(Path(file).read_text())
            behaviour = document.pop("behaviour", "serve")
        except ValueError:
            channel.send(problems=["it is no JSON"])
            return 0
        configuration = Configuration(
            Settings(
                server=Server(
                    public_url=behaviour,
                    **{name: value for name, value in document.items() if name in vars(Server())},
                ),
                log=Log(level=document["log_level"]),
                ehr=Ehr(fhir_url=""),
                tokens=Tokens(client=NoAuth(method="none")),
                pacs=Pacs(url=""),
            ),
            document["workers"],
            document["files"],
        )
        channel.send(configuration=configuration.encode())
        return 0

    configure_logs()
    made = supervisor.Supervisor(load, _work, [Path(file)], Path(folder))
    made.run()
    if made.problems:
        (Path(folder) / "problems").write_text("\n".join(made.problems))
        os._exit(2)


def _work(task: WorkerTask, channel: Channel) -> int:
    behaviour = task.configuration.settings.server.public_url
    if behaviour == "half":
        behaviour = "problem" if task.index == 0 else "serve"
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(1) if behaviour != "stubborn" else None)
    _start(behaviour, task, channel)
    if behaviour in ("problem", "crash", "fragile"):
        return 3
    accepting = True
    while not over:
        messages, is_closed = channel.receive()
        for outcome in [message["reload"] for message in messages if "reload" in message]:
            (task.folder / f"reload-{outcome}").touch()
        if {"retire": True} in messages:
            channel.send(retiring=True)
            accepting = False
        if is_closed or not (accepting or behaviour == "hold"):
            return 0
        if behaviour != "silent":
            channel.send(heartbeat=True)
        _answer(task, accepting=accepting)
        time.sleep(0.005)
    return 0


def _start(behaviour: str, task: WorkerTask, channel: Channel) -> None:
    """Send what a worker sends at its start."""
    if behaviour == "problem":
        channel.send(problem=f"worker {task.index} has a problem")
    if behaviour == "late":
        (task.folder / "waiting").touch()
        wait_until("go", (task.folder / "go").exists)
    if behaviour not in ("problem", "crash", "slow"):
        channel.send(ready=True)


def _answer(task: WorkerTask, *, accepting: bool) -> None:
    with contextlib.suppress(BlockingIOError):
        if not accepting:
            return
        client, _ = task.sockets.public[0].accept()
        with client:
            client.sendall(f"{task.index} {os.getpid()}".encode())

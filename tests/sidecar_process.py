"""The command ``smart-imaging-sidecar serve`` as a process, with a configuration file."""

import contextlib
import copy
import os
import random
import signal
import socket
from pathlib import Path
from typing import Any, Self

import psutil
import requests
import yaml

from tests.forked import Forked
from tests.waiting import wait_until

# Beyond those on which the programs of a Kubernetes node listen (10,248 to 10,259).
_FIRST_PORT, _PORTS_OF_A_WORKER, _WORKERS = 11_000, 1_000, 20
# Another run of the tests begins elsewhere.
_given = random.SystemRandom().randrange(_PORTS_OF_A_WORKER)


def free_port() -> int:
    """A loopback port that is free now."""
    return free_ports_in_a_row(1)


def free_ports_in_a_row(count: int) -> int:
    """Return the first of ``count`` free loopback ports. Nobody else takes one meanwhile.

    They are outside the range that the kernel hands out, each worker of pytest-xdist has a range of
    its own, and none is given twice before all others were.
    """
    global _given  # noqa: PLW0603
    begin = _FIRST_PORT + _PORTS_OF_A_WORKER * (_worker() % _WORKERS)
    for _ in range(_PORTS_OF_A_WORKER):
        first = begin + _given % (_PORTS_OF_A_WORKER - count)
        _given += count
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no free ports")


def _worker() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


class SidecarProcess:
    """A process with a configuration, to which ports are added. SIGTERM stops it."""

    def __init__(
        self, directory: Path, configuration: dict[str, Any], *, port: int | None = None
    ) -> None:
        self.port, self.admin_port = port or free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.fhir = self.url + "/fhir"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self._log = directory / f"sidecar-{self.port}.log"
        self.file = directory / f"sidecar-{self.port}.yaml"
        server = {
            "host": "127.0.0.1",
            "port": self.port,
            "admin_host": "127.0.0.1",
            "admin_port": self.admin_port,
            "public_url": self.url,
        }
        self.file.write_text(
            yaml.safe_dump(configuration | {"server": server | configuration.get("server", {})})
        )
        self._process: Forked | None = None

    def __enter__(self) -> Self:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")
        }
        self._process = Forked(["serve", "--config", str(self.file)], environment, self._log)
        try:
            wait_until(
                "the sidecar answers",
                self._is_alive,
                not_yet=(requests.ConnectionError,),
                explain=lambda: self.log,
            )
        except BaseException:
            self.stop()
            raise
        return self

    def _is_alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the sidecar did not start:\n{self.log}")
        return requests.get(self.admin + "/healthz", timeout=60).ok

    def __exit__(self, *_: object) -> None:
        self.stop()

    def again(self) -> "SidecarProcess":
        """Return another process with the same file, and so the same ports."""
        other = copy.copy(self)
        other._log = self._log.with_suffix(".again.log")
        return other

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit code. A second stop is fine."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait()

    @property
    def log(self) -> str:
        """Everything that it has written so far."""
        return self._log.read_text()

    @property
    def process_id(self) -> int:
        """The operating system's number of it."""
        assert self._process is not None
        return self._process.pid

    def resident_bytes(self) -> int:
        """The resident sets of the supervisor and its workers now."""
        process = psutil.Process(self.process_id)
        return sum(one.memory_info().rss for one in (process, *process.children()))

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return [child.pid for child in psutil.Process(self.process_id).children()]

    def kill(self) -> None:
        """Kill the supervisor and all workers at once."""
        for process_id in (self.process_id, *self.workers()):
            with contextlib.suppress(ProcessLookupError):  # It has ended with the supervisor.
                os.kill(process_id, signal.SIGKILL)

    def metric(self, line_start: str) -> float:
        """The sum of the metric lines that begin with ``line_start`` (``name{label="…"``)."""
        lines = requests.get(self.admin + "/metrics", timeout=60).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(line_start))

"""A real Redis of a test's own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.installed import installed
from tests.real.processes import end
from tests.sidecar_process import free_port
from tests.waiting import wait_until

NOT_INSTALLED = "no Redis: apt-get install redis-server"


def require_program() -> str:
    """Its program, or else the test is skipped; with REQUIRE_REAL_SERVERS set, it fails."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return installed(shutil.which("redis-server", path=path), NOT_INSTALLED)


class RedisProcess:
    """A running one, which keeps nothing on disk; ``options`` as in its configuration file."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.socket = folder / "socket"
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)),
            *("--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL, of database 2."""
        return f"redis://127.0.0.1:{self.port}/2"

    def start(self) -> None:
        """Start it and wait for it."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until("Redis", self._is_listening)

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it. What it had is gone."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def kill(self) -> None:
        """Kill it. What it had is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it while the block runs; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisProcess]:
    """Run one."""
    program = require_program()
    with tempfile.TemporaryDirectory(prefix="redis-") as scratch:
        server = RedisProcess(program, Path(scratch), *options)
        try:
            server.start()
            yield server
        finally:
            server.stop()

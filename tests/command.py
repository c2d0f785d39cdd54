"""The real command as a process, with arguments, files and environment as an operator gives them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.sidecar_process import free_port

START_SECONDS = 20.0


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of its own, and with ``changes``."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")} | dict(changes or {})


def run(*arguments: str | Path, changes: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """``python -m sidecar`` with ``arguments``, to its end."""
    command = [sys.executable, "-m", "sidecar", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(changes), capture_output=True, text=True, timeout=START_SECONDS, check=False
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """A running ``serve``: where it listens."""

    url: str
    admin: str
    process: subprocess.Popen[bytes]

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)


@contextlib.contextmanager
def serving(directory: Path, *files: Path, changes: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """``serve`` with ``files`` and, over them, free loopback ports; its log goes to ``directory``."""
    port, admin_port = free_port(), free_port()
    listeners = {
        "SIDECAR_SERVER__HOST": "127.0.0.1",
        "SIDECAR_SERVER__PORT": str(port),
        "SIDECAR_SERVER__ADMIN_HOST": "127.0.0.1",
        "SIDECAR_SERVER__ADMIN_PORT": str(admin_port),
    }
    arguments = [part for file in files for part in ("--config", str(file))]
    log = directory / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "serve", *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(listeners | dict(changes or {})),
        )
    running = Serving(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", process)
    try:
        _wait_for(running, log)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(START_SECONDS)


def _wait_for(running: Serving, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            # The public listener is the last to open.
            requests.get(running.url, timeout=5)
            return
        time.sleep(0.05)
    raise RuntimeError(f"serve did not start:\n{log.read_text()}")

"""The real command as a process, with arguments,
files and environment as an operator gives them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.forked import Forked
from tests.sidecar_process import free_port
from tests.waiting import WAIT_SECONDS, wait_until


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of its own, and with ``changes``."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")
    } | dict(changes or {})


def run(
    *arguments: str | Path, changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m sidecar`` with ``arguments``, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        code = Forked([*map(str, arguments)], environment(changes), output, errors).wait()
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())


@dataclass(frozen=True, slots=True)
class Serving:
    """A running ``serve``: where it listens."""

    url: str
    admin: str
    process: "subprocess.Popen[bytes] | Forked"

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def serving(
    directory: Path,
    *files: Path,
    changes: Mapping[str, str] | None = None,
    imports: bool = False,
) -> Iterator[Serving]:
    """``serve`` with ``files`` and, over them, free loopback ports; its log goes to ``directory``.

    With ``imports`` a new Python, as an operator starts it, which imports all that it needs.
    """
    port, admin_port = free_port(), free_port()
    listeners = {
        "SIDECAR_SERVER__HOST": "127.0.0.1",
        "SIDECAR_SERVER__PORT": str(port),
        "SIDECAR_SERVER__ADMIN_HOST": "127.0.0.1",
        "SIDECAR_SERVER__ADMIN_PORT": str(admin_port),
    }
    arguments = [part for file in files for part in ("--config", str(file))]
    log = directory / "serve.log"
    variables = environment(listeners | dict(changes or {}))
    process: subprocess.Popen[bytes] | Forked
    if imports:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "serve", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=variables,
            )
    else:
        process = Forked(["serve", *arguments], variables, log)
    running = Serving(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", process)
    try:
        _wait_for(running, log)
        yield running
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(WAIT_SECONDS)


def _wait_for(running: Serving, log: Path) -> None:
    def answers() -> requests.Response:
        if running.process.poll() is not None:
            raise RuntimeError(f"serve did not start:\n{log.read_text()}")
        return requests.get(running.url, timeout=60)

    # Whatever it answers. The public listener is the last to open.
    wait_until(
        "serve answers",
        answers,
        lambda _: True,
        not_yet=(requests.ConnectionError,),
        explain=log.read_text,
    )

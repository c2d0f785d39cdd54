"""A real PostgreSQL of a test's own, on a free port."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.installed import installed
from tests.sidecar_process import free_port

NOT_INSTALLED = "no PostgreSQL: apt-get install postgresql"


def find_bin() -> Path | None:
    """The folder of its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def require_bin() -> Path:
    """The same, or else the test is skipped; with REQUIRE_REAL_SERVERS set, it fails."""
    return installed(find_bin(), NOT_INSTALLED)


class Postgresql:
    """A running one; ``dsn`` leads to an empty database."""

    def __init__(self, programs: Path, directory: Path, port: int) -> None:
        self._programs, self._data, self.port = programs, directory / "data", port
        self.dsn = f"host=127.0.0.1 port={port} dbname=postgres user=postgres"
        # It refuses to run as root.
        self._user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(directory, "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8")

    def start(self) -> None:
        """Start it and wait for it."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 "
            "-c unix_socket_directories='' -c fsync=off"
        )
        log = str(self._data / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop it, connections or not."""
        self._run("pg_ctl", "stop", "-m", "fast", "-D", str(self._data))

    @property
    def processes(self) -> dict[str, list[int]]:
        """The ids of its processes, by what they do: ``main``, ``backend`` (one for each
        connection), ``other``.
        """
        main = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        found: dict[str, list[int]] = {"main": [main], "backend": [], "other": []}
        for child in map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split()):
            line = Path(f"/proc/{child}/cmdline").read_text()
            found["backend" if "127.0.0.1" in line else "other"].append(child)
        return found

    @contextlib.contextmanager
    def frozen(self, *what: str) -> Iterator[None]:
        """Stop its processes (``what`` of them, all by default) while the block runs; its
        connections stay.
        """
        processes = [
            one
            for kind, found in self.processes.items()
            if not what or kind in what
            for one in found
        ]
        try:
            for one in processes:
                os.kill(one, signal.SIGSTOP)
            yield
        finally:
            for one in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def postgresql() -> Iterator[Postgresql]:
    """Run one."""
    programs = require_bin()
    with tempfile.TemporaryDirectory(prefix="postgresql-") as scratch:
        server = Postgresql(programs, Path(scratch), free_port())
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()

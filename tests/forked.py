"""The command as a process of its own that begins with everything imported.

Python imports the sidecar for about a second of CPU time, and the suite starts it more than a
hundred times. So one process for each worker imports it once, and each start is a fork of that one.
What forks has one thread and runs none of the tests' code. ``tests.command.serving`` starts the
command anew.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.waiting import WAIT_SECONDS

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "sidecar.conformance.run",
        "sidecar.check.run",
        "sidecar.cli",
        "sidecar.fhir.capability_statement",
        "sidecar.server.command",
        "sidecar.server.load",
        "sidecar.server.worker",
        "tests.forked",
    ]
)


def forked_process(target: Callable[..., None], arguments: Sequence[Any]) -> ForkServerProcess:
    """Run ``target`` in a fork that begins with everything imported."""
    process = _context.Process(target=target, args=tuple(arguments), daemon=True)
    process.start()
    return process


class Forked:
    """``python -m sidecar`` with ``arguments`` in ``environment``; writes to the files ``output``
    and ``errors``.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        for file in {output, errors or output}:
            file.write_bytes(b"")
        self._process = forked_process(
            _main, (list(arguments), dict(environment), str(output), str(errors or output))
        )

    @property
    def pid(self) -> int:
        """The operating system's number of it."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, -9 when it was killed by signal 9; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait for its end; return its exit code. Kills it and raises TimeoutError when it does not
        end.
        """
        self._process.join(seconds)
        if (code := self._process.exitcode) is None:
            self._process.kill()
            raise TimeoutError(f"process {self.pid} has not ended within {seconds} s")
        return code

    def terminate(self) -> None:
        """SIGTERM, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, signal.SIGTERM)


def _main(arguments: list[str], environment: dict[str, str], output: str, errors: str) -> None:
    """What a fork does: what ``python -m sidecar`` does, and nothing that the tests do."""
    for number, file in ((1, output), (2, errors)):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sidecar", *arguments]

    from sidecar.cli import main  # noqa: PLC0415 - not in the tests' own process

    main()

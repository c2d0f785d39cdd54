"""``smart-imaging-sidecar demo`` as a process, for tests that are its visitors."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS


@dataclass(frozen=True)
class RunningDemo:
    """``base``: the sidecar's URL. ``token``: what it printed. ``said``: all that it printed."""

    port: int
    said: list[str]

    @property
    def base(self) -> str:
        (line,) = [line for line in self.said if line.startswith("  page ")]
        return line.split()[1].rstrip("/")

    @property
    def ehr(self) -> str:
        """The EHR's URL."""
        return f"{self.base.rpartition(':')[0]}:{self.port + 1}"

    @property
    def token(self) -> str:
        (at,) = [at for at, line in enumerate(self.said) if "good for an hour" in line]
        return self.said[at + 1].strip()

    def guide(self) -> dict[str, Any]:
        """``/demo/guide``."""
        found: dict[str, Any] = requests.get(self.base + "/demo/guide", timeout=60).json()
        return found

    def get(self, url: str, token: str | None = "", **headers: str) -> requests.Response:
        """Ask with the token that was printed, another one, or ``None``."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        return requests.get(url, headers=headers, timeout=60)

    def why(self, answer: requests.Response) -> dict[str, Any]:
        """What ``/demo/decisions`` says of an answer."""
        request_id = answer.headers["X-Request-Id"]
        found: dict[str, Any] = requests.get(
            f"{self.base}/demo/decisions/{request_id}", timeout=60
        ).json()
        return found


@contextlib.contextmanager
def running_demo(*arguments: str) -> Iterator[RunningDemo]:
    """Run the demo until the block ends, with these further arguments."""
    port = free_ports_in_a_row(4)
    command = [sys.executable, "-m", "sidecar", "demo", "--port", str(port), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            while not any(line.startswith("Ctrl-C") for line in said):
                said.append(process.stdout.readline())
                assert said[-1], said
            yield RunningDemo(port, said)
        finally:
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0

"""A real tiny_pacs with its DICOMweb, one's own: on free loopback ports, gone afterwards.

with TinyPacs() as archive:
    archive.load(paths)
    archive.dicomweb_url  # http://127.0.0.1:…/dicomweb
"""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Self

import requests

from tests.installed import installed
from tests.real.processes import end
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent.parent
COMMAND = ROOT / "build" / "tiny-pacs" / "bin" / "tiny-pacs"
NOT_INSTALLED = "no tiny_pacs in build/tiny-pacs: make tiny-pacs"


def require_tiny_pacs() -> None:
    """Skip the test where tiny_pacs is not installed; with REQUIRE_REAL_SERVERS set, fail."""
    installed(COMMAND.is_file(), NOT_INSTALLED)


class TinyPacs:
    """A context manager that runs a tiny_pacs, whose storage goes with it."""

    def __init__(self) -> None:
        port = free_ports_in_a_row(2)
        self.dicomweb_url = f"http://127.0.0.1:{port}/dicomweb"
        self._folder = tempfile.TemporaryDirectory(prefix="tiny-pacs-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self._log = folder / "log"
        self._configuration = folder / "configuration.yaml"
        components = {
            "HttpServer": {"on": True, "host": "127.0.0.1", "port": port},
            "DICOMWeb": {"on": True},
            "InMemoryStorage": {"on": False},
            "FileStorage": {"on": True, "storage_dir": str(folder / "storage")},
        }
        # JSON is YAML.
        self._configuration.write_text(
            json.dumps({"ae": {"port": port + 1}, "components": components})
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(COMMAND), "run", "-c", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder.name,
            )
        try:
            wait_until(
                "tiny_pacs answers",
                self._status,
                lambda status: status == 204,
                not_yet=(requests.ConnectionError, requests.Timeout),
                explain=self._said,
            )
        except BaseException:
            self.stop()
            raise
        return self

    def _status(self) -> int:
        """Return the status of a query; 204 while there are no studies."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"tiny_pacs did not start:\n{self._said()}")
        return requests.get(f"{self.dicomweb_url}/studies", timeout=60).status_code

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-4_000:]

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process. Doing it twice is fine."""
        if self._process is not None:
            end(self._process)
            self._process = None
        self._folder.cleanup()

    def load(self, paths: Iterable[Path]) -> None:
        """Store DICOM files by STOW-RS, one a request. Raises ``HTTPError`` for one that is not
        taken.
        """
        for path in paths:
            part = (
                b"--file\r\nContent-Type: application/dicom\r\n\r\n"
                + path.read_bytes()
                + b"\r\n--file--\r\n"
            )
            content_type = 'multipart/related; type="application/dicom"; boundary=file'
            requests.post(
                f"{self.dicomweb_url}/studies",
                data=part,
                headers={"Content-Type": content_type},
                timeout=60,
            ).raise_for_status()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yield the DICOMweb root, as ``sidecar_between`` wants it."""
        yield self.dicomweb_url

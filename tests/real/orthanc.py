"""A real Orthanc with its DICOMweb plugin, one's own: started on free loopback ports, gone
afterwards.

with Orthanc() as orthanc:
    orthanc.load(path)
    orthanc.dicomweb_url  # http://127.0.0.1:…/dicom-web
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tests.installed import installed
from tests.real.processes import end
from tests.sidecar_process import free_ports_in_a_row
from tests.waiting import WAIT_SECONDS, wait_until

NOT_INSTALLED = "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb dcmtk"
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_SECONDS = WAIT_SECONDS
START_ATTEMPTS = 3

# Whatever proxy the environment names, this is the loopback.
_OPENER = build_opener(ProxyHandler({}))


class OrthancError(RuntimeError):
    """Orthanc did not start; the message ends with its log."""


def find_orthanc() -> str | None:
    """The path of Orthanc where it and its DICOMweb plugin are installed; Debian puts it into
    /usr/sbin.
    """
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return shutil.which("Orthanc", path=search) if DICOMWEB_PLUGIN.exists() else None


def require_orthanc() -> str:
    """The path of Orthanc, or else the test is skipped; with REQUIRE_REAL_SERVERS set, it fails."""
    return installed(find_orthanc(), NOT_INSTALLED)


class Orthanc:
    """A context manager that runs an Orthanc. ``settings`` add to its configuration file or replace
    keys of it.
    """

    def __init__(
        self, settings: Mapping[str, object] | None = None, *, start_seconds: float = START_SECONDS
    ) -> None:
        self._settings = dict(settings or {})
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self.url = ""
        self.dicom_port = 0
        self.version = ""
        self.dicomweb_version = ""

    @property
    def dicomweb_url(self) -> str:
        """The DICOMweb root, without a slash at its end."""
        return f"{self.url}/dicom-web"

    @property
    def process_id(self) -> int:
        """The operating system's number of it."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="orthanc-", ignore_cleanup_errors=True)
        try:
            self._start(Path(self._directory.name))
            self.version = self.get_json("/system")["Version"]
            self.dicomweb_version = self.get_json("/plugins/dicom-web")["Version"]
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self, instance: Path | bytes) -> str:
        """Store a DICOM file or its bytes; Orthanc's own identifier of the instance."""
        body = instance.read_bytes() if isinstance(instance, Path) else instance
        request = Request(
            f"{self.url}/instances", data=body, headers={"Content-Type": "application/dicom"}
        )
        identifier = _json(request)["ID"]
        assert isinstance(identifier, str)
        return identifier

    def load_folder(self, folder: Path) -> None:
        """Store all DICOM files below it, sorted by their paths."""
        for path in sorted(folder.rglob("*.dcm")):
            self.load(path)

    def get_json(self, path: str) -> Any:
        """What Orthanc's own REST API (not DICOMweb) answers on a path, such as
        ``/changes?since=0``.
        """
        return _json(Request(f"{self.url}{path}"))

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and body of any answer, errors too."""
        try:
            with _OPENER.open(Request(f"{self.url}{path}"), timeout=60) as response:
                return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()

    def delete(self, path: str) -> None:
        """Delete something of Orthanc's own REST API, such as ``/patients/<id>``."""
        _OPENER.open(Request(f"{self.url}{path}", method="DELETE"), timeout=60).close()

    def stop(self) -> None:
        """End the process, which takes its storage with it. Doing it twice is fine: tests of a PACS
        that goes away.
        """
        self._end_process()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def _end_process(self) -> None:
        if self._process is None:
            return
        end(self._process)
        self._process = None

    def _start(self, directory: Path) -> None:
        binary = find_orthanc()
        if binary is None:
            raise OrthancError(NOT_INSTALLED)
        for attempt in range(1, START_ATTEMPTS + 1):
            log = directory / f"log-{attempt}.txt"
            http_port = free_ports_in_a_row(2)
            self.dicom_port = http_port + 1
            self.url = f"http://127.0.0.1:{http_port}"
            configuration = directory / "orthanc.json"
            configuration.write_text(json.dumps(self._configuration(directory, http_port)))
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [binary, str(configuration)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            problem = self._wait_until_ready()
            if problem is None:
                return
            self._end_process()
            # Another process may have taken a port between our look and Orthanc's: that alone is
            # worth another try.
            text = log.read_text(errors="replace")
            if attempt == START_ATTEMPTS or "already in use" not in text:
                raise OrthancError(f"{problem}; its log:\n{text}")

    def _wait_until_ready(self) -> str | None:
        """Nothing when it answers, otherwise what went wrong."""
        process = self._process
        assert process is not None

        def answers() -> bool:
            # Not listening yet, or someone else on its port, is an error that is waited through.
            return process.poll() is not None or bool(
                _json(Request(f"{self.url}/plugins/dicom-web"))
            )

        try:
            wait_until(
                "Orthanc answers",
                answers,
                not_yet=(OSError, HTTPException, ValueError),
                seconds=self._start_seconds,
            )
        except AssertionError as problem:
            return str(problem)
        status = process.poll()
        return None if status is None else f"Orthanc ended with status {status} instead of starting"

    def _configuration(self, directory: Path, http_port: int) -> dict[str, object]:
        return {
            "Name": "test",
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "storage"),
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "SaveJobs": False,
            "DefaultEncoding": "Utf8",  # As docs/orthanc.md says; Orthanc's own is Latin1.
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "EnableWado": False,
                "StudiesMetadata": "Full",
                "SeriesMetadata": "Full",
            },
            **self._settings,
        }


def _json(request: Request, timeout_seconds: float = 60) -> Any:
    with _OPENER.open(request, timeout=timeout_seconds) as response:
        return json.load(response)

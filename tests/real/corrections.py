"""What an archive's people do to a study, done to a real Orthanc; and a client of the sidecar that
reads slowly.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pydicom

from tests.data import ct_study
from tests.fakes.ehr import PATIENT, TOKEN
from tests.real.orthanc import Orthanc

STUDY = "1.2.826.0.1.3680043.8.498.12.1"
OTHER_PATIENT = "somebody-else"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.12.2"
INSTANCES = 80
"""Of the study, in two series; each of some 500 KB, so that buffers do not hold them all."""
SIDE = 512
READ_SECONDS = 60

_OPENER = build_opener(ProxyHandler({}))


@dataclass
class Archive:
    """A real Orthanc with one study of ``PATIENT``, and another study of ``OTHER_PATIENT``."""

    orthanc: Orthanc
    folder: Path
    files: list[Path] = field(default_factory=list)

    def load(self) -> None:
        """Store both studies."""
        self.files = ct_study(
            self.folder / "own",
            instances=INSTANCES,
            series=2,
            patient_id=PATIENT,
            study_instance_uid=STUDY,
            rows=SIDE,
            columns=SIDE,
        )
        others = ct_study(
            self.folder / "other",
            instances=2,
            patient_id=OTHER_PATIENT,
            study_instance_uid=OTHER_STUDY,
            rows=8,
            columns=8,
        )
        for file in [*self.files, *others]:
            self.orthanc.load(file)

    def parts(self) -> list[tuple[str, str]]:
        """Series and instance UIDs of the study's files, in order."""
        found = []
        for file in self.files:
            image = pydicom.dcmread(file, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
            found.append((str(image.SeriesInstanceUID), str(image.SOPInstanceUID)))
        return found

    def find(self, level: str, **keys: str) -> str:
        """Orthanc's identifier of the one resource at ``level`` (``Study``, …) with these
        attributes.
        """
        (found,) = self.post("/tools/find", {"Level": level, "Query": keys})
        return str(found)

    def post(self, path: str, body: Any) -> Any:
        """Ask Orthanc's REST API to do something; return what it answers."""
        request = Request(
            f"{self.orthanc.url}{path}", data=json.dumps(body).encode(), method="POST"
        )
        with _OPENER.open(request, timeout=READ_SECONDS) as response:
            return json.load(response)

    def delete(self, path: str) -> None:
        """Delete a resource of Orthanc's REST API."""
        with _OPENER.open(Request(self.orthanc.url + path, method="DELETE"), timeout=READ_SECONDS):
            pass

    def store(self, change: Callable[[pydicom.Dataset], None], files: list[Path]) -> None:
        """Store these files anew, each changed."""
        for file in files:
            image = pydicom.dcmread(file)
            change(image)
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            changed = self.folder / "changed.dcm"
            image.save_as(changed)
            self.orthanc.load(changed)


class SlowTransfer:
    """A retrieval whose client has read the head and a first piece,
    and stops there until ``rest``.
    """

    def __init__(self, url: str, path: str, accept: str, *, version: str = "1.1") -> None:
        self._port = int(url.rpartition(":")[2])
        self._request = (
            f"GET {path} HTTP/{version}\r\nHost: x\r\n"
            f"Authorization: Bearer {TOKEN}\r\nAccept: {accept}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        self.status = 0
        self._head = b""
        self._body = b""

    async def begin(self) -> "SlowTransfer":
        """Connect with a small receive buffer, ask, read the head."""
        loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self._socket, self._request)
        read = b""
        async with asyncio.timeout(READ_SECONDS):
            while b"\r\n\r\n" not in read and (came := await loop.sock_recv(self._socket, 16_384)):
                read += came
        self._head, _, self._body = read.partition(b"\r\n\r\n")
        self.status = int(self._head.split(b" ", 2)[1])
        return self

    async def rest(self) -> tuple[bytes, bool]:
        """Read on to the end; return the body without its chunk lines, and whether it ended as a
        whole one does.
        """
        loop = asyncio.get_running_loop()
        read = bytearray(self._body)
        was_reset = False
        try:
            async with asyncio.timeout(READ_SECONDS):
                while came := await loop.sock_recv(self._socket, 2**20):
                    read += came
        except ConnectionResetError:
            was_reset = True
        finally:
            self._socket.close()
        if b"transfer-encoding: chunked" not in self._head.lower():
            return bytes(read), not was_reset
        body, is_whole = dechunked(bytes(read))
        return body, is_whole and not was_reset


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """The chunks' content, and whether the last chunk came."""
    at = 0
    found: list[bytes] = []
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line_end], 16)
        if size == 0:
            return b"".join(found), True
        found.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(found), False

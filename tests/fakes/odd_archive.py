"""An archive on a bare socket with one study of one patient, each of whose answers a test can
change.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY
from tests.fakes.ehr import PATIENT
from tests.fakes.stream_server import stream_server

DICOM_JSON = "application/dicom+json"
SERIES_PATH = f"/studies/{STUDY}/series/{SERIES}"
INSTANCE_PATH = f"{SERIES_PATH}/instances/{INSTANCE}"
FOREIGN = "1.2.840.9"
"""A study that is somebody else's."""
PATHS = {
    "list": "/studies",
    "instances": f"{SERIES_PATH}/instances",
    "metadata": f"/studies/{STUDY}/metadata",
    "study": f"/studies/{STUDY}",
    "instance": INSTANCE_PATH,
    "frames": f"{INSTANCE_PATH}/frames/1",
}
"""What is asked for, below a DICOMweb root."""
PIXELS = bytes(range(256)) * 40


@dataclass(frozen=True)
class Sent:
    """An answer: ``framing`` is ``length``, ``chunked`` or ``close`` (HTTP/1.0); ``cut``: bytes
    that are not sent.
    """

    kind: str
    """One of ``PATHS``, ``series`` for a list, ``owners`` for a list of studies by their UID."""
    body: bytes
    content_type: str
    status: int = 200
    more: tuple[tuple[str, str], ...] = ()
    framing: str = "length"

    def __bytes__(self) -> bytes:
        lines = [("Content-Type", self.content_type), *self.more]
        body = self.body
        if self.framing == "length":
            lines.append(("Content-Length", str(len(body))))
        elif self.framing == "chunked":
            lines.append(("Transfer-Encoding", "chunked"))
            body = (
                b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in _pieces(body)) + b"0\r\n\r\n"
            )
        version = "1.0" if self.framing == "close" else "1.1"
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"HTTP/{version} {self.status} Anything\r\n{head}\r\n".encode("latin-1") + body


def _pieces(body: bytes) -> list[bytes]:
    return [body[at : at + 1_000] for at in range(0, len(body), 1_000)]


def row(patient: str = PATIENT, study: str = STUDY, **more: Any) -> dict[str, Any]:
    """A row that says all UIDs; ``more`` by tag, with an underscore before it: a value of VR LO."""
    named = {"00100020": patient, "0020000D": study, "0020000E": SERIES, "00080018": INSTANCE} | {
        name.lstrip("_"): value for name, value in more.items()
    }
    found = {
        name: {"vr": "UI" if name.endswith(("D", "E", "18")) else "LO", "Value": [value]}
        for name, value in named.items()
    }
    return found | {name: {"vr": "IS", "Value": [1]} for name in ("00201208", "00201209")}


def part(body: bytes, *lines: str) -> bytes:
    """A multipart of one part with these header lines; the boundary is ``abc``."""
    head = "".join(line + "\r\n" for line in lines).encode("latin-1")
    return b"--abc\r\n" + head + b"\r\n" + body + b"\r\n--abc--\r\n"


DICOM = encoded(
    dataset(
        PatientID=PATIENT,
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=SERIES,
        SOPInstanceUID=INSTANCE,
        BitsAllocated=8,
        PixelData=PIXELS,
    )
)


@dataclass
class OddArchive:
    """``odd(answer)`` returns what is sent in its place: an answer, or bytes as they are.

    ``asked`` has the method and target of each request and its ``Accept``.
    """

    odd: Callable[[Sent], Sent | bytes] = lambda answer: answer
    asked: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=lambda: [row()])
    accepts: Callable[[str, str], int] = lambda kind, accept: 200
    """The status for a kind that is asked for with this ``Accept``."""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve; yields the DICOMweb root."""
        async with stream_server(self._connection, limit=2**16) as port:
            yield f"http://127.0.0.1:{port}/rs"

    def count(self, text: str) -> int:
        """How many requests had this in their target."""
        return sum(text in target for target, _ in self.asked)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ", 2)[1].removeprefix("/rs")
                accept = next(
                    line[8:] for line in head.split("\r\n") if line.lower().startswith("accept: ")
                )
                self.asked.append((target, accept))
                found = self.answer(target)
                status = self.accepts(found.kind, accept)
                sent = self.odd(
                    found if status == 200 else Sent(found.kind, b"", "text/plain", status)
                )
                writer.write(bytes(sent))
                await writer.drain()
                if isinstance(sent, bytes) or sent.framing == "close":
                    break
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    def answer(self, target: str) -> Sent:
        """The answer of an archive that is not odd."""
        path, _, query = target.partition("?")
        level = path.rpartition("/")[2]
        if path.endswith(("/studies", "/series", "/instances")):
            rows = [] if "offset=" in query or FOREIGN in target else self.rows
            kind = (
                level
                if level != "studies"
                else "owners"
                if "StudyInstanceUID=" in query
                else "list"
            )
            return Sent(kind, json.dumps(rows, ensure_ascii=False).encode(), DICOM_JSON)
        if level == "metadata":
            return Sent(level, json.dumps(self.rows, ensure_ascii=False).encode(), DICOM_JSON)
        if "/frames/" in path:
            related = "multipart/related; type=application/octet-stream; boundary=abc"
            return Sent("frames", part(PIXELS, "Content-Type: application/octet-stream"), related)
        related = 'multipart/related; type="application/dicom"; boundary=abc'
        body = part(DICOM, "Content-Type: application/dicom")
        return Sent("instance" if "/instances/" in path else "study", body, related)


def with_body(answer: Sent, old: bytes, new: bytes) -> Sent:
    """The answer with ``new`` for ``old`` in its body."""
    return replace(answer, body=answer.body.replace(old, new))

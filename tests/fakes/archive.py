"""An archive on a loopback port with one study of one patient, whose answers a test scripts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from sidecar.dicom.json_model import Row, tag, text
from sidecar.server.listener import listen
from tests.dicom_instances import dataset, encoded
from tests.fakes.ehr import PATIENT
from tests.fakes.stream_server import stream_server

STUDY, SERIES, INSTANCE = "1.2.840.1", "1.2.840.1.1", "1.2.840.1.1.1"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_UID_OF = {
    "studies": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instances": "SOPInstanceUID",
}


@dataclass
class ScriptedPacs:
    """A PACS on a bare socket with one study of one patient; ``retrieve`` writes the answer to any
    retrieval.

    But for that of the whole instance, which says ``inside`` whose it is; ``None``: ``retrieve``
    answers that, too.

    ``instances``: how many study and series are said to have, ``None``: not said; ``listed``: how
    many are listed. ``requests`` has each request's target; ``gone`` is set when a peer left during
    a retrieval.
    """

    retrieve: Answer
    patient_id: str = PATIENT
    instances: int | None = 5
    listed: int = 1
    inside: str | None = PATIENT
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve; yields the DICOMweb root."""
        async with stream_server(self._connection, limit=2**16) as port:
            yield f"http://127.0.0.1:{port}/dicom-web"

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ", 2)[1]
                self.requests.append(target)
                self.heads.append(head)
                if "?" in target and "rendered" not in target:
                    self._rows(target, writer)
                    continue
                if target.endswith(f"/instances/{INSTANCE}") and self.inside is not None:
                    self._instance(self.inside, writer)
                    continue
                try:
                    await self.retrieve(reader, writer)
                    await writer.drain()
                except ConnectionError:
                    self.gone.set()
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    def _instance(self, patient_id: str, writer: asyncio.StreamWriter) -> None:
        made = dataset(
            PatientID=patient_id,
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=SERIES,
            SOPInstanceUID=INSTANCE,
        )
        body = (
            b"--instance\r\nContent-Type: application/dicom\r\n\r\n"
            + encoded(made)
            + b"\r\n--instance--\r\n"
        )
        writer.write(
            b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; type="application/dicom"; '
            b"boundary=instance\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )

    def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
        row: dict[str, Any] = {
            "00100020": {"vr": "LO", "Value": [self.patient_id]},
            "0020000D": {"vr": "UI", "Value": [STUDY]},
            "0020000E": {"vr": "UI", "Value": [SERIES]},
            "00080018": {"vr": "UI", "Value": [INSTANCE]},
        }
        if self.instances is not None:
            row |= {
                name: {"vr": "IS", "Value": [self.instances]} for name in ("00201208", "00201209")
            }
        rows = [row]
        if "/instances?" in target and "SOPInstanceUID=" not in target:
            others = [f"{INSTANCE}.{number}" for number in range(1, self.listed)]
            rows += [row | {"00080018": {"vr": "UI", "Value": [uid]}} for uid in others]
        body = json.dumps(rows if "offset=" not in target else []).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )


def archive_app(answer: Handler, root: str = "/rs") -> web.Application:
    """Return an archive that answers any GET below its DICOMweb root so."""
    app = web.Application()
    app.router.add_get(root + "/{path:.*}", answer)
    return app


@contextlib.asynccontextmanager
async def answering(answer: Handler) -> AsyncIterator[str]:
    """Serve ``archive_app(answer)``; yields the DICOMweb root."""
    async with listen(archive_app(answer), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/rs"


class RowArchive:
    """An archive that answers QIDO-RS from rows, and retrievals by ``retrieve``.

    ``filters``: whether queries are answered by the rows that they match, else by all rows.
    ``uid_lists``: whether a list of UIDs is read as one, else as a value. ``asked`` has the target
    of each request as it came.
    """

    def __init__(
        self,
        *rows: Row,
        filters: bool = True,
        uid_lists: bool = True,
        retrieve: Handler | None = None,
    ) -> None:
        self.rows = rows
        self.filters = filters
        self.uid_lists = uid_lists
        self.asked: list[str] = []
        self._retrieve = retrieve or self._absent

    def app(self) -> web.Application:
        """Return the application; its DICOMweb root is /rs."""
        return archive_app(self.answer)

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for ``/rs/…``."""
        self.asked.append(request.raw_path)
        *above, level = request.match_info["path"].split("/")
        if level in _UID_OF and len(above) % 2 == 0:
            return self._search(request, dict(zip(above[::2], above[1::2], strict=True)), level)
        return await self._retrieve(request)

    @staticmethod
    async def _absent(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    def _search(self, request: web.Request, above: dict[str, str], level: str) -> web.Response:
        query = dict(request.query)
        offset, limit = int(query.pop("offset", 0)), int(query.pop("limit", len(self.rows)))
        query.pop("includefield", None)
        query |= {_UID_OF[name]: uid for name, uid in above.items()}
        found: dict[tuple[str | None, str | None], Row] = {}
        for row in self.rows:
            if not self.filters or all(self._matches(row, *pair) for pair in query.items()):
                found.setdefault((text(row, _UID_OF[level]), text(row, "PatientID")), row)
        page = list(found.values())[offset : offset + limit]
        return web.json_response(page, content_type="application/dicom+json")

    def _matches(self, row: Row, name: str, value: str) -> bool:
        element = row.get(name if name in row else tag(name), {}).get("Value", [""])
        return element[0] in (value.split(",") if self.uid_lists and "UID" in name else [value])


class Servable(Protocol):
    """Anything that can stand for a PACS."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""

"""Upstreams that misbehave on demand, for faults that a real EHR or PACS cannot be made to show."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol, cast

import aiohttp
from aiohttp import web

from sidecar.audit.event import AuditSource
from sidecar.audit.sinks import NoSink
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.visible_studies import VisibleStudiesLookup
from sidecar.bootstrap.build import Sidecar, build
from sidecar.fhir.imaging_study import Site
from sidecar.server.listener import listen
from sidecar.settings.document import Settings
from tests.dicom_instances import dataset, encoded

STUDY, SERIES, INSTANCE = "1.2.840.1", "1.2.840.1.1", "1.2.840.1.1.1"
PATIENT = "p1"
TOKEN = "a-recognizable-token"
SCOPE = "patient/ImagingStudy.rs"

SITE = Site("https://ehr.example.org/fhir")
NO_VIEWS = VisibleStudiesLookup(
    cast("Any", SimpleNamespace(forget_listed=lambda study, known_as: None)),
    SITE,
    Constraints(SITE),
)
"""For a authorizer whose permits are never limited."""
NO_AUDIT = AuditTrail(NoSink(), AuditSource("test", "https://ehr.example.org/fhir"), b"key")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ScriptedEhr:
    """Answers every introspection with ``answer`` (JSON) and ``status`` after ``delay`` seconds;
    counts them.

    ``issuer``: what its smart-configuration names.
    """

    answer: Any = field(
        default_factory=lambda: {
            "active": True, "scope": SCOPE, "client_id": "app", "exp": 9_999_999_999, "patient": PATIENT,
        }
    )  # fmt: skip
    status: int = 200
    delay: float = 0
    introspections: int = 0
    configured: bool = True
    issuer: str | None = None

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_get("/fhir/.well-known/smart-configuration", self._configuration)
        app.router.add_post("/introspect", self._introspect)
        return app

    async def _configuration(self, request: web.Request) -> web.Response:
        if not self.configured:
            return web.Response(status=500)
        endpoint = f"{request.url.origin()}/introspect"
        return web.json_response({"introspection_endpoint": endpoint, "issuer": self.issuer})

    async def _introspect(self, request: web.Request) -> web.Response:
        self.introspections += 1
        await asyncio.sleep(self.delay)
        if isinstance(self.answer, str):
            return web.Response(text=self.answer, status=self.status)
        return web.json_response(self.answer, status=self.status)


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
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**16)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web"
        finally:
            server.close()

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
            PatientID=patient_id, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE
        )  # fmt: skip
        body = (
            b"--instance\r\nContent-Type: application/dicom\r\n\r\n"
            + encoded(made)
            + b"\r\n--instance--\r\n"
        )
        writer.write(
            b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; type="application/dicom"; boundary=instance\r\n'
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


class HasApp(Protocol):
    """Anything that can stand for an EHR."""

    def app(self) -> web.Application:
        """The application; its FHIR base is /fhir."""


@contextlib.asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve a PACS that answers any GET so; yields the DICOMweb root."""
    app = web.Application()
    app.router.add_get("/rs/{tail:.*}", answer)
    async with listen(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/rs"


async def fetch_whole(url: str, headers: dict[str, str]) -> tuple[int, bytes, bool]:
    """Return the status, the body, and whether it came whole."""
    got = b""
    async with aiohttp.ClientSession(headers=headers) as client, client.get(url) as response:
        try:
            async for chunk in response.content.iter_any():
                got += chunk
        except aiohttp.ClientError:
            return response.status, got, False
        return response.status, got, True


class Servable(Protocol):
    """Anything that can stand for a PACS."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""


@contextlib.asynccontextmanager
async def sidecar_between(
    ehr: HasApp, pacs: Servable, /, **changes: dict[str, Any]
) -> AsyncIterator[tuple[str, Sidecar]]:
    """Run a sidecar between the two; yields its URL. ``changes`` override settings by section."""
    async with (
        listen(ehr.app(), "127.0.0.1", 0, drain_seconds=0.1) as ehr_port,
        pacs.serve() as root,
    ):
        document: dict[str, Any] = {
            "server": {"public_url": "http://sidecar.example.org"},
            "ehr": {"fhir_url": f"http://127.0.0.1:{ehr_port}/fhir", "timeout_seconds": 60},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": root, "timeout_seconds": 60},
        }
        for section, values in changes.items():
            document[section] = document.get(section, {}) | values
        public = build(Settings.model_validate(document))
        async with (
            public as sidecar,
            listen(sidecar.public, "127.0.0.1", 0, drain_seconds=0.1) as port,
        ):
            yield f"http://127.0.0.1:{port}", sidecar

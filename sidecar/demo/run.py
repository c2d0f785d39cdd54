"""``smart-imaging-sidecar demo``: EHR, archive and sidecar in one process, each on a port."""

import asyncio
import contextlib
import functools
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from aiohttp import web

from sidecar.bootstrap.access import capability_urls
from sidecar.bootstrap.build import build
from sidecar.demo.archive.app import INDEX, create_archive
from sidecar.demo.archive.index import read_folder
from sidecar.demo.archive.tape import on_tape
from sidecar.demo.configuration import (
    BACKEND_CLIENT_ID,
    BACKEND_KEY_FILE,
    CAPABILITY_KEYS_FILE,
    INTROSPECTION_CLIENT_ID,
    Ports,
    demo_document,
    make_capability_keys,
    make_key,
)
from sidecar.demo.ehr.app import STORE, create_ehr
from sidecar.demo.explain.decisions import Decisions
from sidecar.demo.explain.guide import TAPE_SECONDS, DemoGuide
from sidecar.demo.explain.routes import add_explanations
from sidecar.demo.own_names import by_own_names
from sidecar.demo.page import add_page
from sidecar.demo.people import PATIENTS
from sidecar.demo.phantoms.studies import phantom_studies, write_phantoms
from sidecar.demo.samples import fill
from sidecar.server.listener import listen
from sidecar.server.sockets import listen_on
from sidecar.settings.adapter import ADAPTER
from sidecar.web.connection_limit import ADMIN_LIMIT

_LISTENERS = _SIDECAR, _EHR, _ARCHIVE, _METRICS = (
    "the sidecar (--port)",
    "the EHR (--port + 1)",
    "the archive (--port + 2)",
    "metrics (--port + 3)",
)
"""Names of the listeners, in the order of their ports."""
_ABOUT = "# Of a running `demo`: good until it ends.\n"


@dataclass(frozen=True, slots=True)
class DemoArchive:
    """Archive behind the demo's sidecar: a folder of DICOM files, or a real PACS.

    ``write_config`` is the file for a configuration of `check` and `serve` beside the demo.
    """

    data: Path | None = None
    pacs_url: str | None = None
    dialect: str = "generic"
    write_config: Path | None = None


async def run_demo(
    host: str,
    port: int,
    archive: DemoArchive,
    stop: asyncio.Event,
    *,
    echo: Callable[[str], object],
    open_page: Callable[[str], object] | None = None,
) -> None:
    """Serve until ``stop``. A new or empty folder is filled with phantoms and pydicom's files.

    ``open_page`` gets the page's URL when everything listens; it runs in a thread.
    Raises ``OSError`` when one of the four ports is taken, ``ValueError`` when the folder has no
    DICOM file.
    """
    ports = Ports(host, port)
    _try_ports(ports, archive)
    with tempfile.TemporaryDirectory(prefix="sidecar-demo-") as scratch:
        app = None
        if archive.pacs_url is None:
            app = await asyncio.to_thread(_embedded, archive.data or Path(scratch, "images"), echo)
        async with _demo(ports, archive, app, Path(scratch)) as ehr:
            token = ehr[STORE].issue(patient=PATIENTS[0].id, scope="patient/ImagingStudy.rs")
            for line in introduction(ports, archive.pacs_url or ports.archive_url, token):
                echo(line)
            if open_page is not None:
                await asyncio.to_thread(open_page, ports.sidecar_url + "/")
            await stop.wait()


def _try_ports(ports: Ports, archive: DemoArchive) -> None:
    """Raise ``OSError`` for a port that is taken: filling the archive would take minutes first."""
    for offset, name in enumerate(_LISTENERS):
        if name != _ARCHIVE or archive.pacs_url is None:
            host = ports.host if name in (_SIDECAR, _EHR) else ports.inner_host
            for opened in listen_on(host, ports.sidecar + offset, name):
                opened.close()


def _embedded(folder: Path, echo: Callable[[str], object]) -> web.Application:
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        echo("Computing phantoms, and filling the archive with them and pydicom's test files …")
        fill(folder)
        write_phantoms(folder, datetime.now(UTC))
    elif not read_folder(folder).studies:
        raise ValueError(f"no DICOM file in {folder}")
    app = create_archive(folder)
    for phantom in phantom_studies(datetime.now(UTC)):
        if phantom.purpose == "slow":
            app.middlewares.append(on_tape(phantom.facts.uid, TAPE_SECONDS))
    return app


@contextlib.asynccontextmanager
async def _demo(
    ports: Ports, archive: DemoArchive, app: web.Application | None, scratch: Path
) -> AsyncIterator[web.Application]:
    """Start everything and yield the EHR."""
    secret = secrets.token_urlsafe(32)
    public_jwks = make_key(scratch / BACKEND_KEY_FILE)
    make_capability_keys(scratch / CAPABILITY_KEYS_FILE)
    ehr = create_ehr(
        base_url=ports.ehr_url,
        imaging_fhir_url=ports.sidecar_url + "/fhir",
        introspection_client_id=INTROSPECTION_CLIENT_ID,
        introspection_client_secret=secret,
        backend_client_id=BACKEND_CLIENT_ID,
        backend_public_jwks=public_jwks,
    )
    pacs = {"url": archive.pacs_url or ports.archive_url, "dialect": archive.dialect}
    document = demo_document(ports, secret, scratch, pacs)
    settings = ADAPTER.validate_python(document)
    if archive.write_config is not None:
        document["server"] |= {  # Not the demo's own ports, so that `serve` can run beside it.
            "port": ports.sidecar + 4,
            "admin_port": ports.sidecar + 5,
            "public_url": ports.beside_url,
        }
        archive.write_config.write_text(_ABOUT + yaml.safe_dump(document, sort_keys=False))

    decisions, guide = Decisions(), DemoGuide(None if app is None else app[INDEX])
    capabilities = capability_urls(settings)

    def customize(public: web.Application) -> None:
        add_page(public, ehr_fhir_url=settings.ehr.fhir_url)
        add_explanations(public, decisions, guide, ehr[STORE], capabilities, host=ports.host)

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(decisions.follow())
        start = stack.enter_async_context
        serve = functools.partial(listen, drain_seconds=1)
        await start(serve(ehr, ports.host, ports.sidecar + 1, name=_EHR))
        if app is not None:
            app.middlewares.append(by_own_names(ports.inner_host))
            await start(serve(app, ports.inner_host, ports.sidecar + 2, name=_ARCHIVE))
        sidecar = await start(build(settings, customize))
        admin = serve(
            sidecar.admin, ports.inner_host, ports.admin, limit=ADMIN_LIMIT, name=_METRICS
        )
        await start(admin)
        await start(serve(sidecar.public, ports.host, ports.sidecar, name=_SIDECAR))
        yield ehr


_OPEN_WARNING = (
    "",
    "WARNING: other machines can reach this demo, over plain HTTP.",
    "  Whoever reaches it may log in as any of its invented patients: there is no password.",
    "  Never put images of real people into it. It ends with Ctrl-C.",
)


def introduction(ports: Ports, archive_url: str, token: str) -> list[str]:
    """Return the lines that the demo prints: URLs, and three commands to paste."""
    patient = PATIENTS[0]
    base = ports.sidecar_url
    phantoms = phantom_studies(datetime.now(UTC))
    own = next(one.facts.uid for one in phantoms if one.facts.patient == patient)
    foreign = next(one.facts.uid for one in phantoms if one.facts.patient != patient)
    search = f"ImagingStudy?patient={patient.id}&_include=ImagingStudy:endpoint"
    size = "-w '%{http_code} %{size_download} bytes\\n'"
    bearer = f"-H 'Authorization: Bearer {token}'"
    wado = f"{base}/fhir/Patient/{patient.id}/$wado-rs/studies"
    accept = "-H 'Accept: multipart/related; type=application/dicom; transfer-syntax=*'"
    return [
        *(_OPEN_WARNING if ports.is_open else ()),
        "",
        "SMART Imaging Access sidecar, demo: everything here is invented and public.",
        f"  page      {base}/     log in as a patient and look at the images",
        f"  FHIR      {base}/fhir",
        f"  EHR       {ports.ehr_url}/fhir",
        f"  archive   {archive_url}     (in a hospital, only the sidecar reaches it)",
        f"  metrics   {ports.metrics_url}",
        "",
        f"An access token for {patient.given} {patient.family}, good for an hour:",
        f"  {token}",
        "",
        "Paste: a search, a retrieval, and another patient's study, a 404 as if it did not exist.",
        "",
        f"curl -sS -w '\\n' {bearer} '{base}/fhir/{search}'",
        "",
        f"curl -sS {bearer} {accept} -o study.multipart {size} '{wado}/{own}'",
        "",
        f"curl -sS -i -w '\\n' {bearer} '{wado}/{foreign}'",
        "",
        "Ctrl-C ends it.",
    ]

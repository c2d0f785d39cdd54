"""``smart-imaging-sidecar demo``: EHR, archive and sidecar in one process, each on a port."""

import asyncio
import contextlib
import functools
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from sidecar.bootstrap.build import build
from sidecar.demo.archive.app import create_archive
from sidecar.demo.archive.index import read_folder
from sidecar.demo.ehr.app import STORE, create_ehr
from sidecar.demo.page import add_page
from sidecar.demo.people import MRN_SYSTEM, PATIENTS
from sidecar.demo.samples import fill
from sidecar.server.listener import listen
from sidecar.server.sockets import listen_on
from sidecar.settings.adapter import ADAPTER
from sidecar.web.connection_limit import ADMIN_LIMIT

INTROSPECTION_CLIENT_ID = "smart-imaging-sidecar"
BACKEND_CLIENT_ID = "smart-imaging-sidecar-backend"
KEY_ID = "demo"


@dataclass(frozen=True, slots=True)
class Ports:
    """Addresses of the four listeners. ``sidecar`` is the first of their ports."""

    host: str
    sidecar: int

    @property
    def sidecar_url(self) -> str:
        """The sidecar's public URL."""
        return self._url(0)

    @property
    def ehr_url(self) -> str:
        """The EHR's base URL."""
        return self._url(1)

    @property
    def archive_url(self) -> str:
        """The archive's DICOMweb root."""
        return self._url(2) + "/dicom-web"

    @property
    def admin(self) -> int:
        """The admin listener's port."""
        return self.sidecar + 3

    @property
    def beside_url(self) -> str:
        """The URL of a second sidecar, in the configuration that the demo writes."""
        return self._url(4)

    def _url(self, offset: int) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.sidecar + offset}"


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
    """Serve until ``stop``. A new or empty folder is filled with pydicom's files.

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
            for opened in listen_on(ports.host, ports.sidecar + offset, name):
                opened.close()


def _embedded(folder: Path, echo: Callable[[str], object]) -> web.Application:
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        echo("Filling the archive with pydicom's test files …")
        fill(folder)
    elif not read_folder(folder).studies:
        raise ValueError(f"no DICOM file in {folder}")
    return create_archive(folder)


@contextlib.asynccontextmanager
async def _demo(
    ports: Ports, archive: DemoArchive, app: web.Application | None, scratch: Path
) -> AsyncIterator[web.Application]:
    """Start everything and yield the EHR."""
    secret = secrets.token_urlsafe(32)
    key_file = scratch / "backend-key.pem"
    public_jwks = make_key(key_file)
    ehr = create_ehr(
        base_url=ports.ehr_url,
        imaging_fhir_url=ports.sidecar_url + "/fhir",
        introspection_client_id=INTROSPECTION_CLIENT_ID,
        introspection_client_secret=secret,
        backend_client_id=BACKEND_CLIENT_ID,
        backend_public_jwks=public_jwks,
    )
    pacs = {"url": archive.pacs_url or ports.archive_url, "dialect": archive.dialect}
    document = demo_document(ports, secret, key_file, pacs)
    settings = ADAPTER.validate_python(document)
    if archive.write_config is not None:
        document["server"] |= {  # Not the demo's own ports, so that `serve` can run beside it.
            "port": ports.sidecar + 4,
            "admin_port": ports.sidecar + 5,
            "public_url": ports.beside_url,
        }
        archive.write_config.write_text(_ABOUT + yaml.safe_dump(document, sort_keys=False))

    def customize(public: web.Application) -> None:
        add_page(public, ehr_fhir_url=settings.ehr.fhir_url)

    async with contextlib.AsyncExitStack() as stack:
        start = stack.enter_async_context
        serve = functools.partial(listen, drain_seconds=1)
        await start(serve(ehr, ports.host, ports.sidecar + 1, name=_EHR))
        if app is not None:
            await start(serve(app, ports.host, ports.sidecar + 2, name=_ARCHIVE))
        sidecar = await start(build(settings, customize))
        await start(
            serve(
                sidecar.admin,
                ports.host,
                ports.admin,
                limit=ADMIN_LIMIT,
                name=_METRICS,
            )
        )
        await start(serve(sidecar.public, ports.host, ports.sidecar, name=_SIDECAR))
        yield ehr


def make_key(file: Path) -> dict[str, object]:
    """Write a new private key (PEM) that only its owner can read; return the EHR's public JWKS."""
    key = ec.generate_private_key(ec.SECP384R1())
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = orjson.loads(ECAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "ES384"}]}


def demo_document(
    ports: Ports, secret: str, key_file: Path, pacs: dict[str, str]
) -> dict[str, Any]:
    """Return the configuration that a hospital would write for this EHR and this archive."""
    return {
        "server": {
            "host": ports.host,
            "port": ports.sidecar,
            "admin_host": ports.host,
            "admin_port": ports.admin,
            "public_url": ports.sidecar_url,
        },
        "ehr": {"fhir_url": ports.ehr_url + "/fhir"},
        "tokens": {
            "client": {
                "method": "client_secret_basic",
                "client_id": INTROSPECTION_CLIENT_ID,
                "client_secret": secret,
            }
        },
        "patients": {
            "mapping": "ehr",
            "identifiers": [{"system": MRN_SYSTEM}],
            "client": {
                "method": "backend_services",
                "client_id": BACKEND_CLIENT_ID,
                "private_key_file": str(key_file),
                "key_id": KEY_ID,
                "algorithm": "ES384",
                "scope": "system/Patient.rs",
            },
        },
        "pacs": pacs,
    }


def introduction(ports: Ports, archive_url: str, token: str) -> list[str]:
    """Return the lines that the demo prints: URLs, and three commands to paste."""
    patient = PATIENTS[0]
    base = ports.sidecar_url
    own = "1.3.6.1.4.1.5962.1.2.13.20040826185059.5457"
    foreign = "1.3.6.1.4.1.5962.1.1.0.0.0.1196530851.28319.0.1"
    search = f"ImagingStudy?patient={patient.id}&_include=ImagingStudy:endpoint"
    size = "-w '%{http_code} %{size_download} bytes\\n'"
    bearer = f"-H 'Authorization: Bearer {token}'"
    wado = f"{base}/fhir/Patient/{patient.id}/$wado-rs/studies"
    accept = "-H 'Accept: multipart/related; type=application/dicom; transfer-syntax=*'"
    return [
        "",
        "SMART Imaging Access sidecar, demo: everything here is invented and public.",
        f"  page      {base}/     log in as one of three patients and look at the images",
        f"  FHIR      {base}/fhir",
        f"  EHR       {ports.ehr_url}/fhir",
        f"  archive   {archive_url}     (in a hospital, only the sidecar reaches it)",
        f"  metrics   http://{ports.host}:{ports.admin}/metrics",
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

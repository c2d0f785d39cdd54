"""The composition root: ``Settings`` in, a running sidecar out. Nothing else builds anything."""

import asyncio
import contextlib
import logging
import os
import resource
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web

from sidecar import RELEASED, __version__
from sidecar.common.background import background
from sidecar.fhir.catalog import Catalog, MemoryStore, Store
from sidecar.fhir.catalog_sqlite import SqliteStore
from sidecar.fhir.constraints import Constraints
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import Site
from sidecar.pacs.changes import Changes
from sidecar.pacs.client import PacsClient, Rows
from sidecar.pacs.detection import detect_dialect
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.issuers import Issuers
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.patience import Patience
from sidecar.pacs.studies import Studies
from sidecar.pacs.upstream import Upstream
from sidecar.patients.clients import BackendClients
from sidecar.patients.direct import DirectMapping
from sidecar.patients.ehr import EhrMapping
from sidecar.policy.external import ExternalPolicy
from sidecar.server_access import (
    backend_clients,
    capabilities,
    external_policy,
    named_of_series,
    named_of_studies,
    policy,
    study_rules,
)
from sidecar.server_tokens import TokenValidation, patient_credentials, token_validation
from sidecar.settings import BasicAuth, NoAuth, Settings
from sidecar.settings_tokens import TlsClient
from sidecar.telemetry.audit import AuditTrail, FileSink, NoSink, Sink, StdoutSink
from sidecar.telemetry.audit_event import AuditSource
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.discovery import Discovery
from sidecar.web.admin import Readiness, create_admin
from sidecar.web.connection import Runner
from sidecar.web.dicomweb import DicomWeb
from sidecar.web.guard import Guard, PatientMapping
from sidecar.web.imaging_fhir import ImagingFhir
from sidecar.web.limits import StreamLimits
from sidecar.web.patient_view import PatientViews
from sidecar.web.routes import create_public
from sidecar.web.stream import Streamer

log = logging.getLogger(__name__)

REALM = "SMART Imaging Access"
LINGERING_SECONDS = 2
"""How long the rest of a body that nobody wants is read before its connection is closed."""
QUERY_CONNECTIONS = 32
"""To the PACS, for queries: apart from the retrievals', so that slow readers keep nobody from being checked."""
WARM_QUERIES = 8
"""Slow queries that go on in the background at once; each holds one of those connections."""
POLICY_CONNECTIONS = 32
"""To the external policy."""
READ_BUFFER_BYTES = 2**18
"""For each stream from the PACS; twice this may wait in memory before reading pauses."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The built product: its two applications, what they share, and what ``check`` asks."""

    public: web.Application
    admin: web.Application
    metrics: Metrics
    readiness: Readiness
    pacs: PacsClient
    discovery: Discovery
    tokens: TokenValidation
    patients: PatientMapping
    clients: BackendClients
    external: ExternalPolicy | None
    changes: Changes | None


@contextlib.asynccontextmanager
async def build(
    settings: Settings, customize: Callable[[web.Application], None] | None = None
) -> AsyncIterator[Sidecar]:
    """Build everything; close it on leaving. ``customize`` may add routes to the public application (the demo's page).

    Raises ``ConfigurationError``-like ``ValueError`` for a key that cannot be used.
    """
    metrics = Metrics(__version__)
    async with contextlib.AsyncExitStack() as stack:
        ehr_session = await stack.enter_async_context(
            _session(settings.ehr.ca_file, connections=100, client=settings.tokens.client)
        )
        queries, retrievals = [
            await stack.enter_async_context(_session(settings.pacs.ca_file, connections=connections))
            for connections in (QUERY_CONNECTIONS, settings.pacs.max_connections)
        ]
        discovery = Discovery(ehr_session, settings.ehr.fhir_url, timeout_seconds=settings.ehr.timeout_seconds)
        tokens = token_validation(settings, ehr_session, discovery, metrics, stack)
        patients = _patients(settings, ehr_session, discovery)
        stack.push_async_callback(patients.close)
        patience, query_patience = _patience(settings)
        for one in (patience, query_patience):
            if one is not None:
                stack.push_async_callback(one.close)
        pacs = _pacs(settings, queries, retrievals, metrics, patience, query_patience)
        ownership = Ownership(pacs, ttl_seconds=settings.pacs.ownership_cache_seconds)
        stack.push_async_callback(ownership.close)
        catalog = _catalog(settings)
        stack.callback(catalog.close)
        rules = study_rules(settings)
        studies = Studies(
            pacs, ownership,
            with_series=settings.fhir.detail != "study" or bool(rules) or settings.access.external.url is not None,
            study_fields=named_of_studies(settings), series_fields=named_of_series(settings),
            cache_seconds=settings.fhir.search_cache_seconds, drop=metrics.observe_foreign, now=catalog.now,
        )  # fmt: skip
        stack.push_async_callback(studies.close)
        issuers = Issuers(pacs, ttl_seconds=settings.pacs.ownership_cache_seconds)
        stack.push_async_callback(issuers.close)
        audit = _audit(settings, metrics, stack)
        policy_session = await stack.enter_async_context(
            _session(settings.access.external.ca_file, connections=POLICY_CONNECTIONS)
        )
        external = external_policy(settings, policy_session, metrics, stack)
        clients = backend_clients(settings, ehr_session, discovery, stack)
        guard = Guard(
            tokens.cache,
            patients,
            ownership,
            issuers,
            metrics,
            audit,
            PatientViews(studies, _site(settings), Constraints(_site(settings)), external=external),
            policy=policy(settings, rules),
            clients=clients,
            capabilities=capabilities(settings, tokens.cache),
        )
        endpoints = Endpoints(
            settings.server.public_url + "/fhir",
            contained=settings.fhir.contained_endpoint,
            compat_2023=settings.compat.s4s_extension,
        )
        fhir = ImagingFhir(
            guard, catalog, endpoints, discovery, _site(settings), PageLinks(settings.fhir.link_key()),
            detail=settings.fhir.detail, page_size=settings.fhir.page_size, version=__version__, released=RELEASED,
        )  # fmt: skip
        dicomweb = DicomWeb(
            guard, pacs, Streamer(metrics, settings.server.client_seconds), endpoints, _limits(settings), metrics,
            public_base=settings.server.public_url, verify_instances=settings.pacs.verify_instances,
            metadata_row_bytes=settings.pacs.metadata_row_bytes,
        )  # fmt: skip
        readiness = Readiness({"ehr": discovery.probe, "pacs": pacs.ping})
        public = create_public(
            fhir, dicomweb, metrics, audit, cors_origins=settings.server.cors_origins, realm=REALM, customize=customize,
            wado_uri=settings.server.wado_uri, capabilities=settings.capabilities.mode != "off",
            is_draining=lambda: readiness.draining,
        )  # fmt: skip

        def invalidate() -> None:
            for cache in (studies, ownership, patients, clients, external):
                if cache is not None:
                    cache.forget()

        def changed(patient_ids: frozenset[str] | None) -> None:
            studies.forget(patient_ids)
            ownership.forget(patient_ids)

        changes = _changes(settings, queries, changed, metrics)
        if changes is not None:
            await stack.enter_async_context(background(changes.follow()))

        admin = create_admin(metrics, readiness, invalidate)
        yield Sidecar(public, admin, metrics, readiness, pacs, discovery, tokens, patients, clients, external, changes)


def _catalog(settings: Settings) -> Catalog:
    catalog = settings.fhir.catalog
    store: Store = MemoryStore() if catalog.file is None else SqliteStore(catalog.file)
    if catalog.dsn_file is not None:
        try:
            from sidecar.fhir.catalog_postgresql import PostgresqlStore  # noqa: PLC0415 - an extra
        except ImportError:
            raise ValueError("fhir.catalog.store postgresql needs psycopg: install the extra postgresql") from None
        store = PostgresqlStore(catalog.dsn())
    return Catalog(store, skew_seconds=catalog.clock_skew_seconds)


def _audit(settings: Settings, metrics: Metrics, stack: contextlib.AsyncExitStack) -> AuditTrail:
    sink: Sink = StdoutSink() if settings.audit.sink == "stdout" else NoSink()
    if settings.audit.file is not None:
        sink = file = FileSink(settings.audit.file)
        stack.callback(file.close)
    source = AuditSource("smart-imaging-sidecar " + __version__, settings.ehr.fhir_url, settings.audit.site)
    return AuditTrail(sink, source, settings.audit.key(), observe=metrics.observe_audit)


@contextlib.asynccontextmanager
async def _session(
    ca_file: Path | None, *, connections: int, client: object = None
) -> AsyncIterator[aiohttp.ClientSession]:
    context: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
    if isinstance(client, TlsClient):
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        context.load_cert_chain(client.certificate_file, client.private_key_file)
    connector = aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=15)
    # trust_env stays off: a proxy variable must not send tokens elsewhere. No cookies: they would be shared by all.
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        headers={"User-Agent": f"smart-imaging-sidecar/{__version__}"},
    ) as session:
        yield session


def _patients(settings: Settings, session: aiohttp.ClientSession, discovery: Discovery) -> PatientMapping:
    patients = settings.patients
    if patients.mapping == "direct":
        return DirectMapping(patients.issuer)
    return EhrMapping(
        session,
        settings.ehr.fhir_url,
        {identifier.system: identifier.issuer for identifier in patients.identifiers},
        patient_credentials(settings, session, discovery),
        timeout_seconds=settings.ehr.timeout_seconds,
        cache_ttl_seconds=patients.cache_ttl_seconds,
    )


def _limits(settings: Settings) -> StreamLimits:
    server = settings.server
    return StreamLimits(overall=server.max_streams, per_client=server.max_streams_per_client)


def _patience(settings: Settings) -> tuple[Patience[Upstream] | None, Patience[Rows] | None]:
    """Of retrievals and of queries."""
    pacs = settings.pacs
    if pacs.patience_seconds is None:
        return None, None
    patience, warm = pacs.patience_seconds, pacs.warm_seconds
    return (
        Patience(patience_seconds=patience, warm_seconds=warm, limit=pacs.warm_retrievals),
        Patience(patience_seconds=patience, warm_seconds=warm, limit=WARM_QUERIES),
    )


def _pacs(
    settings: Settings,
    queries: aiohttp.ClientSession,
    retrievals: aiohttp.ClientSession,
    metrics: Metrics,
    patience: Patience[Upstream] | None,
    query_patience: Patience[Rows] | None,
) -> PacsClient:
    pacs = settings.pacs
    return PacsClient(
        queries,
        pacs.url,
        DIALECTS[pacs.dialect],
        retrievals=retrievals,
        timeout_seconds=pacs.timeout_seconds,
        authorization=_authorization(settings),
        maximum_results=pacs.max_results,
        patience=patience,
        query_patience=query_patience,
        warm_seconds=pacs.warm_seconds,
        observe=metrics.observe_pacs,
    )


def _authorization(settings: Settings) -> str | None:
    auth = settings.pacs.auth
    if isinstance(auth, BasicAuth):
        return "Basic " + b64encode(f"{auth.username}:{auth.secret()}".encode()).decode()
    return None if isinstance(auth, NoAuth) else f"Bearer {auth.secret()}"


def _changes(
    settings: Settings,
    session: aiohttp.ClientSession,
    forget: Callable[[frozenset[str] | None], None],
    metrics: Metrics,
) -> Changes | None:
    pacs = settings.pacs
    if pacs.changes_url is None:
        return None
    return Changes(
        session,
        pacs.changes_url,
        forget,
        poll_seconds=pacs.changes_seconds,
        timeout_seconds=pacs.timeout_seconds,
        authorization=_authorization(settings),
        observe=metrics.observe_pacs,
    )


def _site(settings: Settings) -> Site:
    return Site(
        settings.ehr.fhir_url,
        zone=ZoneInfo(settings.fhir.timezone) if settings.fhir.timezone else None,
        true_timezone=DIALECTS[settings.pacs.dialect].true_timezone,
        fhir_base=settings.server.public_url + "/fhir",
        accession_system=settings.fhir.accession_system,
    )


@contextlib.asynccontextmanager
async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    drain_seconds: float = 1,
    idle_seconds: float = 75,
    observe_malformed: Callable[[int], None] = lambda status: None,
    name: str = "listener",
) -> AsyncIterator[int]:
    """Serve ``app`` on a socket; yields the port. On leaving, running requests get ``drain_seconds`` to end.

    ``idle_seconds``: how long a connection may wait for a whole request head; ``observe_malformed`` is told the status
    of each request that was not even HTTP. Raises ``OSError`` with ``name`` and address when the port cannot be had.
    """
    runner = Runner(
        # aiohttp waits this long twice: for handlers to end, and again before it cancels them.
        app, observe=observe_malformed, shutdown_timeout=drain_seconds / 2, access_log=None,
        keepalive_timeout=idle_seconds, lingering_time=LINGERING_SECONDS,
    )  # fmt: skip
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=False)
        try:
            await site.start()
        except OSError as error:
            known = error.errno if isinstance(error.errno, int) and error.errno > 0 else None
            why = os.strerror(known).lower() if known else error.strerror
            raise OSError(error.errno, why, f"{name}: {host}:{port}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _raise_open_files() -> None:
    """Take all the open files that the system grants: each client and each upstream connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4_096:
        log.warning("few open files are allowed: raise the limit of this process", extra={"limit": soft})


async def _compare_dialect(pacs: PacsClient) -> None:
    """Tell operators when the PACS is another product than they wrote: it would be asked in a way it misreads."""
    found = await detect_dialect(pacs)
    if found not in (None, pacs.dialect.name):
        log.warning(
            "the PACS looks like another product: check pacs.dialect",
            extra={"configured": pacs.dialect.name, "detected": found},
        )


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve both listeners until ``stop`` is set, then drain. Raises ``OSError`` when a port cannot be had."""
    _raise_open_files()
    server = settings.server
    async with (
        build(settings) as sidecar,
        listen(sidecar.admin, server.admin_host, server.admin_port, name="server.admin_port") as admin_port,
        listen(
            sidecar.public,
            server.host,
            server.port,
            drain_seconds=server.drain_seconds,
            observe_malformed=sidecar.metrics.observe_malformed,
            name="server.port",
        ) as port,
    ):
        problems = await sidecar.readiness.problems()
        log.info(
            "serving",
            extra={"port": port, "admin_port": admin_port, "version": __version__, "problems": problems},
        )
        if "pacs" not in problems:
            await _compare_dialect(sidecar.pacs)
        await stop.wait()
        sidecar.readiness.draining = True
        log.info("draining", extra={"seconds": server.drain_seconds})

"""The composition root: ``Settings`` in, a running sidecar out. Nothing else builds anything."""

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from sidecar import RELEASED, __version__
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.scope_constraints import Constraints
from sidecar.authorization.visible_studies import VisibleStudiesLookup
from sidecar.bootstrap.access import (
    backend_clients,
    capabilities,
    external_policy,
    named_of_series,
    named_of_studies,
    offered,
    policy,
    study_rules,
)
from sidecar.bootstrap.audit import audit_trail
from sidecar.bootstrap.certificates import certificates
from sidecar.bootstrap.discovery import ehr_probes
from sidecar.bootstrap.pacs import (
    changes_of,
    deferred_requests,
    pacs_client,
    retrieve_client,
    site_of,
)
from sidecar.bootstrap.tokens import TokenValidation, patient_credentials, token_validation
from sidecar.bootstrap.tracing import tracing_of
from sidecar.common.background import background
from sidecar.common.connector import CleanConnector, CleanResponse
from sidecar.common.invalidation import Invalidation
from sidecar.ehr.discovery import Discovery
from sidecar.fhir.catalog.catalog import Catalog, MemoryStore, Store
from sidecar.fhir.catalog.sqlite import SqliteStore
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.pacs.client import PacsClient
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import UNIQUE_SECONDS, Issuers
from sidecar.pacs.orthanc_changes import OrthancChanges
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.pacs.studies import Studies
from sidecar.patients.backend_clients import BackendClients
from sidecar.patients.direct import DirectMapping
from sidecar.patients.ehr_lookup import EhrMapping
from sidecar.patients.mapping import PatientMapping
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import TlsClient
from sidecar.telemetry.metrics import Metrics
from sidecar.web.admin import Readiness, create_admin
from sidecar.web.count_report import CountReport
from sidecar.web.dicomweb_handlers import DicomWeb
from sidecar.web.fhir_documents import FhirDocuments
from sidecar.web.fhir_handlers import ImagingFhir
from sidecar.web.qido_handlers import QidoHandlers
from sidecar.web.routes import create_public
from sidecar.web.stream import Streamer

log = logging.getLogger(__name__)

REALM = "SMART Imaging Access"
QUERY_CONNECTIONS = 32
"""To the PACS, for queries: apart from the retrievals', so that slow readers keep nobody from being checked."""
POLICY_CONNECTIONS = 32
"""To the external policy."""
READ_BUFFER_BYTES = 2**19
"""For each stream from the PACS; twice this may wait in memory before reading pauses."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The built product: its two applications, what they share, and what ``check`` asks."""

    public: web.Application
    admin: web.Application
    metrics: Metrics
    readiness: Readiness
    pacs: PacsClient
    retrievals: RetrieveClient
    discovery: Discovery
    tokens: TokenValidation
    patients: PatientMapping
    clients: BackendClients
    external: ExternalPolicy | None
    changes: OrthancChanges | None
    audit: AuditTrail
    invalidation: Invalidation


@contextlib.asynccontextmanager
async def build(
    settings: Settings,
    customize: Callable[[web.Application], None] | None = None,
    *,
    metrics: Metrics | None = None,
) -> AsyncIterator[Sidecar]:
    """Build everything; close it on leaving.

    ``customize`` may add routes to the public application (the demo's page).

    ``metrics``: of the generation before, which go on; ``None``: new ones.

    Raises ``ConfigurationError``-like ``ValueError`` for a key that cannot be used.
    """
    metrics = Metrics(__version__) if metrics is None else metrics
    invalidation = Invalidation()
    async with contextlib.AsyncExitStack() as stack:
        tracing = tracing_of(settings, metrics, stack)
        ehr_session = await stack.enter_async_context(
            open_session(settings.ehr.ca_file, connections=100, client=settings.tokens.client)
        )
        query_session, retrieve_session = [
            await stack.enter_async_context(
                open_session(settings.pacs.ca_file, connections=connections)
            )
            for connections in (QUERY_CONNECTIONS, settings.pacs.max_connections)
        ]
        discovery = Discovery(
            ehr_session, settings.ehr.fhir_url, timeout_seconds=settings.ehr.timeout_seconds
        )
        tokens = token_validation(settings, ehr_session, discovery, metrics, stack)
        patients = _patients(settings, ehr_session, discovery, invalidation)
        stack.push_async_callback(patients.close)
        retrievals_deferred, searches_deferred = deferred_requests(settings)
        for one in (retrievals_deferred, searches_deferred):
            if one is not None:
                invalidation.register(one)
                stack.push_async_callback(one.close)
        pacs = pacs_client(settings, query_session, metrics, searches_deferred)
        retrievals = retrieve_client(settings, retrieve_session, metrics, retrievals_deferred)
        instances = InstancePatients(
            pacs,
            retrievals,
            header_first=settings.pacs.verify_instances,
            row_bytes=settings.pacs.metadata_row_bytes,
            ttl_seconds=settings.pacs.ownership_cache_seconds,
            drop=metrics.observe_foreign,
            invalidation=invalidation,
        )
        stack.push_async_callback(instances.close)
        ownership = Ownership(
            pacs, ttl_seconds=settings.pacs.ownership_cache_seconds, invalidation=invalidation
        )
        stack.push_async_callback(ownership.close)
        catalog = _catalog(settings)
        stack.callback(catalog.close)
        rules = study_rules(settings)
        studies = Studies(
            pacs,
            ownership,
            with_series=settings.fhir.detail != "study"
            or bool(rules)
            or settings.access.external.url is not None,
            study_fields=named_of_studies(settings),
            series_fields=named_of_series(settings),
            cache_seconds=settings.fhir.search_cache_seconds,
            drop=metrics.observe_foreign,
            now=catalog.now,
            invalidation=invalidation,
        )
        stack.push_async_callback(studies.close)
        issuers = Issuers(
            pacs,
            generated=settings.pacs.generated_issuers,
            ttl_seconds=min(settings.pacs.ownership_cache_seconds, UNIQUE_SECONDS),
            invalidation=invalidation,
        )
        stack.push_async_callback(issuers.close)
        audit = await audit_trail(settings, metrics, stack, open_session)
        policy_session = await stack.enter_async_context(
            open_session(settings.access.external.ca_file, connections=POLICY_CONNECTIONS)
        )
        external = external_policy(settings, policy_session, metrics, invalidation, stack)
        clients = backend_clients(settings, ehr_session, discovery, invalidation, stack)
        authorizer = Authorizer(
            tokens.cache,
            patients,
            ownership,
            instances,
            issuers,
            metrics,
            audit,
            VisibleStudiesLookup(
                studies,
                site_of(settings),
                Constraints(site_of(settings)),
                rules=rules,
                external=external,
                invalidation=invalidation,
            ),
            policy=policy(settings, rules),
            invalidation=invalidation,
            clients=clients,
            capabilities=capabilities(settings),
        )
        endpoints = Endpoints(
            settings.server.public_url + "/fhir",
            contained=settings.fhir.contained_endpoint,
            compat_2023=settings.compat.s4s_extension,
        )
        limits = RequestLimits(
            transfers=settings.server.max_streams,
            transfers_of_app=settings.server.max_streams_per_client,
            connections=settings.server.max_connections,
        )
        fhir = ImagingFhir(
            authorizer,
            catalog,
            endpoints,
            site_of(settings),
            PageLinks(settings.fhir.link_key()),
            limits,
            CountReport(metrics),
            detail=settings.fhir.detail,
            page_size=settings.fhir.page_size,
        )
        documents = FhirDocuments(
            discovery,
            offered(settings),
            fhir_base=endpoints.fhir_base,
            version=__version__,
            released=RELEASED,
        )
        dicomweb = DicomWeb(
            authorizer,
            pacs,
            retrievals,
            QidoHandlers(authorizer, pacs, limits, metrics, invalidation),
            Streamer(metrics, settings.server.client_seconds),
            endpoints,
            limits,
            public_base=settings.server.public_url,
            verify_instances=settings.pacs.verify_instances,
            metadata_row_bytes=settings.pacs.metadata_row_bytes,
            invalidation=invalidation,
        )
        readiness = Readiness({**ehr_probes(settings, discovery), "pacs": pacs.ping})
        public = create_public(
            fhir,
            documents,
            dicomweb,
            metrics,
            audit,
            cors_origins=settings.server.cors_origins,
            realm=REALM,
            customize=customize,
            public_url=settings.server.public_url,
            wado_uri=settings.server.wado_uri,
            capabilities=settings.capabilities.mode != "off",
            is_draining=lambda: readiness.draining,
            tracing=tracing,
        )

        changes = changes_of(settings, query_session, invalidation.archive_changed, metrics)
        if changes is not None:
            await stack.enter_async_context(background(changes.follow()))

        await stack.enter_async_context(background(certificates(settings, metrics).watch()))
        admin = create_admin(metrics, readiness, invalidation.invalidate)
        yield Sidecar(
            public,
            admin,
            metrics,
            readiness,
            pacs,
            retrievals,
            discovery,
            tokens,
            patients,
            clients,
            external,
            changes,
            audit,
            invalidation,
        )


def _catalog(settings: Settings) -> Catalog:
    catalog = settings.fhir.catalog
    store: Store = MemoryStore() if catalog.file is None else SqliteStore(catalog.file)
    if catalog.dsn_file is not None:
        try:
            from sidecar.fhir.catalog.postgresql import PostgresqlStore  # noqa: PLC0415 - an extra
        except ImportError:
            raise ValueError(
                "fhir.catalog.store postgresql needs psycopg: install the extra postgresql"
            ) from None
        store = PostgresqlStore(catalog.dsn())
    return Catalog(store, skew_seconds=catalog.clock_skew_seconds)


@contextlib.asynccontextmanager
async def open_session(
    ca_file: Path | None, *, connections: int, client: object = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Make our HTTP client for a peer: ``ca_file`` to trust, ``client`` whose certificate is shown."""
    context: ssl.SSLContext | bool = (
        ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
    )
    if isinstance(client, TlsClient):
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        context.load_cert_chain(client.certificate_file, client.private_key_file)
    connector = CleanConnector(limit=connections, ssl=context, keepalive_timeout=15)
    # trust_env stays off: a proxy variable must not send tokens elsewhere. No cookies: they would
    # be shared by all.
    async with aiohttp.ClientSession(
        connector=connector,
        response_class=CleanResponse,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        headers={"User-Agent": f"smart-imaging-sidecar/{__version__}"},
    ) as session:
        yield session


def _patients(
    settings: Settings,
    session: aiohttp.ClientSession,
    discovery: Discovery,
    invalidation: Invalidation,
) -> PatientMapping:
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
        invalidation=invalidation,
    )

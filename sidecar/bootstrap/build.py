"""The composition root: build a sidecar from ``Settings``. Nothing else builds one."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import web

from sidecar import __version__
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.visible_studies_lookup import VisibleStudiesLookup
from sidecar.bootstrap.access import (
    access_policy,
    backend_clients,
    capability_urls,
    external_policy,
    needed_keywords,
)
from sidecar.bootstrap.audit import audit_trail
from sidecar.bootstrap.context import BuildContext, Host, open_session
from sidecar.bootstrap.discovery import ehr_probes
from sidecar.bootstrap.pacs import archive, site
from sidecar.bootstrap.telemetry import certificates, request_tracing
from sidecar.bootstrap.tokens import TokenValidation, ehr_client, token_validation
from sidecar.common.background import background
from sidecar.common.invalidation import Invalidation
from sidecar.common.shared_generation import SharedGeneration
from sidecar.ehr.discovery import Discovery
from sidecar.fhir.capability_statement import OfferedFeatures
from sidecar.fhir.catalog.catalog import Catalog, MemoryStore
from sidecar.fhir.catalog.sqlite import SqliteStore
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.pacs.client import PacsClient
from sidecar.pacs.orthanc_changes import OrthancChanges
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.pacs.studies import Studies
from sidecar.patients.backend_clients import BackendClients
from sidecar.patients.direct import DirectMapping
from sidecar.patients.ehr_lookup import EhrMapping
from sidecar.patients.mapping import PatientMapping
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics
from sidecar.web.admin import Readiness, create_admin
from sidecar.web.count_report import CountReport
from sidecar.web.dicomweb_handlers import DicomWeb
from sidecar.web.fhir_documents import FhirDocuments
from sidecar.web.fhir_handlers import ImagingFhir
from sidecar.web.qido_handlers import QidoHandlers
from sidecar.web.routes import create_public
from sidecar.web.stream import Streamer
from sidecar.web.study_entries import StudyEntries

EHR_CONNECTIONS = 100
"""Limit of connections to the EHR."""
APP_SHARE = 4
"""Divisor of ``limits.retrievals``: how many of them one app of one user has at most."""
CLIENT_SECONDS = 60
"""Seconds that a client may take to accept one chunk of an image. The slowest links need a few."""
PAGE_SIZE = 50
"""Studies in a page of a search without ``_count``. An app that wants another size asks for it."""


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
    host: Host | None = None,
) -> AsyncIterator[Sidecar]:
    """Build everything, and close it on leaving.

    ``customize`` may add routes to the public application (the demo's page). ``metrics`` are those
    of the process, ``None`` for new ones. ``host`` is what its workers share, ``None`` for
    a process alone.

    Raises ``ValueError`` for a setting that cannot be used.
    """
    metrics = Metrics(__version__) if metrics is None else metrics
    public_url = settings.server.public_url
    async with contextlib.AsyncExitStack() as stack:
        tracing = request_tracing(settings, metrics, stack)
        ehr_session = await stack.enter_async_context(
            open_session(
                settings.ehr.ca_file, connections=EHR_CONNECTIONS, client=settings.tokens.client
            )
        )
        discovery = Discovery(
            ehr_session, settings.ehr.fhir_url, timeout_seconds=settings.limits.ehr_timeout_seconds
        )
        host = Host() if host is None else host
        invalidation = Invalidation(
            shared=None if host.folder is None else SharedGeneration(host.folder)
        )
        context = BuildContext(settings, host, metrics, invalidation, stack, ehr_session, discovery)
        tokens, patients = token_validation(context), context.closing(_patients(context))
        pacs = await archive(context)
        catalog = _catalog(settings)
        stack.callback(catalog.close)
        policy, hospital = access_policy(settings), site(settings)
        study_fields, series_fields = needed_keywords(settings)
        studies = Studies(
            pacs.client,
            pacs.ownership,
            with_series=settings.fhir.detail != "study" or bool(policy.rules) or policy.external,
            study_fields=study_fields,
            series_fields=series_fields,
            cache_seconds=settings.limits.search_cache_seconds,
            drop=metrics.observe_foreign,
            now=catalog.now,
            invalidation=invalidation,
        )
        audit = await audit_trail(context)
        external = await external_policy(context)
        clients = backend_clients(context)
        authorizer = Authorizer(
            tokens.cache,
            patients,
            pacs.ownership,
            pacs.instances,
            pacs.issuers,
            metrics,
            audit,
            VisibleStudiesLookup(
                context.closing(studies),
                hospital,
                rules=policy.rules,
                external=external,
                invalidation=invalidation,
            ),
            policy=policy,
            invalidation=invalidation,
            clients=clients,
            capabilities=capability_urls(settings),
        )
        endpoints = Endpoints(
            hospital.fhir_base,
            contained=settings.fhir.contained_endpoint,
            requires_access_token=settings.compat.requires_access_token,
        )
        limits = RequestLimits(
            transfers=settings.limits.retrievals,
            transfers_of_app=max(1, settings.limits.retrievals // APP_SHARE),
            connections=settings.limits.client_connections,
        )
        fhir = ImagingFhir(
            authorizer,
            catalog,
            endpoints,
            hospital,
            PageLinks(settings.fhir.link_key(host.key)),
            limits,
            StudyEntries(endpoints, hospital, CountReport(metrics), detail=settings.fhir.detail),
            page_size=PAGE_SIZE,
        )
        documents = FhirDocuments(
            discovery,
            OfferedFeatures(app_launch=policy.app_launch, backend_services=policy.backend_services),
            fhir_base=endpoints.fhir_base,
        )
        dicomweb = DicomWeb(
            authorizer,
            pacs.client,
            pacs.retrievals,
            QidoHandlers(authorizer, pacs.client, limits, metrics, invalidation),
            Streamer(metrics, CLIENT_SECONDS),
            limits,
            public_base=public_url,
            verify_instances=settings.pacs.verify_instances,
            metadata_row_bytes=settings.limits.metadata_bytes,
            invalidation=invalidation,
        )
        readiness = Readiness({**ehr_probes(settings, discovery), "pacs": pacs.client.ping})
        public = create_public(
            fhir,
            documents,
            dicomweb,
            metrics,
            audit,
            cors_origins=settings.server.cors_origins,
            customize=customize,
            public_url=public_url,
            forwarded_allow_ips=settings.server.forwarded_allow_ips,
            wado_uri=settings.server.wado_uri,
            capabilities=settings.capabilities.mode != "off",
            is_draining=lambda: readiness.draining,
            tracing=tracing,
        )
        if pacs.changes is not None:
            await stack.enter_async_context(background(pacs.changes.follow()))
        await stack.enter_async_context(background(certificates(settings, metrics).watch()))
        yield Sidecar(
            public,
            create_admin(metrics, readiness, invalidation.invalidate),
            metrics,
            readiness,
            pacs.client,
            pacs.retrievals,
            discovery,
            tokens,
            patients,
            clients,
            external,
            pacs.changes,
            audit,
            invalidation,
        )


def _catalog(settings: Settings) -> Catalog:
    catalog, kind = settings.fhir.catalog, settings.catalog_store()
    if kind == "postgresql":
        try:
            from sidecar.fhir.catalog.postgresql import PostgresqlStore  # noqa: PLC0415 - an extra
        except ImportError:
            raise ValueError(
                "fhir.catalog.store postgresql needs psycopg: install the extra postgresql"
            ) from None
        return Catalog(
            PostgresqlStore(catalog.dsn()), skew_seconds=settings.limits.clock_skew_seconds
        )
    # Whoever shares a file has our clock.
    return Catalog(SqliteStore(catalog.file) if kind == "sqlite" else MemoryStore())


def _patients(context: BuildContext) -> PatientMapping:
    patients = context.settings.patients
    if patients.mapping == "direct":
        return DirectMapping(patients.issuer)
    return EhrMapping(
        ehr_client(context),
        {identifier.system: identifier.issuer for identifier in patients.identifiers},
        cache_ttl_seconds=context.settings.limits.patient_cache_seconds,
        invalidation=context.invalidation,
    )

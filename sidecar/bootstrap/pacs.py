"""Build the clients of the archive and what they fill, from ``pacs`` in the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

from sidecar.bootstrap.context import BuildContext
from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import Site
from sidecar.pacs.client import PacsClient
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.issuer_check import UNIQUE_SECONDS, Issuers
from sidecar.pacs.orthanc_changes import OrthancChanges
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.response import Upstream
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.settings.document import Settings

T = TypeVar("T")

QUERY_CONNECTIONS = 32
"""Limit of connections for queries.

Retrievals have connections of their own, so that slow readers do not hold up authorization.
"""
DEFERRED_QUERIES = 8
"""Limit of slow queries in the background. Each holds one of the connections for queries."""
DEFERRED_SHARE = 6
"""Divisor of ``limits.pacs_connections``: how many of them slow retrievals hold at most."""
CHANGES_SECONDS = 5
"""Seconds between two requests for Orthanc's ``/changes``: a correction goes unseen that long."""


@dataclass(frozen=True, slots=True)
class ArchiveClients:
    """The archive, as its clients and what is remembered of it. ``changes``: ``None`` when off."""

    client: PacsClient
    retrievals: RetrieveClient
    instances: InstancePatients
    ownership: Ownership
    issuers: Issuers
    changes: OrthancChanges | None


async def archive(context: BuildContext) -> ArchiveClients:
    """Return what asks the archive."""
    pacs, limits = context.settings.pacs, context.settings.limits
    metrics, invalidation = context.metrics, context.invalidation
    queries = await context.session(pacs.ca_file, QUERY_CONNECTIONS)
    authorization = pacs.auth.authorization()
    deferred_retrievals: DeferredRequests[Upstream] | None = None
    deferred_queries: DeferredRequests[list[Row]] | None = None
    if limits.defer_after_seconds is not None:
        deferred_retrievals = _deferred(
            context,
            Upstream.close,
            limits.defer_after_seconds,
            max(1, limits.pacs_connections // DEFERRED_SHARE),
        )
        deferred_queries = _deferred(
            context, lambda rows: None, limits.defer_after_seconds, DEFERRED_QUERIES
        )
    client = PacsClient(
        queries,
        pacs.url,
        DIALECTS[pacs.dialect],
        timeout_seconds=limits.pacs_timeout_seconds,
        authorization=authorization,
        maximum_results=limits.query_results,
        deferred=deferred_queries,
        warm_seconds=limits.deferred_seconds,
        observe=metrics.observe_pacs,
    )
    retrievals = RetrieveClient(
        await context.session(pacs.ca_file, limits.pacs_connections),
        pacs.url,
        DIALECTS[pacs.dialect],
        timeout_seconds=limits.pacs_timeout_seconds,
        authorization=authorization,
        deferred=deferred_retrievals,
        observe=metrics.observe_pacs,
    )
    instances = InstancePatients(
        client,
        retrievals,
        header_first=pacs.verify_instances,
        row_bytes=limits.metadata_bytes,
        ttl_seconds=limits.ownership_cache_seconds,
        drop=metrics.observe_foreign,
        invalidation=invalidation,
    )
    ownership = Ownership(
        client, ttl_seconds=limits.ownership_cache_seconds, invalidation=invalidation
    )
    issuers = Issuers(
        client,
        generated=pacs.generated_issuers,
        ttl_seconds=min(limits.ownership_cache_seconds, UNIQUE_SECONDS),
        invalidation=invalidation,
    )
    changes = None
    if pacs.changes_url is not None:
        changes = OrthancChanges(
            queries,
            pacs.changes_url,
            invalidation.archive_changed,
            poll_seconds=CHANGES_SECONDS,
            timeout_seconds=limits.pacs_timeout_seconds,
            authorization=authorization,
            observe=metrics.observe_pacs,
        )
    return ArchiveClients(
        client,
        retrievals,
        context.closing(instances),
        context.closing(ownership),
        context.closing(issuers),
        changes,
    )


def _deferred(
    context: BuildContext, close: Callable[[T], None], patience_seconds: float, limit: int
) -> DeferredRequests[T]:
    limits = context.settings.limits
    deferred = DeferredRequests(
        close,
        patience_seconds=patience_seconds,
        warm_seconds=limits.deferred_seconds,
        limit=limit,
        silence_seconds=limits.pacs_timeout_seconds,
    )
    context.invalidation.register(deferred)
    return context.closing(deferred)


def site(settings: Settings) -> Site:
    """Return what the FHIR side must know of the hospital."""
    return Site(
        settings.ehr.fhir_url,
        zone=ZoneInfo(settings.fhir.timezone) if settings.fhir.timezone else None,
        true_timezone=DIALECTS[settings.pacs.dialect].true_timezone,
        fhir_base=settings.server.public_url + "/fhir",
        accession_system=settings.fhir.accession_system,
    )

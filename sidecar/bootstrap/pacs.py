"""The part of the composition that is about the archive: ``pacs`` in the settings -> clients, deferred requests, changes."""

from base64 import b64encode
from collections.abc import Callable
from zoneinfo import ZoneInfo

import aiohttp

from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import Site
from sidecar.pacs.client import PacsClient
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.orthanc_changes import OrthancChanges
from sidecar.pacs.response import Upstream
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import BasicAuth, BearerClient, NoAuth
from sidecar.telemetry.metrics import Metrics

WARM_QUERIES = 8
"""Slow queries that go on in the background at once; each holds one of those connections."""


def deferred_requests(
    settings: Settings,
) -> tuple[DeferredRequests[Upstream] | None, DeferredRequests[list[Row]] | None]:
    """Of retrievals and of queries."""
    pacs = settings.pacs
    if pacs.patience_seconds is None:
        return None, None
    patience, warm, silence = pacs.patience_seconds, pacs.warm_seconds, pacs.timeout_seconds
    return (
        DeferredRequests(
            Upstream.close,
            patience_seconds=patience,
            warm_seconds=warm,
            limit=pacs.warm_retrievals,
            silence_seconds=silence,
        ),
        DeferredRequests(
            lambda rows: None,
            patience_seconds=patience,
            warm_seconds=warm,
            limit=WARM_QUERIES,
            silence_seconds=silence,
        ),
    )


def pacs_client(
    settings: Settings,
    session: aiohttp.ClientSession,
    metrics: Metrics,
    deferred: DeferredRequests[list[Row]] | None,
) -> PacsClient:
    """Return the client for queries to ``pacs``."""
    pacs = settings.pacs
    return PacsClient(
        session,
        pacs.url,
        DIALECTS[pacs.dialect],
        timeout_seconds=pacs.timeout_seconds,
        authorization=authorization_of(pacs.auth),
        maximum_results=pacs.max_results,
        deferred=deferred,
        warm_seconds=pacs.warm_seconds,
        observe=metrics.observe_pacs,
    )


def retrieve_client(
    settings: Settings,
    session: aiohttp.ClientSession,
    metrics: Metrics,
    deferred: DeferredRequests[Upstream] | None,
) -> RetrieveClient:
    """Return the client for retrievals from ``pacs``."""
    pacs = settings.pacs
    return RetrieveClient(
        session,
        pacs.url,
        DIALECTS[pacs.dialect],
        timeout_seconds=pacs.timeout_seconds,
        authorization=authorization_of(pacs.auth),
        deferred=deferred,
        observe=metrics.observe_pacs,
    )


def authorization_of(auth: NoAuth | BasicAuth | BearerClient) -> str | None:
    """Return the value of the ``Authorization`` header, from the secrets as they are now."""
    if isinstance(auth, BasicAuth):
        return "Basic " + b64encode(f"{auth.username}:{auth.secret()}".encode()).decode()
    return None if isinstance(auth, NoAuth) else f"Bearer {auth.secret()}"


def changes_of(
    settings: Settings,
    session: aiohttp.ClientSession,
    forget: Callable[[frozenset[str] | None], None],
    metrics: Metrics,
) -> OrthancChanges | None:
    """Return what follows the archive's changes, ``None`` when they are not followed."""
    pacs = settings.pacs
    if pacs.changes_url is None:
        return None
    return OrthancChanges(
        session,
        pacs.changes_url,
        forget,
        poll_seconds=pacs.changes_seconds,
        timeout_seconds=pacs.timeout_seconds,
        authorization=authorization_of(pacs.auth),
        observe=metrics.observe_pacs,
    )


def site_of(settings: Settings) -> Site:
    """Return what the FHIR side must know of the hospital."""
    return Site(
        settings.ehr.fhir_url,
        zone=ZoneInfo(settings.fhir.timezone) if settings.fhir.timezone else None,
        true_timezone=DIALECTS[settings.pacs.dialect].true_timezone,
        fhir_base=settings.server.public_url + "/fhir",
        accession_system=settings.fhir.accession_system,
    )

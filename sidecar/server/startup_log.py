"""The log lines at the start, and after a reload: what is configured and reachable.

They name addresses, but no secrets and no conditions of rules.
"""

import logging
from collections.abc import Mapping
from typing import Any

from sidecar.settings.document import Settings

log = logging.getLogger(__name__)


def log_settings(
    settings: Settings, problems: Mapping[str, str], *, client_connections: int
) -> None:
    """Log the upstreams and the settings.

    ``settings``: those of one worker, whose limits are its share. ``problems``: why ``ehr`` or
    ``pacs`` do not answer. ``client_connections``: the limit, which may be lower than
    ``limits.client_connections``.
    """
    server, tokens, pacs, fhir = settings.server, settings.tokens, settings.pacs, settings.fhir
    access, audit, limits = settings.access, settings.audit, settings.limits
    _peer("the EHR", settings.ehr.fhir_url, problems.get("ehr"))
    _peer(
        "the PACS",
        pacs.url,
        problems.get("pacs"),
        dialect=pacs.dialect,
        verify_instances=pacs.verify_instances,
    )
    _configured(
        "server",
        public_url=server.public_url,
        host=server.host,
        admin_host=server.admin_host,
        cors_origins=server.cors_origins,
        reload_seconds=server.reload_seconds,
        drain_seconds=server.drain_seconds,
    )
    _configured(
        "limits",
        workers=server.workers,
        retrievals=limits.retrievals,
        client_connections=client_connections,
        pacs_connections=limits.pacs_connections,
        defer_after_seconds=limits.defer_after_seconds,
    )
    _configured(
        "tokens",
        validation=tokens.validation,
        audience=tokens.audience,
        cache_ttl_seconds=tokens.cache.ttl_seconds,
        client=None if tokens.client is None else tokens.client.method,
    )
    _configured("patients", mapping=settings.patients.mapping, issuer=settings.patients.issuer)
    _configured(
        "access",
        app_launch=access.app_launch,
        backend_clients=len(access.clients),
        rules=len(access.rules),
        external_policy=access.external.url,
        capabilities=settings.capabilities.mode,
    )
    _configured(
        "fhir",
        detail=fhir.detail,
        catalog=settings.catalog_store(),
        search_cache_seconds=limits.search_cache_seconds,
        changes_url=pacs.changes_url,
    )
    _configured(
        "records",
        audit=audit.sink,
        repository=audit.repository.url,
        when_full=audit.when_full,
        tracing=settings.tracing.endpoint,
        log_level=settings.log.level,
    )


def _peer(name: str, url: str, problem: str | None, **more: Any) -> None:
    if problem is None:
        log.info("%s answers", name, extra={"url": url, **more})
    else:
        log.warning(
            "%s does not answer as it should", name, extra={"url": url, "problem": problem, **more}
        )


def _configured(what: str, **values: Any) -> None:
    log.info("configured: %s", what, extra=values)

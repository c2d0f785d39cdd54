"""The part of the composition that is about certificates: whose are looked at, by the settings."""

from pathlib import Path

from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import TlsClient
from sidecar.telemetry.certificates import Certificates
from sidecar.telemetry.metrics import Metrics


def certificates(settings: Settings, metrics: Metrics) -> Certificates:
    """Return what watches those of ``settings``."""
    servers: dict[str, tuple[str | None, Path | None]] = {
        "ehr": (settings.ehr.fhir_url, settings.ehr.ca_file),
        "pacs": (settings.pacs.url, settings.pacs.ca_file),
        "policy": (settings.access.external.url, settings.access.external.ca_file),
        "audit_repository": (settings.audit.repository.url, settings.audit.repository.ca_file),
    }
    client = settings.tokens.client
    files = {"client": client.certificate_file} if isinstance(client, TlsClient) else {}
    return Certificates(
        metrics, {name: (url, ca) for name, (url, ca) in servers.items() if url is not None}, files
    )

"""Build the watch over the certificates of the peers that the settings name."""

from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import TlsClient
from sidecar.telemetry.certificates import Certificates
from sidecar.telemetry.metrics import Metrics


def certificates(settings: Settings, metrics: Metrics) -> Certificates:
    """Return the watch over the certificates of our peers, and over our own."""
    audit, external = settings.audit.repository, settings.access.external
    servers = {
        "ehr": (settings.ehr.fhir_url, settings.ehr.ca_file),
        "pacs": (settings.pacs.url, settings.pacs.ca_file),
        "policy": (external.url, external.ca_file),
        "audit_repository": (audit.url, audit.ca_file),
    }
    client = settings.tokens.client
    files = {"client": client.certificate_file} if isinstance(client, TlsClient) else {}
    return Certificates(
        metrics, {name: (url, ca) for name, (url, ca) in servers.items() if url is not None}, files
    )

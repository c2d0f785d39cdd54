"""Build what watches over certificates, and what records spans (``tracing`` in the settings)."""

from contextlib import AsyncExitStack

from sidecar import __version__
from sidecar.common.spans import Tracing
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


def request_tracing(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Tracing:
    """Return what begins the spans of requests. Leaving ``stack`` sends the last spans.

    Raises ``ValueError`` when tracing is on and its extra is not installed.
    """
    section = settings.tracing
    if section.endpoint is None:
        return Tracing()
    try:
        from sidecar.telemetry.span_export import SpanExport  # noqa: PLC0415 - an extra
        from sidecar.telemetry.tracing import OpenTelemetryTracing  # noqa: PLC0415
    except ImportError as missing:
        raise ValueError(
            f"tracing.endpoint needs {missing.name}: "
            "pip install '.[tracing]' in the project's folder"
        ) from None
    metrics.begin_tracing()
    export = SpanExport(
        section.endpoint,
        authorization=section.authorization(),
        ca_file=section.ca_file,
        observe=metrics.observe_spans,
    )
    stack.push_async_callback(export.close)
    return OpenTelemetryTracing(
        export,
        service_name=section.service_name,
        version=__version__,
        ratio=section.sample_ratio,
        joins=section.join_callers,
    )

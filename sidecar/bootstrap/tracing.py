"""The part of the composition that is about tracing: ``tracing`` in the settings -> what begins spans, or nothing."""

from contextlib import AsyncExitStack

from sidecar import __version__
from sidecar.common.spans import NoTracing, Tracing
from sidecar.settings.document import Settings
from sidecar.telemetry.metrics import Metrics


def tracing_of(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Tracing:
    """Return what begins the spans of requests; its last ones are sent when ``stack`` ends.

    Raises ``ValueError`` when it is on and its extra is not installed.
    """
    section = settings.tracing
    if section.endpoint is None:
        return NoTracing()
    try:
        from sidecar.telemetry.span_export import SpanExport  # noqa: PLC0415 - an extra
        from sidecar.telemetry.tracing import OpenTelemetryTracing  # noqa: PLC0415
    except ImportError as missing:
        raise ValueError(
            f"tracing.endpoint needs {missing.name}: pip install '.[tracing]' in the project's folder"
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

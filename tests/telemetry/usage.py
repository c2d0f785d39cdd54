"""One request, as it is counted."""

from sidecar.telemetry.metrics import Metrics


def use(metrics: Metrics) -> None:
    """Give each promised metric one value."""
    metrics.requests.labels("wado-rs", "GET", "200").inc()
    metrics.request_duration.labels("wado-rs").observe(0.5)
    metrics.decisions.labels("deny", "foreign").inc()
    metrics.observe_introspection("active", 0.01)
    metrics.observe_token_lookup("hit")
    metrics.observe_pacs("query", "200", 0.02)
    metrics.streams_active.inc()
    metrics.streamed_bytes.labels("study").inc(2**40)
    metrics.streams.labels("study", "complete").inc()
    metrics.observe_foreign("instance")

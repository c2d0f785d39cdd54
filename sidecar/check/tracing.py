"""Check of the collector: it is sent an empty ExportTraceServiceRequest (OTLP/HTTP 1.3)."""

from sidecar.bootstrap.context import open_session
from sidecar.check.outcome import CheckOutcome, failure, ok, unreachable
from sidecar.common.fetch import FetchFailed, fetch
from sidecar.settings.document import Settings

_LIMIT_BYTES = 65_536
_SECONDS = 5


async def collector(settings: Settings) -> CheckOutcome:
    """Check that ``tracing.endpoint`` accepts our spans."""
    section = settings.tracing
    if section.endpoint is None:
        return ok("none")
    headers = {"Content-Type": "application/x-protobuf"}
    if (authorization := section.authorization()) is not None:
        headers["Authorization"] = authorization
    try:
        async with open_session(section.ca_file, connections=1) as session:
            answer = await fetch(
                session,
                "POST",
                section.endpoint,
                form=b"",
                headers=headers,
                limit_bytes=_LIMIT_BYTES,
                timeout_seconds=_SECONDS,
            )
    except FetchFailed as error:
        return unreachable(section.endpoint, error)
    if answer.status in (401, 403):
        return failure(
            f"{section.endpoint} answers {answer.status}", "Is tracing.authorization_file right?"
        )
    if answer.status != 200:
        return failure(
            f"{section.endpoint} answers {answer.status}",
            "OTLP over HTTP mostly has port 4318, path /v1/traces.",
        )
    return ok(section.endpoint)

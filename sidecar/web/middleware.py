"""Give each request an id and a record, time it, answer its errors, and log it.

The places that a request holds are held until its answer is sent: until then it is in memory.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sidecar.audit.record import AccessRecord
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.decision_log import Denied
from sidecar.common.errors import Problem
from sidecar.common.spans import REASON as SPAN_REASON
from sidecar.common.spans import STATUS, Span, Tracing, span
from sidecar.telemetry.metrics import Metrics
from sidecar.web import errors
from sidecar.web.target import Target, authority_of, parse_target
from sidecar.web.transfer_timeout import LEAST_BYTES_PER_SECOND, send_whole

log = logging.getLogger("sidecar.request")

TARGET: web.RequestKey[Target] = web.RequestKey("target", Target)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
RECORD: web.RequestKey[AccessRecord] = web.RequestKey("record", AccessRecord)
REASON: web.RequestKey[str] = web.RequestKey("reason", str)

BROKEN_OFF: web.RequestKey[str] = web.RequestKey("broken_off", str)
"""Status in logs and metrics of an answer that we broke off after its head had gone out."""

_CLIENT_GONE = "499"
"""Status in logs and metrics, as in nginx's, when the client left before the answer's end."""

ANSWER_SECONDS = 60
"""Time in seconds for sending an answer, beside its length at ``LEAST_BYTES_PER_SECOND``."""

_PLACES: web.RequestKey[contextlib.AsyncExitStack] = web.RequestKey(
    "places", contextlib.AsyncExitStack
)


def observe_requests(
    metrics: Metrics,
    audit: AuditTrail,
    is_draining: Callable[[], bool],
    tracing: Tracing,
    public_url: str,
) -> Middleware:
    """Return the middleware that observes requests.

    ``is_draining()``: whether the server is ending. ``public_url``: our own, for targets in
    absolute form.
    """
    own = authority_of(public_url)

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = None if resource is None else resource.canonical
        with tracing.request(
            request.method, route, request.headers.getall("traceparent", ())
        ) as step:
            request[REQUEST_ID] = secrets.token_hex(8)
            step.set("smart_imaging.request_id", request[REQUEST_ID])
            return await observe(request, handler, step)

    async def observe(request: web.Request, handler: Handler, step: Span) -> web.StreamResponse:
        started = time.perf_counter()
        record = request[RECORD] = AccessRecord(request[REQUEST_ID], request.remote)
        record.route = request.match_info.route.name or "unknown"
        status = _CLIENT_GONE
        try:
            response = _recorded(request, await _answer(request, handler, own), record, audit)
            status = str(response.status)
        except BaseException:
            if is_draining():
                status, request[REASON] = "503", "draining"
            status = request.get(BROKEN_OFF, status)
            record.reason = request.get(REASON, "client_gone")
            with contextlib.suppress(Problem):  # What had gone out is in the trail as permitted.
                audit.answered(record, int(status), late=True)
            raise
        finally:
            _record(request, metrics, status, time.perf_counter() - started, step)
        return response

    return trace


async def _answer(request: web.Request, handler: Handler, own: str) -> web.StreamResponse:
    try:
        with span("read"):
            _check_protocol(request)
            request[TARGET] = parse_target(request.raw_path, own)
        return await handler(request)
    except Denied as denied:
        request[REASON] = denied.reason.value
        return errors.denial(denied.reason, denied.series)
    except Problem as problem:
        request[REASON] = problem.reason
        return errors.problem(problem)
    except web.HTTPException as error:
        request[REASON] = "http"
        return errors.http_error(error)
    except (ConnectionResetError, asyncio.CancelledError):
        raise  # The client left.
    except Exception:
        request[REASON] = "internal_error"
        log.exception("internal error", extra={"request_id": request[REQUEST_ID]})
        return errors.internal_error()


def _recorded(
    request: web.Request, response: web.StreamResponse, record: AccessRecord, audit: AuditTrail
) -> web.StreamResponse:
    """Record the answer before it leaves; what cannot be recorded does not leave (SIA-60)."""
    record.reason = request.get(REASON)
    try:
        with span("record"):
            audit.answered(record, response.status, late=response.prepared)
    except Problem as problem:
        if not response.prepared:
            request[REASON] = problem.reason
            return errors.problem(problem)
    return response


def _check_protocol(request: web.Request) -> None:
    """Refuse what is not plain HTTP/1: nothing is guessed, nothing is unpacked."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise web.HTTPVersionNotSupported
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType


def _record(
    request: web.Request, metrics: Metrics, status: str, seconds: float, step: Span
) -> None:
    """Count and log an answered request; ``step`` is its span."""
    route = request[RECORD].route
    method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
    metrics.observe_request(route, method, status, seconds)
    fields = {
        "request_id": request[REQUEST_ID],
        "route": route,
        "method": method,
        "status": int(status),
        "seconds": round(seconds, 4),
        "durations": {name: round(spent, 4) for name, spent in (step.durations or {}).items()},
    }
    reason = request.get(REASON)
    _end_span(step, status, reason)
    level = logging.WARNING if int(status) >= 500 else logging.INFO
    log.log(level, "request", extra=fields if reason is None else {**fields, "reason": reason})


def _end_span(step: Span, status: str, reason: str | None) -> None:
    """Write the outcome of the request into its span.

    A refusal is no error of ours (OpenTelemetry's conventions for HTTP servers).
    """
    step.set(STATUS, int(status))
    if reason is not None:
        step.set(SPAN_REASON, reason)
    if int(status) >= 500:
        step.fail(status)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every answer, as signal ``on_response_prepare``.

    Nothing is stored or referred (SIA-54).
    """
    headers = response.headers
    headers["Server"] = "smart-imaging-sidecar"
    if (request_id := request.get(REQUEST_ID)) is not None:
        headers["X-Request-Id"] = request_id
    headers.setdefault("Cache-Control", "private, no-store")
    headers.setdefault(
        "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"
    )
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Vary"] = "Accept, Accept-Encoding, Authorization, Origin"


def authorization(request: web.Request) -> Sequence[str]:
    """Return the lines of the Authorization header."""
    return request.headers.getall(hdrs.AUTHORIZATION, ())


async def hold_place(
    request: web.Request, place: contextlib.AbstractAsyncContextManager[object]
) -> None:
    """Enter ``place``, and leave it when the answer to ``request`` is sent.

    Raises what entering raises.
    """
    if _PLACES not in request:
        request[_PLACES] = contextlib.AsyncExitStack()
    await request[_PLACES].enter_async_context(place)


@web.middleware
async def give_places_back(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Leave the places of each request when its answer is sent."""
    try:
        response = await handler(request)
        if _PLACES in request:
            length = response.content_length or 0
            await send_whole(
                request, response, seconds=ANSWER_SECONDS + length / LEAST_BYTES_PER_SECOND
            )
        return response
    finally:
        if _PLACES in request:
            await request[_PLACES].aclose()

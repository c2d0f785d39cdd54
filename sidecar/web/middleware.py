"""Give each request an id and a record, time it, answer its errors, and log it.

The places that a request holds are held until its answer is sent: until then it is in memory.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from sidecar.audit.record import AccessRecord
from sidecar.audit.trail import AuditTrail
from sidecar.authorization.decision_log import Denied
from sidecar.common.errors import Problem
from sidecar.common.spans import REASON as SPAN_REASON
from sidecar.common.spans import STATUS, Span, Tracing, span
from sidecar.telemetry.logs import log_request
from sidecar.telemetry.metrics import Metrics
from sidecar.web import errors
from sidecar.web.forwarded import ForwardedClients
from sidecar.web.target import Target, authority_of, parse_target
from sidecar.web.transfer_timeout import LEAST_BYTES_PER_SECOND, send_whole

log = logging.getLogger("sidecar.request")

TARGET: web.RequestKey[Target] = web.RequestKey("target", Target)
RECORD: web.RequestKey[AccessRecord] = web.RequestKey("record", AccessRecord)

_CLIENT_GONE = "499"
"""Status in logs and metrics, as in nginx's, when the client left before the answer's end."""

ANSWER_SECONDS = 60
"""Time in seconds for sending an answer, beside its length at ``LEAST_BYTES_PER_SECOND``."""

_PLACES: web.RequestKey[list[contextlib.AsyncExitStack]] = web.RequestKey("places", list)
"""What holds the places of a request, if it holds any."""


_HEADERS = CIMultiDict(
    {
        "Server": "smart-imaging-sidecar",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept, Accept-Encoding, Authorization, Origin",
    }
)


def observe_requests(
    metrics: Metrics,
    audit: AuditTrail,
    is_draining: Callable[[], bool],
    tracing: Tracing,
    public_url: str,
    clients: ForwardedClients | None,
    options: Callable[[Handler, web.Request], Awaitable[web.StreamResponse]],
) -> Middleware:
    """Return the middleware that observes requests.

    ``is_draining()``: whether the server is ending. ``public_url``: our own, for targets in
    absolute form. ``clients`` tells whose request it is, ``None``: the peer's. ``options`` answers
    OPTIONS in place of the handler that it gets.
    """
    own = authority_of(public_url)

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        places = request[_PLACES] = []
        if request.method == hdrs.METH_OPTIONS:
            handler = partial(options, handler)
        started = time.perf_counter()
        route = request.match_info.route
        record = request[RECORD] = AccessRecord(
            os.urandom(8).hex(),
            request.remote if clients is None else clients.address(request.remote, request.headers),
            route.name or "unknown",
        )
        template = None if route.resource is None else route.resource.canonical
        traceparents = request.headers.getall("traceparent", ())
        try:
            with tracing.request(request.method, template, traceparents) as step:
                step.set("smart_imaging.request_id", record.request_id)
                status = _CLIENT_GONE
                try:
                    response = await _answer(request, record, handler, own)
                    response = _recorded(response, record, audit)
                    status = str(response.status)
                except BaseException:
                    status = _broken_off(record, audit, is_draining=is_draining())
                    raise
                finally:
                    _record(request, record, metrics, status, time.perf_counter() - started, step)
            if places:
                length = response.content_length or 0
                await send_whole(
                    request, response, seconds=ANSWER_SECONDS + length / LEAST_BYTES_PER_SECOND
                )
            return response
        finally:
            if places:
                await places[0].aclose()

    return observe


def _broken_off(record: AccessRecord, audit: AuditTrail, *, is_draining: bool) -> str:
    """Record an answer that did not reach its end, and return its status."""
    if is_draining:
        record.reason = "draining"
    status = record.broken_off or ("503" if is_draining else _CLIENT_GONE)
    record.reason = record.reason or "client_gone"
    # What had gone out is in the trail as permitted.
    with contextlib.suppress(Problem):
        audit.answered(record, int(status), late=True)
    return status


async def _answer(
    request: web.Request, record: AccessRecord, handler: Handler, own: str
) -> web.StreamResponse:
    try:
        with span("read"):
            _check_protocol(request)
            request[TARGET] = parse_target(request.raw_path, own)
        return await handler(request)
    except Denied as denied:
        record.reason = denied.reason.value
        return errors.denial(denied.reason, denied.series)
    except Problem as problem:
        record.reason = problem.reason
        return errors.problem(problem)
    except web.HTTPException as error:
        record.reason = "http"
        return errors.http_error(error)
    except (ConnectionResetError, asyncio.CancelledError):
        raise  # The client left.
    except Exception:
        record.reason = "internal_error"
        log.exception("internal error", extra={"request_id": record.request_id})
        return errors.internal_error()


def _recorded(
    response: web.StreamResponse, record: AccessRecord, audit: AuditTrail
) -> web.StreamResponse:
    """Record the answer before it leaves; what cannot be recorded does not leave (SIA-60)."""
    try:
        with span("record"):
            audit.answered(record, response.status, late=response.prepared)
    except Problem as problem:
        if not response.prepared:
            record.reason = problem.reason
            return errors.problem(problem)
    return response


def _check_protocol(request: web.Request) -> None:
    """Refuse what is not plain HTTP/1: nothing is guessed, nothing is unpacked."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise web.HTTPVersionNotSupported
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType


def _record(
    request: web.Request,
    record: AccessRecord,
    metrics: Metrics,
    status: str,
    seconds: float,
    step: Span,
) -> None:
    """Count and log an answered request; ``step`` is its span."""
    method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
    metrics.observe_request(record.route, method, status, seconds)
    fields = {
        "request_id": record.request_id,
        "route": record.route,
        "method": method,
        "status": int(status),
        "seconds": round(seconds, 4),
        "durations": {name: round(spent, 4) for name, spent in (step.durations or {}).items()},
    }
    if record.reason is not None:
        fields["reason"] = record.reason
    if step.is_sampled:
        _end_span(step, status, record.reason)
    log_request(logging.WARNING if int(status) >= 500 else logging.INFO, fields)


def _end_span(step: Span, status: str, reason: str | None) -> None:
    """Write the outcome of the request into its span.

    A refusal is no error of ours (OpenTelemetry's conventions for HTTP servers).
    """
    step.set(STATUS, int(status))
    if reason is not None:
        step.set(SPAN_REASON, reason)
    if int(status) >= 500:
        step.fail(status)


async def add_headers(
    add_cors_headers: Callable[[web.Request, web.StreamResponse], Awaitable[object]],
    request: web.Request,
    response: web.StreamResponse,
) -> None:
    """Set the headers of every answer. Nothing is stored or referred (SIA-54)."""
    # The CORS library looks for an origin last, after the settings of the route.
    if hdrs.ORIGIN in request.headers:
        await add_cors_headers(request, response)
    headers = response.headers
    headers.update(_HEADERS)
    headers["X-Request-Id"] = request[RECORD].request_id
    headers.setdefault("Cache-Control", "private, no-store")
    headers.setdefault(
        "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"
    )


def authorization(request: web.Request) -> Sequence[str]:
    """Return the lines of the Authorization header."""
    return request.headers.getall(hdrs.AUTHORIZATION, ())


async def hold_place(
    request: web.Request, place: contextlib.AbstractAsyncContextManager[object]
) -> None:
    """Enter ``place``, and leave it when the answer to ``request`` is sent.

    Raises what entering raises.
    """
    places = request[_PLACES]
    if not places:
        places.append(contextlib.AsyncExitStack())
    await places[0].enter_async_context(place)

"""Route the public paths (docs/api.md), with CORS on all of them."""

from collections.abc import Callable, Sequence
from functools import partial

import aiohttp_cors
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from sidecar.audit.trail import AuditTrail
from sidecar.authorization.capability_urls import PREFIX
from sidecar.common.errors import NotFound
from sidecar.common.spans import Tracing
from sidecar.fhir import frames
from sidecar.telemetry.metrics import Metrics
from sidecar.web.connection import BASE_PATH, CORS
from sidecar.web.dicomweb_handlers import DicomWeb
from sidecar.web.errors import json_response
from sidecar.web.fhir_documents import FhirDocuments
from sidecar.web.fhir_handlers import ImagingFhir
from sidecar.web.forwarded import ForwardedClients
from sidecar.web.middleware import add_headers, observe_requests
from sidecar.web.target import base_path_of

REQUEST_BODY_BYTES = 65_536
"""Limit in bytes of the body of a POST search; nothing else has a body."""

_EXPOSED = (
    "Accept-Ranges",
    "Content-Length",
    "Content-Location",
    "Content-Range",
    "ETag",
    "Retry-After",
    "Warning",
    "WWW-Authenticate",
    "X-Request-Id",
)


def create_public(
    fhir: ImagingFhir,
    documents: FhirDocuments,
    dicomweb: DicomWeb,
    metrics: Metrics,
    audit: AuditTrail,
    *,
    cors_origins: Sequence[str],
    public_url: str,
    forwarded_allow_ips: Sequence[str],
    wado_uri: bool,
    capabilities: bool,
    is_draining: Callable[[], bool],
    tracing: Tracing,
    customize: Callable[[web.Application], None] | None,
) -> web.Application:
    """Return the public application.

    ``wado_uri`` adds that route (PS3.18 chapter 9), ``capabilities`` those of SIA-50.
    ``public_url``: our own, whose path a request may have in front. ``forwarded_allow_ips``:
    networks of trusted proxies. ``customize`` may add routes, such as ``GET /`` (the demo's page).
    """
    app = web.Application(
        middlewares=[
            observe_requests(
                metrics,
                audit,
                is_draining,
                tracing,
                public_url,
                ForwardedClients(forwarded_allow_ips) if forwarded_allow_ips else None,
                _options,
            )
        ],
        client_max_size=REQUEST_BODY_BYTES,
    )
    # No credentials: we use no cookies, and a page's script must show its token itself.
    origin = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=False,
        expose_headers=_EXPOSED,
        allow_headers="*",
        allow_methods="*",
        max_age=600,
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(cors_origins, origin))
    add_cors_headers = app.on_response_prepare.pop()
    app.on_response_prepare.append(partial(add_headers, add_cors_headers))

    def add(name: str, path: str, handler: Handler, *methods: str) -> None:
        resource = cors.add(app.router.add_resource(path, name=name))
        for method in methods or (hdrs.METH_GET, hdrs.METH_HEAD):
            cors.add(resource.add_route(method, handler))

    configuration = "/fhir/.well-known/smart-configuration"
    add("metadata", "/fhir/metadata", documents.metadata)
    add("smart-configuration", configuration, documents.smart_configuration)
    add("versions", "/fhir/$versions", documents.versions)
    extension = f"/fhir/StructureDefinition/{frames.ID}"
    add("structure-definition", extension, documents.structure_definition)
    add("imaging-study-search", "/fhir/ImagingStudy", fhir.search)
    by_either = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST)
    add("imaging-study-search-post", "/fhir/ImagingStudy/_search", fhir.search, *by_either)
    add("imaging-study-read", "/fhir/ImagingStudy/{id}", fhir.read)
    add("endpoint-read", "/fhir/Endpoint/{id}", fhir.read_endpoint)
    of_patient = "/fhir/Patient/{patient}"
    compartment = of_patient + "/ImagingStudy"
    add("imaging-study-compartment", compartment, fhir.search_compartment)
    posted = compartment + "/_search"
    add("imaging-study-compartment-post", posted, fhir.search_compartment, *by_either)
    add("patient-wado-rs", of_patient + "/$wado-rs/{tail:.+}", dicomweb.below_patient)
    add("wado-rs", "/wado-rs/{tail:.+}", dicomweb.below_token)
    if wado_uri:
        add("wado-uri", "/wado-uri", dicomweb.wado_uri)
    if capabilities:
        add("capability", f"/{PREFIX}/{{sealed}}/{{tail:.+}}", dicomweb.below_capability)
    if customize is not None:
        customize(app)
    else:
        add("root", "/", partial(_pointer, public_url))
    add("unknown", "/{tail:.*}", _unknown, hdrs.METH_ANY)
    app[BASE_PATH] = base_path_of(public_url)
    app[CORS] = lambda origin: _cors_headers(cors_origins, origin)
    return app


def _cors_headers(origins: Sequence[str], origin: str | None) -> dict[str, str]:
    """Return the CORS headers of an answer that no route makes."""
    if "*" in origins:
        allowed = "*"
    elif origin is None and len(origins) == 1:
        allowed = origins[0]
    elif origin is not None and origin in origins:
        allowed = origin
    else:
        return {}
    return {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: allowed,
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: ",".join(_EXPOSED),
    }


async def _options(handler: Handler, request: web.Request) -> web.StreamResponse:
    """Say which methods a resource has, for OPTIONS that is no preflight (RFC 9110 9.3.7)."""
    headers, resource = request.headers, request.match_info.route.resource
    is_preflight = hdrs.ORIGIN in headers and hdrs.ACCESS_CONTROL_REQUEST_METHOD in headers
    if is_preflight or resource is None:
        return await handler(request)
    methods = {route.method for route in resource}
    if hdrs.METH_ANY in methods:
        return await _unknown(request)
    answered = dict(request.app[CORS](headers.get(hdrs.ORIGIN)))
    answered[hdrs.ALLOW] = ", ".join(sorted(methods))
    return web.Response(status=204, headers=answered)


async def _pointer(public_url: str, request: web.Request) -> web.Response:
    """Answer ``GET /``: where the FHIR base is."""
    body = {
        "name": "SMART Imaging Access sidecar",
        "fhir": f"{public_url}/fhir",
        "capabilities": f"{public_url}/fhir/metadata",
    }
    return json_response(body, content_type="application/json")


async def _unknown(request: web.Request) -> web.StreamResponse:
    """Raise 404, or 405 when the path is one of ours and the method is wrong."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        match, methods = await resource.resolve(request)
        if match is None or match.route.resource is not request.match_info.route.resource:
            allowed |= methods
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))
    raise NotFound("There is no such resource.", reason="unknown_path")

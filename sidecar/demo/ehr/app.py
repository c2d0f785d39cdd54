"""The demo's EHR: a SMART App Launch authorization server and a FHIR server, in memory.

It has what an app and the sidecar need of a hospital's EHR. Anyone may log in as any of its
invented patients. All tokens end with the process.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp_cors
from aiohttp import web
from yarl import URL

from sidecar.demo.ehr import clients as ehr_clients
from sidecar.demo.ehr import scopes as ehr_scopes
from sidecar.demo.ehr.authorize import AuthorizationEndpoint
from sidecar.demo.ehr.clients import AssertionClient, RegisteredSecretClient
from sidecar.demo.ehr.fhir import OTHER_TYPES, FhirServer
from sidecar.demo.ehr.form import json_answer
from sidecar.demo.ehr.id_tokens import IdTokens
from sidecar.demo.ehr.logout import Logout
from sidecar.demo.ehr.token_endpoint import IntrospectionEndpoint, TokenEndpoint
from sidecar.demo.ehr.tokens import TokenStore
from sidecar.fhir.capability_statement import APP_LAUNCH

STORE: web.AppKey[TokenStore] = web.AppKey("token-store", TokenStore)
"""Key of the store, from which tests and the demo issue and revoke tokens without a browser."""

REQUEST_BODY_BYTES = 65_536

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_ehr(
    *,
    base_url: str,
    imaging_fhir_url: str,
    introspection_client_id: str,
    introspection_client_secret: str,
    backend_client_id: str,
    backend_public_jwks: Mapping[str, Any],
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """Return the EHR.

    - ``base_url``: the EHR's URL without a trailing slash; its FHIR base is ``base_url + "/fhir"``
    - ``imaging_fhir_url``: the sidecar's FHIR base, which discovery names (SIA-1); its origin has
      the demo's page
    - ``backend_public_jwks``: keys of the backend client, which may read every Patient
    - ``clock``: seconds since 1970
    """
    store = TokenStore(clock)
    fhir_url, token_url = base_url + "/fhir", base_url + "/token"
    smart = smart_configuration(base_url, imaging_fhir_url)
    authorization = AuthorizationEndpoint(
        store,
        base_url=base_url,
        audiences=(fhir_url, imaging_fhir_url),
        page_origin=str(URL(imaging_fhir_url).origin()),
        confidential_clients=(introspection_client_id, backend_client_id),
    )
    id_tokens = IdTokens(smart, fhir_url=fhir_url, clock=clock)
    logout = Logout(store, page_origin=str(URL(imaging_fhir_url).origin()))
    backend = AssertionClient(
        backend_client_id, backend_public_jwks, audience=token_url, clock=clock
    )
    secret_client = RegisteredSecretClient(introspection_client_id, introspection_client_secret)
    introspection = IntrospectionEndpoint(store, secret_client, id_tokens, issuer=base_url)
    fhir = FhirServer(store, fhir_url=fhir_url, smart=smart)

    app = web.Application(client_max_size=REQUEST_BODY_BYTES)
    app[STORE] = store
    app.router.add_get("/authorize", authorization.authorize, allow_head=False)
    app.router.add_post("/authorize", authorization.authorize)
    app.router.add_post("/authorize/consent", authorization.consent)
    app.router.add_post("/introspect", introspection.introspect)
    app.router.add_get("/logout", logout.end_session, allow_head=False)
    others = "|".join(OTHER_TYPES)
    _add_for_browsers(
        app,
        ("GET", "/fhir/.well-known/smart-configuration", _document(smart)),
        ("GET", "/.well-known/openid-configuration", _document(id_tokens.configuration)),
        ("GET", "/jwks", _document(id_tokens.jwks)),
        ("GET", "/fhir/metadata", fhir.metadata),
        ("GET", "/fhir/Patient", fhir.search),
        ("GET", f"/fhir/{{type:{others}}}", fhir.search_others),
        ("GET", f"/fhir/{{type:Patient|{others}}}/{{id}}", fhir.read),
        ("POST", "/token", TokenEndpoint(store, backend, id_tokens).token),
        ("POST", "/revoke", logout.revoke),
    )
    app.on_response_prepare.append(_add_headers)
    return app


def smart_configuration(base_url: str, imaging_fhir_url: str) -> dict[str, Any]:
    """Return the ``.well-known/smart-configuration`` (SMART App Launch 2.2; SIA-1, SIA-2)."""
    return {
        "issuer": base_url,
        "authorization_endpoint": base_url + "/authorize",
        "token_endpoint": base_url + "/token",
        "introspection_endpoint": base_url + "/introspect",
        "revocation_endpoint": base_url + "/revoke",
        "end_session_endpoint": base_url + "/logout",
        "jwks_uri": base_url + "/jwks",
        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ehr_clients.ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
        ],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": list(ehr_scopes.SUPPORTED),
        "capabilities": [
            "launch-standalone",
            "authorize-post",
            "client-public",
            "client-confidential-asymmetric",
            "sso-openid-connect",
            "context-standalone-patient",
            "permission-patient",
            "permission-offline",
            "permission-online",
            "permission-v1",
            "permission-v2",
        ],
        "associated_endpoints": [
            {"url": imaging_fhir_url, "capabilities": ["smart-imaging-access", APP_LAUNCH]}
        ],
    }


def _document(body: dict[str, Any]) -> _Handler:
    """Return a handler that answers with a document, which needs no token."""

    async def answer(request: web.Request) -> web.Response:
        return json_answer(body)

    return answer


def _add_for_browsers(app: web.Application, *routes: tuple[str, str, _Handler]) -> None:
    """Add the routes that an app's page calls from another origin: CORS for any, no cookies."""
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=False,
        expose_headers=("WWW-Authenticate",),
        allow_headers="*",
        allow_methods="*",
        max_age=600,
    )
    cors = aiohttp_cors.setup(app, defaults={"*": options})
    for method, path, handler in routes:
        resource = cors.add(app.router.add_resource(path))
        cors.add(resource.add_route(method, handler))


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add headers against storing, framing and referrers (signal ``on_response_prepare``)."""
    headers = response.headers
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "sidecar-demo-ehr"

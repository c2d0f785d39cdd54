"""The demo EHR's authorization endpoint (SMART App Launch 2.2 "Standalone Launch").

RFC 6749 4.1, RFC 7636, RFC 9700. A browser is redirected only to this machine or the demo's own
page.
"""

import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web
from cachetools import TTLCache
from yarl import URL

from sidecar.demo.ehr import scopes as ehr_scopes
from sidecar.demo.ehr.consent import consent_page, error_page
from sidecar.demo.ehr.form import OAuthError, parse_fields, read_form, single
from sidecar.demo.ehr.tokens import Authorization, Login, TokenStore
from sidecar.demo.people import PATIENTS

CONSENT_SECONDS = 600
"""Time in which the consent page can be answered."""
MAXIMUM_PENDING = 10_000
MAXIMUM_REDIRECT_URI = 2_048
"""Limit in characters."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", re.ASCII)
_REDIRECT_URI = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)"
    r"(?:[/?][A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*)?",
    re.ASCII,
)
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
_CODE_CHALLENGE = re.compile(r"[A-Za-z0-9\-_]{43}", re.ASCII)
_STATE = re.compile(r"[ -~]{1,2048}", re.ASCII)
_SCOPES = re.compile(r"[!-~]+(?: +[!-~]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Client:
    """Checked client of a request, with the ``redirect_uri`` for the answer."""

    client_id: str
    redirect_uri: str
    origin: str

    def redirect(self, parameters: Mapping[str, str]) -> web.Response:
        """Answer with a redirect (303: a form's fields are never sent on, RFC 9700 4.12)."""
        separator = "&" if "?" in self.redirect_uri else "?"
        return web.Response(
            status=303, headers={"Location": self.redirect_uri + separator + urlencode(parameters)}
        )


@dataclass(frozen=True, slots=True)
class _Pending:
    """Checked request that waits for a person's consent. The form can only name it."""

    client: _Client
    state: str
    code_challenge: str
    scopes: Mapping[str, str]
    nonce: str | None
    browser: str


def redirect_origin(redirect_uri: str, page_origin: str) -> str | None:
    """Return the origin of a ``redirect_uri`` that may be used, ``None`` for any other.

    It may be loopback by plain http (RFC 8252 7.3) or ``page_origin``. It has no user, fragment,
    backslash, space or control character, which parsers could read in different ways.
    """
    match = (
        _REDIRECT_URI.fullmatch(redirect_uri) if len(redirect_uri) <= MAXIMUM_REDIRECT_URI else None
    )
    if match is None:
        return None
    origin = match["origin"].lower()
    is_loopback = match["scheme"] == "http" and match["host"].lower() in _LOOPBACK
    return origin if is_loopback or origin == page_origin else None


class AuthorizationEndpoint:
    """Authorization endpoint: it checks a request, shows the consent page and issues a code.

    - ``audiences``: FHIR bases that ``aud`` may name
    - ``page_origin``: where a ``redirect_uri`` may lead beside loopback
    - ``confidential_clients``: ids of the clients with credentials, which are refused here
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        base_url: str,
        audiences: Sequence[str],
        page_origin: str,
        confidential_clients: Sequence[str],
    ) -> None:
        self._store = store
        self._origin = str(URL(base_url).origin())
        self._audiences = frozenset(audiences)
        self._page_origin = page_origin
        self._confidential_clients = frozenset(confidential_clients)
        self._pending: TTLCache[str, _Pending] = TTLCache(
            MAXIMUM_PENDING, ttl=CONSENT_SECONDS, timer=store.clock
        )

    async def authorize(self, request: web.Request) -> web.Response:
        """Answer an authorization request: consent page, error redirect, or error page."""
        try:
            if request.method == "POST":
                fields = single(await read_form(request))
            else:
                fields = single(parse_fields(request.rel_url.raw_query_string))
            client = self._client(fields)
        except OAuthError as error:
            return error_page(error.description, status=error.status)
        try:
            return self._request_consent(client, fields)
        except OAuthError as error:
            answer = {"error": error.code, "error_description": error.description}
            # A malformed state is not repeated.
            state = fields.get("state", "")
            return client.redirect(answer | ({"state": state} if _STATE.fullmatch(state) else {}))

    def _client(self, fields: Mapping[str, str]) -> _Client:
        client_id, redirect_uri = fields.get("client_id", ""), fields.get("redirect_uri", "")
        if not _CLIENT_ID.fullmatch(client_id) or client_id in self._confidential_clients:
            raise OAuthError(
                "invalid_request", "The client_id is missing, or is none that an app may have here."
            )
        origin = redirect_origin(redirect_uri, self._page_origin)
        if origin is None:
            raise OAuthError(
                "invalid_request",
                "The redirect_uri is missing, or leads elsewhere than to this machine "
                "(http://127.0.0.1, http://localhost) or the demo's own page.",
            )
        return _Client(client_id, redirect_uri, origin)

    def _request_consent(self, client: _Client, fields: Mapping[str, str]) -> web.Response:
        if fields.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "The response_type must be code.")
        if not _STATE.fullmatch(fields.get("state", "")):
            raise OAuthError("invalid_request", "The state is missing, or is not plain ASCII.")
        if not _STATE.fullmatch(fields.get("nonce", "-")):
            raise OAuthError("invalid_request", "The nonce is not plain ASCII.")
        if "none" in fields.get("prompt", "").split():
            # OpenID Connect Core 3.1.2.6: nobody stays logged in here.
            raise OAuthError("login_required", "Somebody has to answer the page.")
        if fields.get("aud", "").removesuffix("/") not in self._audiences:
            raise OAuthError(
                "invalid_request", "The aud must be the FHIR base URL for which the token is meant."
            )
        # Without a method the challenge would be "plain" (RFC 7636 4.3), which SMART forbids.
        if fields.get("code_challenge_method") != "S256":
            raise OAuthError(
                "invalid_request", "PKCE is needed: code_challenge_method must be S256."
            )
        if not _CODE_CHALLENGE.fullmatch(fields.get("code_challenge", "")):
            raise OAuthError(
                "invalid_request",
                "PKCE is needed: the code_challenge must be 43 base64url characters.",
            )
        if not _SCOPES.fullmatch(fields.get("scope", "")):
            raise OAuthError("invalid_scope", "The scope is missing or malformed.")
        meanings = {scope: ehr_scopes.describe(scope) for scope in fields["scope"].split()}
        scopes = {scope: meaning for scope, meaning in meanings.items() if meaning is not None}
        if not scopes:
            raise OAuthError("invalid_scope", "None of these scopes can be had here.")
        pending = _Pending(
            client,
            fields["state"],
            fields["code_challenge"],
            scopes,
            fields.get("nonce"),
            browser=secrets.token_urlsafe(32),
        )
        return self._page(
            pending, left_out=[scope for scope, meaning in meanings.items() if meaning is None]
        )

    def _page(self, pending: _Pending, left_out: Sequence[str]) -> web.Response:
        transaction = secrets.token_urlsafe(16)
        self._pending[transaction] = pending
        page = consent_page(
            client_id=pending.client.client_id,
            return_to=pending.client.origin,
            transaction=transaction,
            patients=PATIENTS,
            scopes=pending.scopes,
            left_out=left_out,
        )
        # Only the browser that got the page has this cookie. A form elsewhere can name the
        # transaction, but lacks the cookie.
        page.set_cookie(
            _cookie(transaction),
            pending.browser,
            max_age=CONSENT_SECONDS,
            path="/authorize",
            httponly=True,
            samesite="Strict",
            secure=self._origin.startswith("https:"),
        )
        return page

    async def consent(self, request: web.Request) -> web.Response:
        """Redirect the form's ``POST`` to the app, with a code or ``access_denied``."""
        try:
            fields = await read_form(request)
            allowed = [value for name, value in fields if name == "scope"]
            form = single([field for field in fields if field[0] != "scope"])
            transaction = form.get("transaction", "")
            pending = self._take_pending(request, transaction)
            answer = self._decide(pending, form, allowed)
        except OAuthError as error:
            return error_page(error.description, status=error.status)
        answer.del_cookie(_cookie(transaction), path="/authorize")
        return answer

    def _take_pending(self, request: web.Request, transaction: str) -> _Pending:
        """Remove and return the request that the form answers. Raises ``OAuthError``."""
        # Browsers send the origin of each form. Other clients send neither header.
        origin = request.headers.get("Origin", self._origin)
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if (origin, site) != (self._origin, "same-origin"):
            raise OAuthError("invalid_request", "The form was sent from another site.", status=403)
        pending = self._pending.get(transaction)
        if pending is None:
            raise OAuthError(
                "invalid_request", "This question was answered before, or has expired."
            )
        browser = request.cookies.get(_cookie(transaction), "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(browser, pending.browser.encode()):
            raise OAuthError(
                "invalid_request",
                "The form was sent from another browser, or cookies are off.",
                status=403,
            )
        del self._pending[transaction]
        return pending

    def _decide(
        self, pending: _Pending, form: Mapping[str, str], allowed: Sequence[str]
    ) -> web.Response:
        if form.get("decision") not in ("allow", "deny"):
            raise OAuthError("invalid_request", "The form says neither allow nor deny.")
        if form["decision"] == "deny" or not allowed:
            return pending.client.redirect(
                {
                    "error": "access_denied",
                    "error_description": "The person said no.",
                    "state": pending.state,
                }
            )
        if form.get("patient") not in {patient.id for patient in PATIENTS}:
            raise OAuthError("invalid_request", "There is no such patient.")
        if not set(allowed) <= pending.scopes.keys():
            raise OAuthError(
                "invalid_request", "The form allows a scope that the app did not ask for."
            )
        granted = [scope for scope in pending.scopes if scope in allowed]
        code = self._store.issue_code(
            Authorization(
                pending.client.client_id,
                # Without launch/patient there is no patient context, and patient scopes permit
                # nothing (SIA-14).
                form["patient"] if ehr_scopes.CONTEXT in granted else None,
                " ".join(granted),
                Login(form["patient"], int(self._store.clock()), pending.nonce),
            ),
            redirect_uri=pending.client.redirect_uri,
            code_challenge=pending.code_challenge,
        )
        return pending.client.redirect({"code": code, "state": pending.state})


def _cookie(transaction: str) -> str:
    return f"consent-{transaction}"

"""The demo EHR's token and introspection endpoints (RFC 6749, RFC 7662, SMART App Launch 2.2)."""

from typing import Any

from aiohttp import web

from sidecar.demo.ehr import scopes as ehr_scopes
from sidecar.demo.ehr.clients import AssertionClient, RegisteredSecretClient
from sidecar.demo.ehr.form import OAuthError, error_answer, json_answer, read_form, require, single
from sidecar.demo.ehr.id_tokens import IdTokens
from sidecar.demo.ehr.tokens import ACCESS_TOKEN_SECONDS, Authorization, InvalidGrant, TokenStore

BACKEND_TOKEN_SECONDS = 300
"""SMART Backend Services: an access token SHOULD live at most five minutes."""


class TokenEndpoint:
    """Issuer of access tokens for codes, refresh tokens, and the backend client's assertions.

    With a code that has the scope ``openid`` an ID token comes, too.
    """

    def __init__(self, store: TokenStore, backend: AssertionClient, id_tokens: IdTokens) -> None:
        self._store = store
        self._backend = backend
        self._id_tokens = id_tokens

    async def token(self, request: web.Request) -> web.Response:
        """Answer the ``POST`` of a token request."""
        try:
            form = single(await read_form(request))
            grant_type = require(form, "grant_type")
            if grant_type == "client_credentials":
                return json_answer(self._client_credentials(request, form))
            if grant_type not in ("authorization_code", "refresh_token"):
                raise OAuthError("unsupported_grant_type", "There is no such grant_type here.")
            refuse_credentials(request, form)
            if grant_type == "authorization_code":
                return json_answer(self._authorization_code(form))
            return json_answer(self._refresh_token(form))
        except OAuthError as error:
            return error_answer(error)
        except InvalidGrant as error:
            return error_answer(OAuthError("invalid_grant", str(error)))

    def _client_credentials(self, request: web.Request, form: dict[str, str]) -> dict[str, Any]:
        self._backend.authenticate(request.headers.getall("Authorization", []), form)
        scopes = form.get("scope", "").split()
        if not scopes or not set(scopes) <= ehr_scopes.BACKEND:
            raise OAuthError(
                "invalid_scope",
                "The scope must be system/Patient.r, system/Patient.rs, or the v1 form.",
            )
        authorization = Authorization(
            self._backend.client_id, None, " ".join(dict.fromkeys(scopes))
        )
        token = self._store.issue_for(authorization, lifetime_seconds=BACKEND_TOKEN_SECONDS)
        return _bearer(token, authorization.scope, BACKEND_TOKEN_SECONDS)

    def _authorization_code(self, form: dict[str, str]) -> dict[str, Any]:
        authorization = self._store.spend_code(
            require(form, "code"),
            client_id=require(form, "client_id"),
            redirect_uri=require(form, "redirect_uri"),
            code_verifier=require(form, "code_verifier"),
        )
        id_token = self._id_tokens.id_token(authorization)
        answer = self._answer(authorization, authorization.scope)
        return answer | ({} if id_token is None else {"id_token": id_token})

    def _refresh_token(self, form: dict[str, str]) -> dict[str, Any]:
        scope = form.get("scope")
        try:
            authorization = self._store.spend_refresh_token(
                require(form, "refresh_token"), client_id=require(form, "client_id"), scope=scope
            )
        except ValueError:
            raise OAuthError("invalid_scope", "The scope is more than was allowed.") from None
        return self._answer(authorization, " ".join((scope or authorization.scope).split()))

    def _answer(self, authorization: Authorization, scope: str) -> dict[str, Any]:
        answer = _bearer(
            self._store.issue_for(authorization, scope=scope), scope, ACCESS_TOKEN_SECONDS
        )
        if authorization.patient is not None:
            answer["patient"] = authorization.patient
        refresh_token = self._store.issue_refresh_token(authorization)
        if refresh_token is not None:
            answer["refresh_token"] = refresh_token
        return answer


def _bearer(token: str, scope: str, lifetime_seconds: int) -> dict[str, Any]:
    return {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": lifetime_seconds,
        "scope": scope,
    }


def refuse_credentials(request: web.Request, form: dict[str, str]) -> None:
    """Raise ``OAuthError`` (401) for a request with a client's secret or assertion."""
    # A client with a secret is not the public client to which the code was issued.
    if "Authorization" in request.headers or form.keys() & {"client_secret", "client_assertion"}:
        raise OAuthError("invalid_client", "Apps are public clients here.", status=401, basic=True)


class IntrospectionEndpoint:
    """Introspection for a single client (RFC 7662, SMART 2.2 "Token Introspection")."""

    def __init__(
        self, store: TokenStore, client: RegisteredSecretClient, id_tokens: IdTokens, *, issuer: str
    ) -> None:
        self._store = store
        self._client = client
        self._id_tokens = id_tokens
        self._issuer = issuer

    async def introspect(self, request: web.Request) -> web.Response:
        """Answer the ``POST`` of a token. A token that is no live access token is not active."""
        try:
            form = single(await read_form(request))
            self._client.authenticate(request.headers.getall("Authorization", []), form)
            token = self._store.find(require(form, "token"))
        except OAuthError as error:
            return error_answer(error)
        if token is None:
            return json_answer({"active": False})
        answer: dict[str, Any] = {
            "active": True,
            "scope": token.scope,
            "client_id": token.authorization.client_id,
            "exp": token.expires_at,
            "iat": token.issued_at,
            "iss": self._issuer,
            "token_type": "Bearer",
            **self._id_tokens.claims(token.authorization, token.scope),
        }
        if token.authorization.patient is not None:
            answer["patient"] = token.authorization.patient
        return json_answer(answer)

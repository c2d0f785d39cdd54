"""The part of the composition that is about tokens: ``Settings`` in, validation and our own credentials out."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import aiohttp

from sidecar.common.errors import BadGateway, Unavailable
from sidecar.ehr.assertion import ClientAssertion
from sidecar.ehr.client_authentication import (
    BackendServicesAuthentication,
    BearerAuthentication,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    NoAuthentication,
    PrivateKeyJwt,
    TlsClientAuth,
)
from sidecar.ehr.credentials import BackendServices, NoToken, StaticToken
from sidecar.ehr.discovery import Discovery, SmartConfiguration
from sidecar.ehr.fhir_client import Credentials
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import (
    BackendServicesClient,
    BearerClient,
    PrivateKeyClient,
    SecretClient,
    TlsClient,
)
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.claims import Claims, PatientClaim, TokenRequirements
from sidecar.tokens.introspection import Introspection
from sidecar.tokens.jwks import Jwks
from sidecar.tokens.jwt_validation import LocalThenIntrospection, LocalValidation, Validate
from sidecar.tokens.signatures import Signatures
from sidecar.tokens.signed_introspection import SignedAnswers

log = logging.getLogger(__name__)

Text = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class TokenValidation:
    """Access tokens are validated by ``cache``.

    Behind it ``jwks`` and ``introspection``, those that are in use.
    """

    cache: TokenCache
    jwks: Jwks | None
    introspection: Introspection | None


def token_validation(
    settings: Settings,
    session: aiohttp.ClientSession,
    discovery: Discovery,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> TokenValidation:
    """Return the validation of access tokens, as configured; closed with ``stack``."""
    tokens = settings.tokens
    issuer = _found(
        discovery, settings.ehr.issuer, lambda found: found.issuer, "issuer", "ehr.issuer"
    )
    jwks = Jwks(
        session,
        _found(
            discovery,
            tokens.jwt.jwks_url,
            lambda found: found.jwks_uri,
            "jwks_uri",
            "tokens.jwt.jwks_url",
        ),
        timeout_seconds=settings.ehr.timeout_seconds,
        ttl_seconds=tokens.jwt.jwks_ttl_seconds,
    )
    stack.push_async_callback(jwks.close)
    signatures = Signatures(jwks, tokens.jwt.algorithms)
    introspection = None
    if tokens.validation != "jwt":
        introspection = _introspection(settings, session, discovery, metrics, signatures, issuer)
    uses_keys = tokens.validation != "introspection" or tokens.introspection.signed
    cache = TokenCache(
        _validate(settings, metrics, signatures, issuer, introspection),
        ttl_seconds=tokens.cache.ttl_seconds,
        negative_ttl_seconds=tokens.cache.negative_ttl_seconds,
        max_entries=tokens.cache.max_entries,
        observe=metrics.observe_token_lookup,
    )
    stack.push_async_callback(cache.close)
    return TokenValidation(cache, jwks if uses_keys else None, introspection)


def _introspection(
    settings: Settings,
    session: aiohttp.ClientSession,
    discovery: Discovery,
    metrics: Metrics,
    signatures: Signatures,
    issuer: Text,
) -> Introspection:
    tokens = settings.tokens
    signed = None
    client_id = getattr(tokens.client, "client_id", None)
    if tokens.introspection.signed and client_id is not None:
        signed = SignedAnswers(
            signatures, issuer, client_id, leeway_seconds=tokens.jwt.leeway_seconds
        )
    return Introspection(
        session,
        _found(
            discovery,
            tokens.introspection.url,
            lambda found: found.introspection_endpoint,
            "introspection_endpoint",
            "tokens.introspection.url",
        ),
        _authentication(settings, session, discovery),
        timeout_seconds=settings.ehr.timeout_seconds,
        expected=replace(
            _expected(settings, leeway_seconds=0), lifetime_seconds=tokens.cache.ttl_seconds
        ),
        signed=signed,
        issuers=_issuers(settings, discovery),
        observe=metrics.observe_introspection,
    )


def _issuers(settings: Settings, discovery: Discovery) -> Callable[[], Awaitable[tuple[str, ...]]]:
    """Those that an introspection answer may name: the authorization server, or the FHIR base (SMART's ``iss``)."""

    async def found() -> tuple[str, ...]:
        try:
            named = settings.ehr.issuer or (await discovery.configuration()).issuer
        except Unavailable:
            if not discovery.is_absent:  # Else nothing names an issuer.
                raise
            named = None
        base = settings.ehr.fhir_url
        return () if named is None else (named, base, base + "/")

    return found


def _validate(
    settings: Settings,
    metrics: Metrics,
    signatures: Signatures,
    issuer: Text,
    introspection: Introspection | None,
) -> Validate:
    tokens = settings.tokens
    if tokens.validation == "introspection" and introspection is not None:
        return introspection.introspect
    local = LocalValidation(
        signatures,
        issuer,
        _expected(settings, leeway_seconds=tokens.jwt.leeway_seconds),
        token_type=tokens.jwt.type,
        observe=metrics.observe_local_validation,
    )
    if introspection is None:
        return local.validate
    return LocalThenIntrospection(local.validate, introspection.introspect).validate


def _expected(settings: Settings, *, leeway_seconds: float) -> TokenRequirements:
    named = settings.tokens.claims
    claims = Claims(
        patient=tuple(
            PatientClaim(_path(one.claim), one.form == "reference") for one in named.patient
        ),
        scope=_path(named.scope),
        client_id=_path(named.client_id),
        subject=_path(named.subject),
    )
    return TokenRequirements(
        audience=tuple(settings.tokens.audience),
        claims=claims,
        fhir_url=settings.ehr.fhir_url,
        leeway_seconds=leeway_seconds,
    )


def _path(claim: str | list[str]) -> tuple[str, ...]:
    return (claim,) if isinstance(claim, str) else tuple(claim)


def _authentication(
    settings: Settings, session: aiohttp.ClientSession, discovery: Discovery
) -> ClientAuthentication:
    client = settings.tokens.client
    if isinstance(client, SecretClient):
        method = ClientSecretBasic if client.method == "client_secret_basic" else ClientSecretPost
        return method(client.client_id, client.secret())
    if isinstance(client, PrivateKeyClient):
        key = client.private_key_file.read_text(encoding="utf-8")
        assertion = ClientAssertion(
            client.client_id, key, key_id=client.key_id, algorithm=client.algorithm
        )
        return PrivateKeyJwt(client.client_id, assertion, client.audience)
    if isinstance(client, TlsClient):
        return TlsClientAuth(client.client_id)
    if isinstance(client, BearerClient):
        return BearerAuthentication(client.secret())
    if isinstance(client, BackendServicesClient):
        own = _backend_services(client, settings, session, discovery, setting="tokens.client")
        return BackendServicesAuthentication(own)
    return NoAuthentication()


def _found(
    discovery: Discovery,
    fixed: str | None,
    pick: Callable[[SmartConfiguration], str | None],
    what: str,
    setting: str,
) -> Text:
    """What is configured, else what the EHR's smart-configuration says when it is needed."""

    async def found() -> str:
        value = fixed or pick(await discovery.configuration())
        if value is None:
            log.error(
                "the EHR's smart-configuration does not say what we need",
                extra={"what": what, "setting": setting},
            )
            raise BadGateway(
                "The hospital's authorization server is not set up for this.", reason="no_" + what
            )
        return value

    return found


def patient_credentials(
    settings: Settings, session: aiohttp.ClientSession, discovery: Discovery
) -> Credentials:
    """Return our own access for reading Patients (SIA-17)."""
    client = settings.patients.client
    if isinstance(client, BackendServicesClient):
        return _backend_services(client, settings, session, discovery, setting="patients.client")
    return StaticToken(client.secret()) if isinstance(client, BearerClient) else NoToken()


def _backend_services(
    client: BackendServicesClient,
    settings: Settings,
    session: aiohttp.ClientSession,
    discovery: Discovery,
    *,
    setting: str,
) -> BackendServices:
    return BackendServices(
        session,
        _found(
            discovery, None, lambda found: found.token_endpoint, "token_endpoint", "ehr.fhir_url"
        ),
        client_id=client.client_id,
        private_key=client.private_key_file.read_text(encoding="utf-8"),
        key_id=client.key_id,
        algorithm=client.algorithm,
        scope=client.scope,
        timeout_seconds=settings.ehr.timeout_seconds,
        setting=setting,
    )

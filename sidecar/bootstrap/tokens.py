"""Build the validation of access tokens, and our own credentials at the EHR."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sidecar.bootstrap.context import BuildContext
from sidecar.bootstrap.shared_tokens import shared_token_cache
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.ehr.client_authentication import (
    BearerAuthentication,
    ClientAuthentication,
    ClientSecretBasic,
    FormAuthentication,
)
from sidecar.ehr.credentials import BackendServices, Credentials, StaticToken
from sidecar.ehr.fhir_client import FhirClient
from sidecar.settings.document import Settings
from sidecar.settings.upstream_auth import (
    BackendServicesClient,
    BearerClient,
    PrivateKeyClient,
    SecretClient,
    TlsClient,
)
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.claims import SCOPE_PLACES, Claims, PatientClaim, TokenRequirements
from sidecar.tokens.introspection import Introspection

if TYPE_CHECKING:
    from sidecar.tokens.jwks import Jwks
    from sidecar.tokens.jwt_validation import Validate
    from sidecar.tokens.signatures import Signatures

log = logging.getLogger(__name__)

Text = Callable[[], Awaitable[str]]
Member = Literal["introspection_endpoint", "issuer", "jwks_uri", "token_endpoint"]


@dataclass(frozen=True, slots=True)
class TokenValidation:
    """What validates access tokens: ``cache``, and what it asks.

    ``jwks`` and ``introspection`` are ``None`` where they are not in use.
    """

    cache: TokenCache
    jwks: "Jwks | None"
    introspection: Introspection | None


def token_validation(context: BuildContext) -> TokenValidation:
    """Return the validation that ``tokens`` configures."""
    settings, metrics = context.settings, context.metrics
    tokens = settings.tokens
    issuer = _configured_or_discovered(context, settings.ehr.issuer, "issuer", "ehr.issuer")
    jwks = signatures = introspection = None
    if tokens.validation != "introspection" or tokens.introspection.signed:
        jwks, signatures = _signatures(context)
    validate: Validate
    if tokens.validation != "jwt":
        introspection = _introspection(context, signatures, issuer)
        validate = introspection.introspect
    if signatures is not None and tokens.validation != "introspection":
        from sidecar.tokens.jwt_validation import (  # noqa: PLC0415 - 9 MB, as below
            LocalThenIntrospection,
            LocalValidation,
        )

        validate = LocalValidation(
            signatures,
            issuer,
            _requirements(settings, leeway_seconds=settings.limits.clock_skew_seconds),
            token_type=tokens.jwt.type,
            observe=metrics.observe_local_validation,
        ).validate
        if introspection is not None:
            validate = LocalThenIntrospection(validate, introspection.introspect).validate
    shared = shared_token_cache(settings, metrics.observe_shared_token_cache)
    if shared is not None:
        context.closing(shared)
    cache = TokenCache(
        validate,
        ttl_seconds=tokens.cache.ttl_seconds,
        max_entries=settings.limits.cached_tokens,
        shared=shared,
        observe=metrics.observe_token_lookup,
    )
    return TokenValidation(context.closing(cache), jwks, introspection)


def _signatures(context: BuildContext) -> "tuple[Jwks, Signatures]":
    """Return what verifies signatures, and the keys that it uses."""
    from sidecar.tokens.jwks import Jwks  # noqa: PLC0415
    from sidecar.tokens.signatures import Signatures  # noqa: PLC0415

    tokens, limits = context.settings.tokens, context.settings.limits
    url = _configured_or_discovered(context, tokens.jwt.jwks_url, "jwks_uri", "tokens.jwt.jwks_url")
    jwks = Jwks(context.ehr_session, url, timeout_seconds=limits.ehr_timeout_seconds)
    return context.closing(jwks), Signatures(jwks, tokens.jwt.algorithms)


def _introspection(
    context: BuildContext, signatures: "Signatures | None", issuer: Text
) -> Introspection:
    settings, tokens = context.settings, context.settings.tokens
    signed = None
    client_id = getattr(tokens.client, "client_id", None)
    if tokens.introspection.signed and signatures is not None and client_id is not None:
        from sidecar.tokens.signed_introspection import SignedAnswers  # noqa: PLC0415

        signed = SignedAnswers(
            signatures, issuer, client_id, leeway_seconds=settings.limits.clock_skew_seconds
        )
    return Introspection(
        context.ehr_session,
        _configured_or_discovered(
            context,
            tokens.introspection.url,
            "introspection_endpoint",
            "tokens.introspection.url",
        ),
        _authentication(context),
        timeout_seconds=settings.limits.ehr_timeout_seconds,
        expected=_requirements(settings, lifetime_seconds=tokens.cache.ttl_seconds),
        signed=signed,
        issuers=_issuers(context),
        observe=context.metrics.observe_introspection,
    )


def _issuers(context: BuildContext) -> Callable[[], Awaitable[tuple[str, ...]]]:
    """Return the issuers that an introspection response may name.

    They are the authorization server, and the FHIR base URL (SMART's ``iss``). None are known
    where nothing names the authorization server.
    """

    async def issuers() -> tuple[str, ...]:
        try:
            issuer = context.settings.ehr.issuer or (await context.discovery.configuration()).issuer
        except Unavailable:
            if not context.discovery.is_absent:
                raise
            issuer = None
        base = context.settings.ehr.fhir_url
        return () if issuer is None else (issuer, base, base + "/")

    return issuers


def _requirements(
    settings: Settings, *, leeway_seconds: float = 0, lifetime_seconds: float | None = None
) -> TokenRequirements:
    names = settings.tokens.claims
    claims = Claims(
        patient=tuple(
            PatientClaim(_path(patient.claim), patient.form == "reference")
            for patient in names.patient
        ),
        scope=SCOPE_PLACES if names.scope is None else (_path(names.scope),),
        scope_resources=names.scope_resources,
        client_id=_path(names.client_id),
        subject=_path(names.subject),
    )
    return TokenRequirements(
        audience=settings.tokens.audience,
        claims=claims,
        fhir_url=settings.ehr.fhir_url,
        leeway_seconds=leeway_seconds,
        lifetime_seconds=lifetime_seconds,
    )


def _path(claim: str | tuple[str, ...]) -> tuple[str, ...]:
    return (claim,) if isinstance(claim, str) else claim


def _authentication(context: BuildContext) -> ClientAuthentication:
    client = context.settings.tokens.client
    if isinstance(client, SecretClient):
        if client.method == "client_secret_basic":
            return ClientSecretBasic(client.client_id, client.secret())
        return FormAuthentication(client.client_id, client.secret())
    if isinstance(client, PrivateKeyClient):
        from sidecar.ehr.assertion import ClientAssertion  # noqa: PLC0415

        key = client.private_key_file.read_text(encoding="utf-8")
        assertion = ClientAssertion(
            client.client_id, key, key_id=client.key_id, algorithm=client.algorithm
        )
        return FormAuthentication(client.client_id, None, assertion, client.audience)
    if isinstance(client, TlsClient):
        return FormAuthentication(client.client_id)
    return BearerAuthentication(_credentials(context, client, "tokens.client"))


def _configured_or_discovered(
    context: BuildContext, configured: str | None, member: Member, setting: str
) -> Text:
    """Return a call for what is configured, else for the member of the smart-configuration.

    The call raises ``BadGateway`` when the EHR does not have it.
    """

    async def value() -> str:
        if configured is not None:
            return configured
        discovered: str | None = getattr(await context.discovery.configuration(), member)
        if discovered is None:
            log.error(
                "the EHR's smart-configuration does not say what we need",
                extra={"what": member, "setting": setting},
            )
            raise BadGateway(
                "The hospital's authorization server is not set up for this.", reason="no_" + member
            )
        return discovered

    return value


def ehr_client(context: BuildContext) -> FhirClient:
    """Return the client for the EHR's Patients and Groups."""
    settings = context.settings
    own = _credentials(context, settings.patients.client, "patients.client")
    return FhirClient(
        context.ehr_session, settings.ehr.fhir_url, own, settings.limits.ehr_timeout_seconds
    )


def _credentials(context: BuildContext, client: object, setting: str) -> Credentials:
    """Return our own credentials at the EHR (SIA-17), by the ``client`` of this ``setting``."""
    if isinstance(client, BackendServicesClient):
        return _backend_services(context, client, setting)
    return StaticToken(client.secret() if isinstance(client, BearerClient) else None)


def _backend_services(
    context: BuildContext, client: BackendServicesClient, setting: str
) -> BackendServices:
    return BackendServices(
        context.ehr_session,
        _configured_or_discovered(context, None, "token_endpoint", "ehr.fhir_url"),
        client_id=client.client_id,
        private_key=client.private_key_file.read_text(encoding="utf-8"),
        key_id=client.key_id,
        algorithm=client.algorithm,
        scope=client.scope,
        timeout_seconds=context.settings.limits.ehr_timeout_seconds,
        setting=setting,
    )

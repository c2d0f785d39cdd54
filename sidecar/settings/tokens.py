"""The settings of the validation of access tokens (``tokens``)."""

from typing import Annotated, Literal

from sidecar.settings.section import Section
from sidecar.settings.shared_cache import SharedCacheSettings
from sidecar.settings.types import AT_LEAST_ONE, ByMethod, Seconds, Text, Url, checked
from sidecar.settings.upstream_auth import (
    BackendServicesClient,
    BearerClient,
    NoAuth,
    PrivateKeyClient,
    SecretClient,
    TlsClient,
)


class IntrospectionSettings(Section):
    """Token introspection (RFC 7662)."""

    url: Url | None = None
    """Introspection endpoint. null: introspection_endpoint of the EHR's smart-configuration."""
    signed: bool = False
    """Require responses that are signed (RFC 9701) for our client_id, by keys as in tokens.jwt."""


ClaimPath = Text | Annotated[tuple[Text, ...], AT_LEAST_ONE]
"""The name of a claim, or the names on the way to a nested one."""


def _check_resource_type(value: str) -> None:
    if not (value.isascii() and value.isalpha() and value[0].isupper()):
        raise ValueError("should be the name of a resource type, such as DiagnosticReport")


def _check_resource_types(values: tuple[str, ...]) -> None:
    if "ImagingStudy" not in values:  # Discovery and refusals tell apps to ask for its scopes.
        raise ValueError("must name ImagingStudy")


ResourceType = Annotated[Text, checked(_check_resource_type)]
ResourceTypes = Annotated[
    tuple[ResourceType, ...], checked(_check_resource_types, contains={"const": "ImagingStudy"})
]


class PatientClaimSettings(Section):
    """A claim that names the patient of the launch."""

    claim: ClaimPath = "patient"
    """Name of the claim, or a list of names for a claim inside of others."""
    form: Literal["id", "reference"] = "id"
    """id: the FHIR id.

    reference: Patient/<id> or its absolute URL; any other value is no patient.
    """


class ClaimsSettings(Section):
    """The claims that have patient, scopes, app and user."""

    patient: Annotated[tuple[PatientClaimSettings, ...], AT_LEAST_ONE] = (PatientClaimSettings(),)
    """Claims that name the patient.

    When a token has several of them, they must name the same patient.
    """
    scope: ClaimPath | None = None
    """Claim with the scopes, a text or a list.

    null: scope, or scp without it; a token that has both must name the same ones in both.
    """
    scope_resources: ResourceTypes = ("ImagingStudy",)
    """Resource types whose scopes count as scopes on ImagingStudy, which is one of them.

    For servers that know no such scope: [ImagingStudy, DiagnosticReport]. A scope on another type
    than ImagingStudy permits nothing beside one on ImagingStudy of the same context (patient, user,
    system), nor with a constraint.
    """
    client_id: ClaimPath = "client_id"
    """Claim with the app's client id (azp, cid or appid at some servers)."""
    subject: ClaimPath = "sub"
    """Claim with the user."""


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Jwt(Section):
    """The verification of signed tokens."""

    jwks_url: Url | None = None
    """URL of the keys (JWKS). null: jwks_uri of the EHR's smart-configuration."""
    algorithms: Annotated[tuple[Algorithm, ...], AT_LEAST_ONE] = (
        "RS256",
        "RS384",
        "ES256",
        "ES384",
    )
    """Accepted signature algorithms. none and HMAC cannot be chosen."""
    type: Literal["at+jwt"] | None = None
    """The typ that tokens must have (RFC 9068). null: any."""


class TokenCacheSettings(SharedCacheSettings):
    """How long the validation of a token is remembered, and who shares it."""

    ttl_seconds: Seconds = 60
    """Seconds that an active token is remembered, at most until its exp.

    A revoked token works as long. Then the authorization server is asked again.
    """


IntrospectionClient = Annotated[
    NoAuth | SecretClient | PrivateKeyClient | TlsClient | BearerClient | BackendServicesClient,
    ByMethod(),
]


class Tokens(Section):
    """How access tokens are validated."""

    validation: Literal["introspection", "jwt", "jwt_then_introspection"] = "introspection"
    """introspection: the authorization server is asked (RFC 7662).

    jwt: signed tokens are verified here, and a revoked token works until it expires.
    jwt_then_introspection: the server is asked about tokens with a valid signature.
    """
    audience: tuple[Text, ...] = ()
    """A token must name one of these in aud. Required for jwt. []: aud is not checked."""
    claims: ClaimsSettings = ClaimsSettings()
    introspection: IntrospectionSettings = IntrospectionSettings()
    jwt: Jwt = Jwt()
    client: IntrospectionClient | None = None
    """How we authenticate at the introspection endpoint. Required unless validation is jwt."""
    cache: TokenCacheSettings = TokenCacheSettings()

    def __post_init__(self) -> None:
        if self.validation != "introspection" and not self.audience:
            raise ValueError(
                "validation by JWT needs audience: else an ID token would pass for an access token"
            )
        if self.validation != "jwt" and self.client is None:
            raise ValueError(
                "client is required: how we authenticate at the introspection endpoint"
            )
        if self.validation == "jwt" and self.cache.url is not None:
            raise ValueError("cache.url is for introspection: jwt asks nobody")
        if self.introspection.signed and getattr(self.client, "client_id", None) is None:
            raise ValueError(
                "introspection.signed needs a client with a client_id: the answers are for it"
            )

"""How tokens are validated, and how we authenticate at the EHR: a part of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    Seconds,
    Section,
    Url,
)
from sidecar.settings.upstream_auth import (
    BackendServicesClient,
    BearerClient,
    NoClient,
    PrivateKeyClient,
    SecretClient,
    TlsClient,
)


class IntrospectionSettings(Section):
    """RFC 7662."""

    url: Url | None = Field(
        None, description="null: introspection_endpoint of the EHR's smart-configuration"
    )
    signed: bool = Field(
        False,
        description="Answers must be signed (RFC 9701) for our client_id, by keys as in tokens.jwt",
    )


Name = Annotated[str, Field(min_length=1)]
ClaimPath = Name | Annotated[list[Name], Field(min_length=1)]
"""The name of a claim, or the names on the way to it."""


class PatientClaimSettings(Section):
    """Where the launch's patient stands."""

    claim: ClaimPath = Field(
        "patient", description="Name of the claim; a list of names for one inside of others"
    )
    form: Literal["id", "reference"] = Field(
        "id",
        description="id: the FHIR id; reference: Patient/<id> or its absolute URL, anything else is no patient",
    )


class ClaimsSettings(Section):
    """Where an authorization server puts what we need."""

    patient: Annotated[list[PatientClaimSettings], Field(min_length=1)] = Field(
        [PatientClaimSettings()],
        description="Where the patient stands; when several are there they must name the same",
    )
    scope: ClaimPath = Field("scope", description="The scopes, a text or a list")
    client_id: ClaimPath = Field("client_id", description="The app (azp, cid, appid elsewhere)")
    subject: ClaimPath = Field("sub", description="The user")


class Jwt(Section):
    """Verification of signatures."""

    jwks_url: Url | None = Field(
        None, description="null: jwks_uri of the EHR's smart-configuration"
    )
    algorithms: Annotated[
        list[
            Literal[
                "RS256",
                "RS384",
                "RS512",
                "PS256",
                "PS384",
                "PS512",
                "ES256",
                "ES384",
                "ES512",
                "EdDSA",
            ]
        ],
        Field(min_length=1),
    ] = Field(
        ["RS256", "RS384", "ES256", "ES384"],
        description="Accepted signatures; neither none nor HMAC can be",
    )
    leeway_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False), NO_BOOLEAN] = Field(
        30, description="How wrong clocks may be at exp, nbf and iat"
    )
    jwks_ttl_seconds: Seconds = Field(
        600, description="How long a key counts after it was seen in the JWKS"
    )
    type: Literal["at+jwt"] | None = Field(
        None, description="typ that tokens must have (RFC 9068); null: any"
    )


class TokenCacheSettings(Section):
    """How long an introspection answer is believed: also how long a revoked token may still work."""

    ttl_seconds: Seconds = Field(
        60, description="For an active token, never beyond its exp; a revoked one works as long"
    )
    negative_ttl_seconds: Seconds = Field(10, description="For tokens that are not active")
    max_entries: Annotated[int, Field(ge=1, le=10_000_000), NO_BOOLEAN] = Field(
        50_000, description="Tokens that are remembered"
    )


class Tokens(Section):
    """How access tokens are validated."""

    validation: Literal["introspection", "jwt", "jwt_then_introspection"] = Field(
        "introspection",
        description="introspection: ask the authorization server (RFC 7662); jwt: verify signed tokens here, so that a "
        "revoked one works until it expires; jwt_then_introspection: ask about those alone that are well signed",
    )
    audience: list[Name] = Field(
        [],
        description="A token must name one of these in aud; needed for jwt; []: aud is not looked at",
    )
    claims: ClaimsSettings = ClaimsSettings()
    introspection: IntrospectionSettings = IntrospectionSettings()
    jwt: Jwt = Jwt()
    client: (
        Annotated[
            NoClient
            | SecretClient
            | PrivateKeyClient
            | TlsClient
            | BearerClient
            | BackendServicesClient,
            Field(discriminator="method"),
        ]
        | None
    ) = Field(
        None,
        description="How we authenticate at the introspection endpoint: **required**, unless validation is jwt",
    )
    cache: TokenCacheSettings = TokenCacheSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Tokens":
        if self.validation != "introspection" and not self.audience:
            raise ValueError(
                "validation by JWT needs audience: else an ID token would pass for an access token"
            )
        if self.validation != "jwt" and self.client is None:
            raise ValueError(
                "client is required: how we authenticate at the introspection endpoint"
            )
        if self.introspection.signed and getattr(self.client, "client_id", None) is None:
            raise ValueError(
                "introspection.signed needs a client with a client_id: the answers are for it"
            )
        return self

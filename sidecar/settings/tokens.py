"""How tokens are validated, and how we authenticate at the EHR: a part of the configuration."""

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    Seconds,
    SecondsFromZero,
    Secret,
    SecretFile,
    Section,
    Url,
    exactly_one,
    read_text,
    secret_of,
)


class NoClient(Section):
    """Open to us."""

    method: Literal["none"] = Field(description="Open to us (network rules)")


class SecretClient(Section):
    """A client with a secret."""

    method: Literal["client_secret_basic", "client_secret_post"] = Field(
        description="Secret in the Authorization header, or in the form (RFC 6749 2.3.1)"
    )
    client_id: str = Field(min_length=1, description="Our client id")
    client_secret: Secret | None = Field(None, description="Its secret")
    client_secret_file: SecretFile | None = Field(None, description="File with its secret")

    @model_validator(mode="after")
    def _one_secret(self) -> "SecretClient":
        exactly_one(self.client_secret, self.client_secret_file, "client_secret")
        return self

    def secret(self) -> str:
        """The client's secret."""
        return secret_of(self.client_secret, self.client_secret_file)


def _usable_key(value: Path, info: ValidationInfo) -> Path:
    from sidecar.ehr.assertion import private_key_of  # noqa: PLC0415 - its libraries load slowly

    text = read_text(value)
    if "algorithm" in info.data:
        private_key_of(text, info.data["algorithm"])
    return value


class SigningClient(Section):
    """A client that signs with a private key of its own."""

    client_id: str = Field(min_length=1, description="Our client id")
    algorithm: Literal["RS384", "ES384"] = Field("RS384", description="Of the signature")
    private_key_file: Annotated[Path, AfterValidator(_usable_key)] = Field(
        description="Our private key, PEM or JWK, not encrypted"
    )
    key_id: str | None = Field(None, min_length=1, description="kid of the key in the JWKS that the EHR knows")


class PrivateKeyClient(SigningClient):
    """A signed assertion in each request."""

    method: Literal["private_key_jwt"] = Field(
        description="A signed assertion in the form (RFC 7523, SMART asymmetric authentication)"
    )
    audience: str | None = Field(
        None,
        min_length=1,
        description="aud of the assertion; null: the endpoint's URL; some want the issuer",
    )


class TlsClient(Section):
    """A client certificate."""

    method: Literal["tls_client_auth"] = Field(
        description="A client certificate (RFC 8705), shown in all requests to the EHR"
    )
    client_id: str = Field(min_length=1, description="Our client id")
    certificate_file: CertificatesFile = Field(description="Our certificate and what it hangs on, PEM")
    private_key_file: Path = Field(description="Its private key, PEM, not encrypted")

    @model_validator(mode="after")
    def _pair(self) -> "TlsClient":
        read_text(self.private_key_file)
        try:
            ssl.create_default_context().load_cert_chain(self.certificate_file, self.private_key_file, password="")
        except (ssl.SSLError, OSError, ValueError):
            raise ValueError("private_key_file is not the key of certificate_file") from None
        return self


class BearerClient(Section):
    """A fixed access token."""

    method: Literal["bearer"] = Field(description="A fixed access token (RFC 6750)")
    token: Secret | None = Field(None, description="The token")
    token_file: SecretFile | None = Field(None, description="File with the token")

    @model_validator(mode="after")
    def _one_token(self) -> "BearerClient":
        exactly_one(self.token, self.token_file, "token")
        return self

    def secret(self) -> str:
        """The token."""
        return secret_of(self.token, self.token_file)


class BackendServicesClient(SigningClient):
    """SMART Backend Services: client credentials with a signed assertion."""

    method: Literal["backend_services"] = Field(description="SMART Backend Services: a signed assertion (RFC 7523)")
    scope: str = Field("system/Patient.r", min_length=1, description="What we ask for")


class Introspection(Section):
    """RFC 7662."""

    url: Url | None = Field(None, description="null: introspection_endpoint of the EHR's smart-configuration")
    signed: bool = Field(
        False, description="Answers must be signed (RFC 9701) for our client_id, by keys as in tokens.jwt"
    )


Name = Annotated[str, Field(min_length=1)]
ClaimPath = Name | Annotated[list[Name], Field(min_length=1)]
"""The name of a claim, or the names on the way to it."""


class PatientClaimSettings(Section):
    """Where the launch's patient stands."""

    claim: ClaimPath = Field("patient", description="Name of the claim; a list of names for one inside of others")
    form: Literal["id", "reference"] = Field(
        "id", description="id: the FHIR id; reference: Patient/<id> or its absolute URL, anything else is no patient"
    )


class ClaimsSettings(Section):
    """Where an authorization server puts what we need."""

    patient: Annotated[list[PatientClaimSettings], Field(min_length=1)] = Field(
        [PatientClaimSettings()], description="Where the patient stands; when several are there they must name the same"
    )
    scope: ClaimPath = Field("scope", description="The scopes, a text or a list")
    client_id: ClaimPath = Field("client_id", description="The app (azp, cid, appid elsewhere)")
    subject: ClaimPath = Field("sub", description="The user")


class Jwt(Section):
    """Verification of signatures."""

    jwks_url: Url | None = Field(None, description="null: jwks_uri of the EHR's smart-configuration")
    algorithms: Annotated[
        list[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]],
        Field(min_length=1),
    ] = Field(["RS256", "RS384", "ES256", "ES384"], description="Accepted signatures; neither none nor HMAC can be")
    leeway_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False), NO_BOOLEAN] = Field(
        30, description="How wrong clocks may be at exp, nbf and iat"
    )
    jwks_ttl_seconds: Seconds = Field(600, description="How long a key counts after it was seen in the JWKS")
    type: Literal["at+jwt"] | None = Field(None, description="typ that tokens must have (RFC 9068); null: any")


class TokenCacheSettings(Section):
    """How long an introspection answer is believed: also how long a revoked token may still work."""

    ttl_seconds: Seconds = Field(
        60, description="For an active token, never beyond its exp; a revoked one works as long"
    )
    negative_ttl_seconds: Seconds = Field(10, description="For tokens that are not active")
    max_entries: Annotated[int, Field(ge=1, le=10_000_000), NO_BOOLEAN] = Field(
        50_000, description="Tokens that are remembered"
    )
    stale_if_error_seconds: SecondsFromZero = Field(
        0, description="How long an old answer may serve while introspection fails"
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
    introspection: Introspection = Introspection()
    jwt: Jwt = Jwt()
    client: (
        Annotated[
            NoClient | SecretClient | PrivateKeyClient | TlsClient | BearerClient | BackendServicesClient,
            Field(discriminator="method"),
        ]
        | None
    ) = Field(
        None, description="How we authenticate at the introspection endpoint: **required**, unless validation is jwt"
    )
    cache: TokenCacheSettings = TokenCacheSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Tokens":
        if self.validation != "introspection" and not self.audience:
            raise ValueError("validation by JWT needs audience: else an ID token would pass for an access token")
        if self.validation != "jwt" and self.client is None:
            raise ValueError("client is required: how we authenticate at the introspection endpoint")
        if self.introspection.signed and getattr(self.client, "client_id", None) is None:
            raise ValueError("introspection.signed needs a client with a client_id: the answers are for it")
        return self

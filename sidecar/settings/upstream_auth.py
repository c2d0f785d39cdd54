"""How we authenticate at a server that is not the EHR: ``auth`` of the PACS and of the audit repository."""

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sidecar.settings.types import (
    CertificatesFile,
    Secret,
    SecretFile,
    Section,
    exactly_one,
    read_text,
    secret_of,
)


class NoAuth(Section):
    """It is open to us."""

    method: Literal["none"] = Field(description="Open to us (network rules)")


class BasicAuth(Section):
    """HTTP Basic."""

    method: Literal["basic"] = Field(description="HTTP Basic (RFC 7617)")
    username: str = Field(min_length=1, description="Without a colon")
    password: Secret | None = Field(None, description="The password")
    password_file: SecretFile | None = Field(None, description="File with the password")

    @field_validator("username")
    @classmethod
    def _no_colon(cls, value: str) -> str:
        if ":" in value:
            raise ValueError("must have no colon (RFC 7617)")
        return value

    @model_validator(mode="after")
    def _one_password(self) -> "BasicAuth":
        exactly_one(self.password, self.password_file, "password")
        return self

    def secret(self) -> str:
        """The password."""
        return secret_of(self.password, self.password_file)


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
    key_id: str | None = Field(
        None, min_length=1, description="kid of the key in the JWKS that the EHR knows"
    )


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
    certificate_file: CertificatesFile = Field(
        description="Our certificate and what it hangs on, PEM"
    )
    private_key_file: Path = Field(description="Its private key, PEM, not encrypted")

    @model_validator(mode="after")
    def _pair(self) -> "TlsClient":
        read_text(self.private_key_file)
        try:
            ssl.create_default_context().load_cert_chain(
                self.certificate_file, self.private_key_file, password=""
            )
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

    method: Literal["backend_services"] = Field(
        description="SMART Backend Services: a signed assertion (RFC 7523)"
    )
    scope: str = Field("system/Patient.r", min_length=1, description="What we ask for")

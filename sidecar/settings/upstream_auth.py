"""How we authenticate: at the PACS and the audit repository (``auth``), at the EHR (``client``)."""

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sidecar.settings.section import Section
from sidecar.settings.types import (
    ByMethod,
    CertificatesFile,
    Constraint,
    Secret,
    SecretFile,
    Text,
    checked,
    read_text,
    secret_in,
)

if TYPE_CHECKING:
    from pydantic import ValidationInfo


class _SectionWithSecret(Section):
    """A section that has exactly one of a secret and its ``_file`` twin."""

    secret_key: ClassVar[str]

    def __post_init__(self) -> None:
        name = self.secret_key
        if (getattr(self, name) is None) == (getattr(self, name + "_file") is None):
            raise ValueError(f"needs exactly one of {name} and {name}_file")

    def secret(self) -> str:
        """Return the secret. Raises ``ValueError`` when its file cannot be read."""
        secret: Secret | None = getattr(self, self.secret_key)
        if secret is not None:
            return secret.value
        return secret_in(getattr(self, self.secret_key + "_file"))


class NoAuth(Section):
    """No authentication."""

    method: Literal["none"]
    """No authentication: the network lets us in."""

    def authorization(self) -> None:
        """Return no ``Authorization`` header."""


def _check_user_name(value: str) -> None:
    if ":" in value:
        raise ValueError("must have no colon (RFC 7617)")


class BasicAuth(_SectionWithSecret):
    """HTTP Basic."""

    secret_key = "password"

    method: Literal["basic"]
    """HTTP Basic (RFC 7617)."""
    username: Annotated[Text, checked(_check_user_name)]
    """User name, without a colon."""
    password: Secret | None = None
    """Password."""
    password_file: SecretFile | None = None
    """File with the password."""

    def authorization(self) -> str:
        """Return the value of the ``Authorization`` header, from the secret as it is now."""
        return "Basic " + b64encode(f"{self.username}:{self.secret()}".encode()).decode()


class SecretClient(_SectionWithSecret):
    """A client with a secret."""

    secret_key = "client_secret"

    method: Literal["client_secret_basic", "client_secret_post"]
    """Client secret in the Authorization header, or in the form (RFC 6749 2.3.1)."""
    client_id: Text
    """Our client id."""
    client_secret: Secret | None = None
    """Client secret."""
    client_secret_file: SecretFile | None = None
    """File with the client secret."""


def _usable_key(value: Path, info: "ValidationInfo") -> Path:
    from sidecar.ehr.assertion import private_key_of  # noqa: PLC0415 - its libraries load slowly

    text = read_text(value)
    if "algorithm" in info.data:
        private_key_of(text, info.data["algorithm"])
    return value


def _with_usable_key(schema: Any) -> Any:
    function = {"type": "with-info", "function": _usable_key}
    return {"type": "function-after", "function": function, "schema": schema}


class SigningClient(Section):
    """A client that signs with a private key of its own."""

    client_id: Text
    """Our client id."""
    algorithm: Literal["RS384", "ES384"] = "RS384"
    """Signature algorithm."""
    private_key_file: Annotated[Path, Constraint(_with_usable_key)]
    """File with our private key, PEM or JWK, not encrypted."""
    key_id: Text | None = None
    """kid of the key in our JWKS as the EHR knows it."""


class PrivateKeyClient(SigningClient):
    """A signed assertion in each request."""

    method: Literal["private_key_jwt"]
    """Signed assertion in the form (RFC 7523, SMART asymmetric authentication)."""
    audience: Text | None = None
    """aud of the assertion; some servers require the issuer. null: the URL of the endpoint."""


class TlsClient(Section):
    """A client certificate."""

    method: Literal["tls_client_auth"]
    """Client certificate (RFC 8705), shown in all requests to the EHR."""
    client_id: Text
    """Our client id."""
    certificate_file: CertificatesFile
    """PEM file with our certificate chain."""
    private_key_file: Path
    """PEM file with the private key of the certificate, not encrypted."""

    def __post_init__(self) -> None:
        import ssl  # noqa: PLC0415 - a supervisor does without OpenSSL

        read_text(self.private_key_file)
        try:
            ssl.create_default_context().load_cert_chain(
                self.certificate_file, self.private_key_file, password=""
            )
        except (ssl.SSLError, OSError, ValueError):
            raise ValueError("private_key_file is not the key of certificate_file") from None


class BearerClient(_SectionWithSecret):
    """A fixed access token."""

    secret_key = "token"

    method: Literal["bearer"]
    """Fixed access token (RFC 6750)."""
    token: Secret | None = None
    """Access token."""
    token_file: SecretFile | None = None
    """File with the access token."""

    def authorization(self) -> str:
        """Return the value of the ``Authorization`` header, from the secret as it is now."""
        return f"Bearer {self.secret()}"


UpstreamAuth = Annotated[NoAuth | BasicAuth | BearerClient, ByMethod()]


class BackendServicesClient(SigningClient):
    """SMART Backend Services: client credentials with a signed assertion."""

    method: Literal["backend_services"]
    """SMART Backend Services: a signed assertion (RFC 7523)."""
    scope: Text = "system/Patient.r"
    """Scope that we request."""

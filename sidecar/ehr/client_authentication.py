"""Client authentication at the introspection endpoint (RFC 7662 2.1)."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus

from sidecar.ehr.assertion import ClientAssertion
from sidecar.ehr.credentials import BackendServices


class ClientAuthentication(Protocol):
    """Add credentials to the headers and the form of a request to ``endpoint`` (absolute URL)."""

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add what the method needs. Raises a ``Problem`` when that cannot be had."""

    def refused(self) -> bool:
        """Return whether to try again with new credentials after the server refused these."""


class _Fixed:
    """Credentials that do not change: another try would get the same answer."""

    def refused(self) -> bool:
        """Return ``False``."""
        return False


@dataclass(frozen=True, slots=True)
class NoAuthentication(_Fixed):
    """``none``: the endpoint is open to us (same host, network rules)."""

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add nothing."""


@dataclass(frozen=True, slots=True)
class ClientSecretBasic(_Fixed):
    """``client_secret_basic`` (RFC 6749 2.3.1): form-encoded id and secret in HTTP Basic."""

    client_id: str
    client_secret: str = field(repr=False)

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the Authorization header."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True)
class ClientSecretPost(_Fixed):
    """``client_secret_post`` (RFC 6749 2.3.1): id and secret in the form."""

    client_id: str
    client_secret: str = field(repr=False)

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the form fields."""
        form["client_id"] = self.client_id
        form["client_secret"] = self.client_secret


@dataclass(frozen=True, slots=True)
class PrivateKeyJwt(_Fixed):
    """``private_key_jwt`` (OpenID Connect Core 9, RFC 7523): a signed assertion in the form.

    ``audience``: what the assertion is for; ``None``: the endpoint itself.
    """

    client_id: str
    assertion: ClientAssertion = field(repr=False)
    audience: str | None = None

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the form fields."""
        form["client_id"] = self.client_id
        form.update(self.assertion.form(self.audience or endpoint))


@dataclass(frozen=True, slots=True)
class TlsClientAuth(_Fixed):
    """``tls_client_auth`` (RFC 8705 2.1): a client certificate, with the client id in the form."""

    client_id: str

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the form field."""
        form["client_id"] = self.client_id


@dataclass(frozen=True, slots=True)
class BearerAuthentication(_Fixed):
    """``bearer``: a fixed access token of our own (RFC 7662 2.1)."""

    token: str = field(repr=False)

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the Authorization header."""
        headers["Authorization"] = f"Bearer {self.token}"


@dataclass(frozen=True, slots=True)
class BackendServicesAuthentication:
    """``backend_services``: our own access token by client credentials, cached until it expires."""

    credentials: BackendServices = field(repr=False)

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the Authorization header."""
        headers["Authorization"] = f"Bearer {await self.credentials.token()}"

    def refused(self) -> bool:
        """Return ``True``: the token may have been revoked, so the next try requests a new one."""
        self.credentials.forget()
        return True

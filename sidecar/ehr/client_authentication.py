"""Client authentication at the introspection endpoint (RFC 7662 2.1)."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote_plus

from sidecar.ehr.credentials import Credentials

if TYPE_CHECKING:
    from sidecar.ehr.assertion import ClientAssertion


class ClientAuthentication(Protocol):
    """Add credentials to the headers and the form of a request to ``endpoint`` (absolute URL)."""

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add what the method needs. Raises a ``Problem`` when that cannot be had."""

    def refused(self) -> bool:
        """Return whether to try again with new credentials after the server refused these."""


class _Fixed:
    def refused(self) -> bool:
        """Return ``False``: another try would get the same answer."""
        return False


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
class FormAuthentication(_Fixed):
    """The client id in the form, and beside it what proves it.

    - ``client_secret_post`` (RFC 6749 2.3.1): ``client_secret``
    - ``private_key_jwt`` (OpenID Connect Core 9, RFC 7523): an ``assertion`` for ``audience``,
      ``None``: for the endpoint itself
    - ``tls_client_auth`` (RFC 8705 2.1): nothing, but the client certificate of the connection
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    assertion: "ClientAssertion | None" = field(default=None, repr=False)
    audience: str | None = None

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the form fields."""
        form["client_id"] = self.client_id
        if self.client_secret is not None:
            form["client_secret"] = self.client_secret
        if self.assertion is not None:
            form.update(self.assertion.form(self.audience or endpoint))


@dataclass(frozen=True, slots=True)
class BearerAuthentication:
    """``bearer``, ``backend_services`` or ``none``: our own access token (RFC 7662 2.1), if any."""

    credentials: Credentials

    async def apply(self, endpoint: str, headers: dict[str, str], form: dict[str, str]) -> None:
        """Add the Authorization header."""
        if (token := await self.credentials.token()) is not None:
            headers["Authorization"] = f"Bearer {token}"

    def refused(self) -> bool:
        """Return whether the next try may have another token: this one may have been revoked."""
        return self.credentials.forget()

"""The settings of the token cache that processes share (``tokens.cache``)."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from sidecar.settings.section import Section
from sidecar.settings.types import (
    CertificatesFile,
    KeyFile,
    Secret,
    SecretFile,
    Text,
    after,
    secret_in,
)

_MAXIMUM_DATABASE = 9_999


def _server_url(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be percent-encoded ASCII")
    try:
        parts = urlsplit(value)
        usable = _is_socket(parts) or _is_host(parts)
    except ValueError:  # Its own text quotes the value.
        usable = False
    if not usable:
        raise ValueError("must be redis://host:port/database, rediss:// the same, or unix:///path")
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must have no query or fragment, and no user: username and password_file")
    return value


def _is_socket(parts: SplitResult) -> bool:
    return parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/")


def _is_host(parts: SplitResult) -> bool:
    database = parts.path.removeprefix("/") or "0"
    is_database = database.isdecimal() and int(database[:5]) <= _MAXIMUM_DATABASE
    is_address = bool(parts.hostname) and parts.port != 0
    return parts.scheme in ("redis", "rediss") and is_address and is_database


ServerUrl = Annotated[str, after(_server_url, format="uri")]
"""The place of a Valkey or Redis server."""


class SharedCacheSettings(Section):
    """A Valkey or Redis in which processes share what they know of tokens."""

    url: ServerUrl | None = None
    """Valkey or Redis in which workers and replicas share introspection answers.

    redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path. null: each worker asks itself.
    """
    key_file: KeyFile | None = None
    """File with the key that seals the shared answers, the same for all that share them.

    **Required** with url.
    """
    username: Text | None = None
    """User name at the server (ACL). null: its default user."""
    password: Secret | None = None
    """Password at the server."""
    password_file: SecretFile | None = None
    """File with the password at the server."""
    ca_file: CertificatesFile | None = None
    """rediss: PEM file with the certificate authorities to trust for it. null: the system's."""

    def __post_init__(self) -> None:
        for name in ("key_file", "username", "password", "password_file", "ca_file"):
            if self.url is None and getattr(self, name) is not None:
                raise ValueError(f"{name} needs url")
        if self.url is None:
            return
        if self.key_file is None:
            raise ValueError("url needs key_file: openssl rand -hex 32")
        if self.password is not None and self.password_file is not None:
            raise ValueError("needs at most one of password and password_file")
        if self.username is not None and self.server_password() is None:
            raise ValueError("username needs password or password_file")
        if self.ca_file is not None and not self.url.startswith("rediss:"):
            raise ValueError("ca_file needs a url with rediss")

    def server_password(self) -> str | None:
        """Return the password at the server, if there is one."""
        if self.password is not None:
            return self.password.value
        return None if self.password_file is None else secret_in(self.password_file)

    def sealing_key(self) -> bytes:
        """Return the key that seals the shared answers."""
        assert self.key_file is not None  # noqa: S101
        return secret_in(self.key_file).encode()

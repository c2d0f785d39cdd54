"""The settings of listeners, logs and older forms (``server``, ``log``, ``compat``)."""

import re
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from sidecar.settings.section import Section
from sidecar.settings.types import (
    Origin,
    Port,
    Seconds,
    SecondsFromZero,
    Text,
    Url,
    before,
    checked,
    number,
)

MOST_WORKERS = 64


def _workers(value: object) -> object:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != "auto" and (type(number) is not int or not 1 <= number <= MOST_WORKERS):
        raise ValueError(f"must be auto or a number from 1 to {MOST_WORKERS}")
    return number


def _check_network(value: str) -> None:
    try:
        ip_network(value)
    except ValueError:  # Its own text quotes the value.
        text = "must be an address or a network without host bits, such as 10.0.0.0/8"
        raise ValueError(text) from None


def _check_networks(values: tuple[str, ...]) -> None:
    networks = [ip_network(value) for value in values]
    together: tuple[IPv4Network | IPv6Network, ...] = (
        *collapse_addresses(one for one in networks if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in networks if isinstance(one, IPv6Network)),
    )
    if any(one.prefixlen == 0 for one in together):  # Each client could say where it is.
        raise ValueError("must not be all addresses")


_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]++)*+", re.ASCII)
_OWN_ROOTS = ("capability", "fhir", "wado-rs", "wado-uri")


def _check_base_path(value: str) -> None:
    path = urlsplit(value).path
    if not _PATH.fullmatch(path):  # Proxies and clients would rewrite it, each in its way.
        raise ValueError("must have a path of letters, digits and . _ ~ - alone")
    if path.split("/")[1:2] in ([root] for root in _OWN_ROOTS):
        raise ValueError("must have no path that begins as ours: /fhir is added to it")


Network = Annotated[str, checked(_check_network)]
"""An IP address, or a network in CIDR form (RFC 4632) without host bits."""


class Server(Section):
    """The listeners, and what they serve."""

    workers: Annotated[
        Literal["auto"] | Annotated[int, number("processes", ge=1, le=MOST_WORKERS)],
        before(_workers),
    ] = 1
    """Worker processes on the same listeners. auto: as many as CPUs are granted.

    Each has an even share of the connections and retrievals in limits.
    """
    host: Text = "0.0.0.0"  # noqa: S104
    """Address of the public listener."""
    port: Port = 8080
    """Port of the public listener."""
    reload_seconds: SecondsFromZero = 0
    """Seconds between two looks for changes in the configuration and the files that it names.

    0: they are read anew on SIGHUP only.
    """
    admin_host: Text = "0.0.0.0"  # noqa: S104
    """Address of the admin listener, which serves /metrics, /healthz and /readyz."""
    admin_port: Port = 9090
    """Port of the admin listener."""
    public_url: Annotated[Url, checked(_check_base_path)] = "http://localhost:8080"
    """Our base URL as apps see it. Links are built from it.

    It may have a path, which a reverse proxy may pass on or strip.
    """
    forwarded_allow_ips: Annotated[tuple[Network, ...], checked(_check_networks)] = ()
    """Addresses or networks of the reverse proxies in front of us, such as 10.0.0.0/8.

    Their Forwarded or X-Forwarded-For says which client it is, for the audit trail.
    """
    cors_origins: tuple[Origin, ...] = ("*",)
    """Origins whose pages may call us. * is any origin."""
    wado_uri: bool = False
    """Also answer /wado-uri?requestType=WADO&…, for older viewers."""
    drain_seconds: Seconds = 30
    """Seconds that running transfers may take after SIGTERM. What still runs then is reset."""

    def __post_init__(self) -> None:
        if self.port == self.admin_port != 0:
            raise ValueError("port and admin_port are the same")


class Compat(Section):
    """Older forms that are written beside the current ones."""

    requires_access_token: bool = False
    """Also write the extension requires-access-token: true, for apps of earlier texts.

    Endpoints have it in two forms: that of August 2026, and that of 2023.
    """


class Log(Section):
    """The JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is written."""

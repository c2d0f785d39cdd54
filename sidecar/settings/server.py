"""The settings of listeners, logs and older forms (``server``, ``log``, ``compat``)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    Origin,
    Port,
    Seconds,
    SecondsFromZero,
    Section,
    Text,
    Url,
)

MOST_WORKERS = 64


def _workers(value: object) -> object:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != "auto" and (type(number) is not int or not 1 <= number <= MOST_WORKERS):
        raise ValueError(f"must be auto or a number from 1 to {MOST_WORKERS}")
    return number


class Server(Section):
    """The listeners, and the limits of what they serve."""

    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_WORKERS)], BeforeValidator(_workers)
    ] = 1
    """Worker processes, which share the listeners. auto: as many as CPUs are granted.

    Each has an even share of the limits below.
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
    public_url: Url = "http://localhost:8080"
    """Our base URL as apps see it. Links are built from it."""
    cors_origins: list[Origin] = ["*"]
    """Origins whose pages may call us. * is any origin."""
    wado_uri: bool = False
    """Also answer /wado-uri?requestType=WADO&…, for older viewers."""
    drain_seconds: Seconds = 30
    """Seconds that running transfers may take after SIGTERM."""
    max_connections: Annotated[int, Field(ge=10, le=100_000), NO_BOOLEAN] = 2_000
    """Maximum open client connections.

    For a further one an idle one is closed; if none is idle, it gets 503.
    """
    max_streams: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = 64
    """Maximum concurrent retrievals, half of them for one patient.

    Further requests wait in a queue.
    """
    max_streams_per_client: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = 16
    """Maximum concurrent retrievals of one app for one user. Further requests wait in a queue."""
    client_seconds: Seconds = 60
    """Seconds that a client may take to accept one chunk of an image."""

    @model_validator(mode="after")
    def _two_listeners(self) -> "Server":
        if self.port == self.admin_port != 0:
            raise ValueError("port and admin_port are the same")
        return self


class Compat(Section):
    """Older forms that are written beside the current ones."""

    s4s_extension: bool = False
    """Also write the requires-access-token extension of the 2023 text."""


class Log(Section):
    """The JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is written."""

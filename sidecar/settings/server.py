"""The settings of listeners, logs and older forms (`server`, `log`, `compat`)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    Origin,
    Port,
    Seconds,
    SecondsFromZero,
    Section,
    Url,
)


class Server(Section):
    """Listeners and the public face."""

    host: str = Field("0.0.0.0", min_length=1, description="Address of the public listener")  # noqa: S104
    port: Port = Field(8080, description="Port of the public listener")
    reload_seconds: SecondsFromZero = Field(
        0,
        description="How often the files that are named here are looked at for changes; 0: on SIGHUP alone",
    )
    admin_host: str = Field(
        "0.0.0.0",  # noqa: S104
        min_length=1,
        description="Of the admin listener: /metrics, /healthz, /readyz",
    )
    admin_port: Port = Field(9090, description="Port of the admin listener")
    public_url: Url = Field(
        "http://localhost:8080", description="Our base URL as apps see it; links are built from it"
    )
    cors_origins: list[Origin] = Field(
        ["*"], description="Origins whose pages may call us; * is any"
    )
    wado_uri: bool = Field(
        False, description="Answer /wado-uri?requestType=WADO&… too, for older viewers"
    )
    drain_seconds: Seconds = Field(
        30, description="How long running transfers may go on after SIGTERM"
    )
    max_connections: Annotated[int, Field(ge=10, le=100_000), NO_BOOLEAN] = Field(
        2_000,
        description="Client connections open at once; for a further one an idle one is closed, or it gets a 503",
    )
    max_streams: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        64, description="Retrievals at once, half of them for one patient; more wait for a place"
    )
    max_streams_per_client: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        16, description="Retrievals at once of one app for one user; more wait for a place"
    )
    client_seconds: Seconds = Field(
        60, description="How long a client may take to accept one chunk of an image"
    )

    @model_validator(mode="after")
    def _two_listeners(self) -> "Server":
        if self.port == self.admin_port != 0:
            raise ValueError("port and admin_port are the same")
        return self


class Compat(Section):
    """Older forms beside the current ones."""

    s4s_extension: bool = Field(
        False, description="Also write the requires-access-token extension of the 2023 text"
    )


class Log(Section):
    """JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least that is written"
    )

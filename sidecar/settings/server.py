"""The settings of listeners, logs and older forms (``server``, ``log``, ``compat``)."""

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
    """The listeners, and the limits of what they serve."""

    host: str = Field("0.0.0.0", min_length=1, description="Address of the public listener.")  # noqa: S104
    port: Port = Field(8080, description="Port of the public listener.")
    reload_seconds: SecondsFromZero = Field(
        0,
        description=(
            "Seconds between two looks for changes in the configuration and the files "
            "that it names. 0: they are read anew on SIGHUP only."
        ),
    )
    admin_host: str = Field(
        "0.0.0.0",  # noqa: S104
        min_length=1,
        description="Address of the admin listener, which serves /metrics, /healthz and /readyz.",
    )
    admin_port: Port = Field(9090, description="Port of the admin listener.")
    public_url: Url = Field(
        "http://localhost:8080", description="Our base URL as apps see it. Links are built from it."
    )
    cors_origins: list[Origin] = Field(
        ["*"], description="Origins whose pages may call us. * is any origin."
    )
    wado_uri: bool = Field(
        False, description="Also answer /wado-uri?requestType=WADO&…, for older viewers."
    )
    drain_seconds: Seconds = Field(
        30, description="Seconds that running transfers may take after SIGTERM."
    )
    max_connections: Annotated[int, Field(ge=10, le=100_000), NO_BOOLEAN] = Field(
        2_000,
        description=(
            "Maximum open client connections. For a further one an idle one is closed; if"
            " none is idle, it gets 503."
        ),
    )
    max_streams: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        64,
        description=(
            "Maximum concurrent retrievals, half of them for one patient. Further "
            "requests wait in a queue."
        ),
    )
    max_streams_per_client: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        16,
        description=(
            "Maximum concurrent retrievals of one app for one user. Further requests wait"
            " in a queue."
        ),
    )
    client_seconds: Seconds = Field(
        60, description="Seconds that a client may take to accept one chunk of an image."
    )

    @model_validator(mode="after")
    def _two_listeners(self) -> "Server":
        if self.port == self.admin_port != 0:
            raise ValueError("port and admin_port are the same")
        return self


class Compat(Section):
    """Older forms that are written beside the current ones."""

    s4s_extension: bool = Field(
        False, description="Also write the requires-access-token extension of the 2023 text."
    )


class Log(Section):
    """The JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The lowest level that is written."
    )

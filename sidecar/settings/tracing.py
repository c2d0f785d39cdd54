"""The settings of tracing (`tracing`)."""

from typing import Annotated

from pydantic import Field

from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    SecretFile,
    Section,
    Url,
    secret_of,
)


class TracingSettings(Section):
    """Spans, to a collector by OTLP."""

    endpoint: Url | None = Field(
        None,
        description="OTLP over HTTP, for instance http://collector:4318/v1/traces; null: no tracing",
    )
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_BOOLEAN] = Field(
        1, description="Of all traces so many are recorded; of those that callers record, too"
    )
    join_callers: bool = Field(
        True,
        description="A request's traceparent is the parent; false: each request is a trace of its own",
    )
    service_name: str = Field(
        "smart-imaging-sidecar", min_length=1, description="service.name of the spans"
    )
    authorization_file: SecretFile | None = Field(
        None,
        description="File with the Authorization header for the collector, for instance Bearer …",
    )
    ca_file: CertificatesFile | None = Field(
        None, description="Certificate authorities, PEM; null: the usual ones"
    )

    def authorization(self) -> str | None:
        """The header's value."""
        return None if self.authorization_file is None else secret_of(None, self.authorization_file)

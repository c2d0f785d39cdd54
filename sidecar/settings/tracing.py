"""The settings of tracing (``tracing``)."""

from typing import Annotated

from sidecar.settings.section import Section
from sidecar.settings.types import CertificatesFile, SecretFile, Text, Url, number, secret_in


class TracingSettings(Section):
    """The spans that are sent to a collector by OTLP."""

    endpoint: Url | None = None
    """Collector that takes OTLP over HTTP, for instance http://collector:4318/v1/traces.

    null: no tracing.
    """
    sample_ratio: Annotated[float, number("share", ge=0, le=1)] = 1
    """Share of traces that are recorded, of ours and of those that callers record."""
    join_callers: bool = True
    """Use a request's traceparent as the parent. false: each request is a trace of its own."""
    service_name: Text = "smart-imaging-sidecar"
    """service.name of the spans."""
    authorization_file: SecretFile | None = None
    """File with the Authorization header for the collector, for instance `Bearer …`."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for it. null: the system's."""

    def authorization(self) -> str | None:
        """Return the value of the ``Authorization`` header, if there is one."""
        file = self.authorization_file
        return None if file is None else secret_in(file)

"""The whole configuration as one typed document.

The tables of ``docs/configuration.md`` and the JSON Schema of ``config schema`` are made of these
models.
"""

from sidecar.settings.access import Access
from sidecar.settings.audit import Audit
from sidecar.settings.capabilities import CapabilitySettings
from sidecar.settings.fhir import Fhir
from sidecar.settings.limits import LimitSettings
from sidecar.settings.pacs import Pacs
from sidecar.settings.patients import Patients
from sidecar.settings.section import Section
from sidecar.settings.server import Compat, Log, Server
from sidecar.settings.tokens import Tokens
from sidecar.settings.tracing import TracingSettings
from sidecar.settings.types import CertificatesFile, Text, Url


class Ehr(Section):
    """The EHR: authorization server and clinical FHIR server."""

    fhir_url: Url
    """FHIR base URL. .well-known/smart-configuration is below it."""
    issuer: Text | None = None
    """The iss of tokens. null: the issuer of the EHR's smart-configuration."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for the EHR. null: the system's."""


class Settings(Section):
    """The whole configuration. Required are two URLs and ``tokens.client``."""

    server: Server = Server()
    ehr: Ehr
    tokens: Tokens
    patients: Patients = Patients()
    pacs: Pacs
    fhir: Fhir = Fhir()
    access: Access = Access()
    capabilities: CapabilitySettings = CapabilitySettings()
    compat: Compat = Compat()
    audit: Audit = Audit()
    log: Log = Log()
    tracing: TracingSettings = TracingSettings()
    limits: LimitSettings = LimitSettings()

    def __post_init__(self) -> None:
        catalog = self.fhir.catalog
        if self.server.workers != 1 and catalog.store == "memory":
            raise ValueError(
                "fhir.catalog.store: memory works with one worker only (server.workers); "
                "leave it out for sqlite at fhir.catalog.file, or use postgresql"
            )

    def catalog_store(self) -> str:
        """Return where the catalog is: ``memory``, ``sqlite`` or ``postgresql``."""
        return self.fhir.catalog.store or ("memory" if self.server.workers == 1 else "sqlite")

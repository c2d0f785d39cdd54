"""The whole configuration as one typed document: a model a room. Required are two URLs and ``tokens.client``.

The tables of ``docs/configuration.md`` are made of these models; ``config schema`` prints them as JSON Schema.
"""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    KeyFile,
    Origin,
    Port,
    Seconds,
    SecondsFromZero,
    SecretFile,
    Section,
    Url,
    Wildcards,
    key_of,
    secret_of,
)
from sidecar.settings.access import Access
from sidecar.settings.audit import Audit
from sidecar.settings.upstream_auth import BasicAuth, NoAuth
from sidecar.settings.capabilities import Capabilities
from sidecar.settings.tokens import BackendServicesClient, BearerClient, NoClient, Tokens


class Server(Section):
    """Listeners and the public face."""

    host: str = Field("0.0.0.0", min_length=1, description="Address of the public listener")  # noqa: S104
    port: Port = Field(8080, description="Port of the public listener")
    reload_seconds: SecondsFromZero = Field(
        0, description="How often the files that are named here are looked at for changes; 0: on SIGHUP alone"
    )
    admin_host: str = Field("0.0.0.0", min_length=1, description="Of the admin listener: /metrics, /healthz, /readyz")  # noqa: S104
    admin_port: Port = Field(9090, description="Port of the admin listener")
    public_url: Url = Field("http://localhost:8080", description="Our base URL as apps see it; links are built from it")
    cors_origins: list[Origin] = Field(["*"], description="Origins whose pages may call us; * is any")
    wado_uri: bool = Field(False, description="Answer /wado-uri?requestType=WADO&… too, for older viewers")
    drain_seconds: Seconds = Field(30, description="How long running transfers may go on after SIGTERM")
    max_connections: Annotated[int, Field(ge=10, le=100_000), NO_BOOLEAN] = Field(
        2_000, description="Client connections open at once; for a further one an idle one is closed, or it gets a 503"
    )
    max_streams: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        64, description="Retrievals at once, half of them for one patient; more wait for a place"
    )
    max_streams_per_client: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        16, description="Retrievals at once of one app for one user; more wait for a place"
    )
    client_seconds: Seconds = Field(60, description="How long a client may take to accept one chunk of an image")

    @model_validator(mode="after")
    def _two_listeners(self) -> "Server":
        if self.port == self.admin_port != 0:
            raise ValueError("port and admin_port are the same")
        return self


class Ehr(Section):
    """The EHR: authorization server and clinical FHIR server."""

    fhir_url: Url = Field(description="FHIR base URL; .well-known/smart-configuration is below it")
    issuer: str | None = Field(
        None, min_length=1, description="iss of tokens; null: issuer of the EHR's smart-configuration"
    )
    ca_file: CertificatesFile | None = Field(None, description="Certificate authorities to trust for the EHR, PEM")
    timeout_seconds: Seconds = Field(5, description="For each request to the EHR")


class PatientIdentifierSystem(Section):
    """An identifier system of the EHR whose values are PatientIDs at the PACS."""

    system: str = Field(min_length=1, description="Patient.identifier.system whose values are PatientIDs")
    issuer: str | None = Field(
        None, min_length=1, description="IssuerOfPatientID of these: the PACS must name it; null: the number alone"
    )


class Patients(Section):
    """From the FHIR Patient to the PACS's PatientIDs."""

    mapping: Literal["direct", "ehr"] = Field(
        "direct", description="direct: Patient.id is the PatientID; ehr: read Patient.identifier at the EHR"
    )
    issuer: str | None = Field(
        None,
        min_length=1,
        description="direct: IssuerOfPatientID of all: the PACS must name it; null: the number alone",
    )
    identifiers: list[PatientIdentifierSystem] = Field([], description="ehr: which identifiers are PatientIDs")
    client: Annotated[NoClient | BearerClient | BackendServicesClient, Field(discriminator="method")] = Field(
        NoClient(method="none"), description="ehr: our own access for reading Patient"
    )
    cache_ttl_seconds: Seconds = Field(300, description="How long a patient's identifiers are remembered")

    @model_validator(mode="after")
    def _systems_fit_the_mapping(self) -> "Patients":
        if self.mapping == "ehr" and not self.identifiers:
            raise ValueError("mapping ehr needs at least one entry in identifiers")
        if self.mapping == "direct" and self.identifiers:
            # Else a forgotten `mapping: ehr` would take one number for another.
            raise ValueError("identifiers are for mapping ehr, but mapping is direct")
        if self.mapping == "ehr" and self.issuer is not None:
            raise ValueError("issuer is for mapping direct; with mapping ehr each of identifiers has its own")
        if len({one.system for one in self.identifiers}) < len(self.identifiers):
            raise ValueError("a system stands twice in identifiers")
        return self


class Pacs(Section):
    """The archive's DICOMweb service."""

    url: Url = Field(description="DICOMweb root, for instance http://orthanc:8042/dicom-web")
    dialect: Literal["generic", "orthanc", "dcm4chee"] = Field("generic", description="The product, for its oddities")
    auth: Annotated[NoAuth | BasicAuth | BearerClient, Field(discriminator="method")] = Field(
        NoAuth(method="none"), description="How we authenticate at the PACS"
    )
    ca_file: CertificatesFile | None = Field(None, description="Certificate authorities to trust for the PACS, PEM")
    timeout_seconds: Seconds = Field(30, description="For a query; for each silence of a retrieval")
    patience_seconds: Seconds | None = Field(
        30,
        description="Longer than this to a retrieval's first byte: 503 + Retry-After, and it goes on; null: off",
    )
    warm_seconds: Seconds = Field(
        600, description="Longest wait for a query or a retrieval's first byte in the background"
    )
    warm_retrievals: Annotated[int, Field(ge=1, le=1_000), NO_BOOLEAN] = Field(
        16, description="At once in the background; each holds a connection to the PACS"
    )
    ownership_cache_seconds: Seconds = Field(300, description="How long a study's patient is remembered")
    max_results: Annotated[int, Field(ge=1, le=1_000_000), NO_BOOLEAN] = Field(
        20_000, description="Rows of one query; more is an error, no cut"
    )
    max_connections: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        100, description="For retrievals from the PACS at once; more wait. Queries have 32 of their own"
    )
    changes_url: Url | None = Field(
        None,
        description="orthanc: its REST root (http://orthanc:8042), whose /changes drop what is remembered; null: off",
    )
    changes_seconds: Seconds = Field(5, description="How often /changes is asked")
    generated_issuers: list[Wildcards] = Field(
        [],
        description="Issuers of patient IDs that the archive makes up itself and that count as none (`*` and `?` are "
        "wildcards), for an archive whose numbers are unique: `DCM4CHEE.*`",
    )
    verify_instances: bool = Field(True, description="Read in each instance whose it is, before it leaves")
    metadata_row_bytes: Annotated[int, Field(ge=2**16, le=2**31), NO_BOOLEAN] = Field(
        16 * 2**20, description="Largest JSON of one instance in a metadata answer"
    )

    @model_validator(mode="after")
    def _patience_ends_first(self) -> "Pacs":
        if self.patience_seconds is not None and self.patience_seconds > self.warm_seconds:
            raise ValueError("patience_seconds is longer than warm_seconds")
        return self

    @model_validator(mode="after")
    def _changes_are_orthancs(self) -> "Pacs":
        if self.changes_url is not None and self.dialect != "orthanc":
            raise ValueError("changes_url is for dialect orthanc")
        return self


class CatalogSettings(Section):
    """Where it is kept when a study was first seen as it is: ``meta.lastUpdated``."""

    store: Literal["memory", "sqlite", "postgresql"] = Field(
        "memory", description="memory: after a restart every study counts as new; sqlite, postgresql: they outlive it"
    )
    file: Path | None = Field(None, description="sqlite: the file; processes on one machine may share it")
    dsn_file: SecretFile | None = Field(
        None, description="postgresql: file with the connection string (libpq), for replicas on several machines"
    )
    clock_skew_seconds: SecondsFromZero = Field(
        0, description="Most by which the clocks of those who share it differ; syncs begin so much earlier"
    )

    @model_validator(mode="after")
    def _file_fits_the_store(self) -> "CatalogSettings":
        if (self.store == "sqlite") != (self.file is not None):
            raise ValueError("store sqlite needs file, and file needs store sqlite")
        if (self.store == "postgresql") != (self.dsn_file is not None):
            raise ValueError("store postgresql needs dsn_file, and dsn_file needs store postgresql")
        return self

    def dsn(self) -> str:
        """The connection string."""
        return secret_of(None, self.dsn_file)


class Fhir(Section):
    """The ImagingStudy side."""

    detail: Literal["study", "series", "instance"] = Field("series", description="How deep an ImagingStudy describes")
    page_size: Annotated[int, Field(ge=1, le=500), NO_BOOLEAN] = Field(
        50, description="Studies in a page when _count says nothing"
    )
    search_cache_seconds: SecondsFromZero = Field(15, description="How long a patient's list is remembered")
    catalog: CatalogSettings = CatalogSettings()
    contained_endpoint: bool = Field(False, description="Put the Endpoint into each ImagingStudy")
    accession_system: str | None = Field(
        None, min_length=1, description="Identifier system of accession numbers, a URI; null: they have none"
    )
    link_key_file: KeyFile | None = Field(
        None, description="Key of the next links, the same on all replicas; null: a new one at each start"
    )
    timezone: str | None = Field(
        None, description="IANA zone of studies that name none; null: their started is the day alone"
    )

    def link_key(self) -> bytes:
        """The key of the next links."""
        return key_of(self.link_key_file)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ValueError, OSError, KeyError):
                raise ValueError("is no IANA time zone such as Europe/Berlin") from None
        return value


class Compat(Section):
    """Older forms beside the current ones."""

    s4s_extension: bool = Field(False, description="Also write the requires-access-token extension of the 2023 text")


class Log(Section):
    """JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least that is written")


class Tracing(Section):
    """Spans, to a collector by OTLP."""

    endpoint: Url | None = Field(
        None, description="OTLP over HTTP, for instance http://collector:4318/v1/traces; null: no tracing"
    )
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_BOOLEAN] = Field(
        1, description="Of all traces so many are recorded; of those that callers record, too"
    )
    join_callers: bool = Field(
        True, description="A request's traceparent is the parent; false: each request is a trace of its own"
    )
    service_name: str = Field("smart-imaging-sidecar", min_length=1, description="service.name of the spans")
    authorization_file: SecretFile | None = Field(
        None, description="File with the Authorization header for the collector, for instance Bearer …"
    )
    ca_file: CertificatesFile | None = Field(None, description="Certificate authorities, PEM; null: the usual ones")

    def authorization(self) -> str | None:
        """The header's value."""
        return None if self.authorization_file is None else secret_of(None, self.authorization_file)


class Settings(Section):
    """The document."""

    server: Server = Server()
    ehr: Ehr
    tokens: Tokens
    patients: Patients = Patients()
    pacs: Pacs
    fhir: Fhir = Fhir()
    access: Access = Access()
    capabilities: Capabilities = Capabilities()
    compat: Compat = Compat()
    audit: Audit = Audit()
    log: Log = Log()
    tracing: Tracing = Tracing()

"""The whole configuration as one typed document: a model a room. Everything has a default but the three URLs.

``docs/configuration.md`` is checked against these models; ``config schema`` prints them as JSON Schema.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must have no user, query or fragment")
    if not value.isascii() or any(character <= " " for character in value):
        raise ValueError("must be percent-encoded ASCII")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_http_url)]


def _readable_file(value: Path) -> Path:
    try:
        value.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return value


ReadableFile = Annotated[Path, AfterValidator(_readable_file)]


def _secret(direct: SecretStr | None, file: Path | None) -> str:
    if direct is not None:
        return direct.get_secret_value()
    assert file is not None  # noqa: S101 - the validator has seen to it
    return file.read_text(encoding="utf-8").strip()


def _exactly_one(direct: object, file: object, name: str) -> None:
    if (direct is None) == (file is None):
        raise ValueError(f"needs exactly one of {name} and {name}_file")


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Server(Section):
    """Listeners and the public face."""

    host: str = Field("0.0.0.0", description="Address of the public listener")  # noqa: S104
    port: Port = Field(8080, description="Port of the public listener")
    admin_host: str = Field("0.0.0.0", description="Address of /metrics, /healthz, /readyz")  # noqa: S104
    admin_port: Port = Field(9090, description="Port of the admin listener")
    public_url: Url = Field("http://localhost:8080", description="Our base URL as apps see it; links are built from it")
    cors_origins: list[str] = Field(["*"], description="Origins whose pages may call us; * is any")
    drain_seconds: Seconds = Field(30, description="How long running transfers may go on after SIGTERM")
    client_seconds: Seconds = Field(60, description="How long a client may take to accept one chunk of an image")

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in ("http", "https") or parts.path or not parts.hostname):
                raise ValueError("each is * or scheme://host[:port]")
        return value


class Ehr(Section):
    """The EHR: authorization server and clinical FHIR server."""

    fhir_url: Url = Field(description="FHIR base URL; .well-known/smart-configuration is below it")
    issuer: str | None = Field(None, description="Refuse introspection answers that name another iss")
    ca_file: ReadableFile | None = Field(None, description="PEM file of certificate authorities to trust for the EHR")
    timeout_seconds: Seconds = Field(5, description="For each request to the EHR")


class NoClient(Section):
    """The introspection endpoint is open to us."""

    method: Literal["none"]


class SecretClient(Section):
    """A client with a secret."""

    method: Literal["client_secret_basic", "client_secret_post"]
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    client_secret_file: ReadableFile | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> "SecretClient":
        _exactly_one(self.client_secret, self.client_secret_file, "client_secret")
        return self

    def secret(self) -> str:
        """The client's secret."""
        return _secret(self.client_secret, self.client_secret_file)


class BearerClient(Section):
    """A fixed access token."""

    method: Literal["bearer"]
    token: SecretStr | None = None
    token_file: ReadableFile | None = None

    @model_validator(mode="after")
    def _one_token(self) -> "BearerClient":
        _exactly_one(self.token, self.token_file, "token")
        return self

    def secret(self) -> str:
        """The token."""
        return _secret(self.token, self.token_file)


class BackendServicesClient(Section):
    """SMART Backend Services: client credentials with a signed assertion."""

    method: Literal["backend_services"]
    client_id: str = Field(min_length=1)
    private_key_file: ReadableFile = Field(description="PEM or JWK")
    key_id: str | None = Field(None, description="kid of the key in the JWKS that the EHR knows")
    algorithm: Literal["RS384", "ES384"] = "RS384"
    scope: str = "system/Patient.r"


class Introspection(Section):
    """RFC 7662."""

    url: Url | None = Field(None, description="null: introspection_endpoint of the EHR's smart-configuration")


class TokenCacheSettings(Section):
    """How long an introspection answer is believed: also how long a revoked token may still work."""

    ttl_seconds: Seconds = Field(60, description="At most; never beyond the token's exp")
    negative_ttl_seconds: Seconds = Field(10, description="For tokens that are not active")
    max_entries: int = Field(50_000, ge=1, le=10_000_000)
    stale_if_error_seconds: float = Field(
        0, ge=0, le=3_600, description="How long an old answer may serve while introspection fails"
    )


class Tokens(Section):
    """How access tokens are validated."""

    validation: Literal["introspection"] = "introspection"
    introspection: Introspection = Introspection()
    client: Annotated[NoClient | SecretClient | BearerClient, Field(discriminator="method")] = Field(
        description="How we authenticate at the introspection endpoint"
    )
    cache: TokenCacheSettings = TokenCacheSettings()


class PatientIdentifierSystem(Section):
    """An identifier system of the EHR whose values are PatientIDs at the PACS."""

    system: str = Field(min_length=1)
    issuer: str | None = Field(None, description="IssuerOfPatientID at the PACS; null: any")


class Patients(Section):
    """From the FHIR Patient to the PACS's PatientIDs."""

    mapping: Literal["direct", "ehr"] = Field("direct", description="direct: Patient.id is the PatientID; ehr: read it")
    identifiers: list[PatientIdentifierSystem] = Field([], description="ehr: which identifiers become PatientIDs")
    client: Annotated[NoClient | BearerClient | BackendServicesClient, Field(discriminator="method")] = Field(
        NoClient(method="none"), description="ehr: our own access for reading Patient"
    )
    cache_ttl_seconds: Seconds = 300

    @model_validator(mode="after")
    def _ehr_needs_systems(self) -> "Patients":
        if self.mapping == "ehr" and not self.identifiers:
            raise ValueError("mapping ehr needs at least one entry in identifiers")
        return self


class NoAuth(Section):
    """The PACS is open to us (network rules)."""

    method: Literal["none"]


class BasicAuth(Section):
    """HTTP Basic at the PACS."""

    method: Literal["basic"]
    username: str
    password: SecretStr | None = None
    password_file: ReadableFile | None = None

    @model_validator(mode="after")
    def _one_password(self) -> "BasicAuth":
        _exactly_one(self.password, self.password_file, "password")
        return self

    def secret(self) -> str:
        """The password."""
        return _secret(self.password, self.password_file)


class Pacs(Section):
    """The archive's DICOMweb service."""

    url: Url = Field(description="DICOMweb root, for instance http://orthanc:8042/dicom-web")
    dialect: Literal["generic", "orthanc", "dcm4chee"] = "generic"
    auth: Annotated[NoAuth | BasicAuth | BearerClient, Field(discriminator="method")] = NoAuth(method="none")
    ca_file: ReadableFile | None = Field(None, description="PEM file of certificate authorities to trust for the PACS")
    timeout_seconds: Seconds = Field(30, description="For a query; for each silence of a retrieval")
    ownership_cache_seconds: Seconds = Field(300, description="How long a study's patient is remembered")
    max_results: int = Field(20_000, ge=1, le=1_000_000, description="Rows of one query; more is an error, not a cut")
    max_connections: int = Field(100, ge=1, le=10_000)
    metadata_limit_bytes: int = Field(64 * 2**20, ge=2**16, le=2**31, description="Largest metadata answer")


class Fhir(Section):
    """The ImagingStudy side."""

    detail: Literal["study", "series", "instance"] = "series"
    page_size: int = Field(50, ge=1, le=500)
    search_cache_seconds: float = Field(15, ge=0, le=3_600)
    contained_endpoint: bool = False
    timezone: str | None = Field(
        None, description="IANA zone of studies that name none; null: their started is the day alone"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ValueError, OSError, KeyError):
                raise ValueError("is no IANA time zone such as Europe/Berlin") from None
        return value


class Access(Section):
    """What is switched on."""

    app_launch: bool = True


class Compat(Section):
    """Older forms beside the current ones."""

    s4s_extension: bool = Field(False, description="Also write the requires-access-token extension of the 2023 text")


class Log(Section):
    """JSON lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Settings(Section):
    """The document."""

    server: Server = Server()
    ehr: Ehr
    tokens: Tokens
    patients: Patients = Patients()
    pacs: Pacs
    fhir: Fhir = Fhir()
    access: Access = Access()
    compat: Compat = Compat()
    log: Log = Log()

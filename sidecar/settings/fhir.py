"""The settings of the FHIR side (`fhir`)."""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    KeyFile,
    SecondsFromZero,
    SecretFile,
    Section,
    key_of,
    secret_of,
)


class CatalogSettings(Section):
    """Where it is kept when a study was first seen as it is: ``meta.lastUpdated``."""

    store: Literal["memory", "sqlite", "postgresql"] = Field(
        "memory",
        description="memory: after a restart every study counts as new; sqlite, postgresql: they outlive it",
    )
    file: Path | None = Field(
        None, description="sqlite: the file; processes on one machine may share it"
    )
    dsn_file: SecretFile | None = Field(
        None,
        description="postgresql: file with the connection string (libpq), for replicas on several machines",
    )
    clock_skew_seconds: SecondsFromZero = Field(
        0,
        description="Most by which the clocks of those who share it differ; syncs begin so much earlier",
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

    detail: Literal["study", "series", "instance"] = Field(
        "series", description="How deep an ImagingStudy describes"
    )
    page_size: Annotated[int, Field(ge=1, le=500), NO_BOOLEAN] = Field(
        50, description="Studies in a page when _count says nothing"
    )
    search_cache_seconds: SecondsFromZero = Field(
        15, description="How long a patient's list is remembered"
    )
    catalog: CatalogSettings = CatalogSettings()
    contained_endpoint: bool = Field(False, description="Put the Endpoint into each ImagingStudy")
    accession_system: str | None = Field(
        None,
        min_length=1,
        description="Identifier system of accession numbers, a URI; null: they have none",
    )
    link_key_file: KeyFile | None = Field(
        None,
        description="Key of the next links, the same on all replicas; null: a new one at each start",
    )
    timezone: str | None = Field(
        None,
        description="IANA zone of studies that name none; null: their started is the day alone",
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

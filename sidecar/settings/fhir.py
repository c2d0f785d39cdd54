"""The settings of the FHIR side (``fhir``)."""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from sidecar.settings.section import Section
from sidecar.settings.types import (
    KeyFile,
    SecretFile,
    Uri,
    checked,
    key_in,
    needs_each_other,
    secret_in,
)


def _check_zone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        raise ValueError("is no IANA time zone such as Europe/Berlin") from None


class CatalogSettings(Section):
    """Where the catalog is, which has the times for ``meta.lastUpdated``."""

    store: Literal["memory", "sqlite", "postgresql"] | None = None
    """memory: after a restart or a reload every study counts as new.

    sqlite and postgresql keep what was seen. null: memory; with several workers sqlite.
    """
    file: Path = Path("/var/lib/smart-imaging-sidecar/catalog.sqlite")
    """sqlite, which several workers use by default: the file.

    Processes on one machine may share it.
    """
    dsn_file: SecretFile | None = None
    """postgresql: file with the connection string (libpq).

    Replicas on several machines may share the database.
    """

    def __post_init__(self) -> None:
        needs_each_other(
            "store postgresql",
            is_chosen=self.store == "postgresql",
            key="dsn_file",
            value=self.dsn_file,
        )

    def dsn(self) -> str:
        """Return the connection string."""
        assert self.dsn_file is not None  # noqa: S101
        return secret_in(self.dsn_file)


class Fhir(Section):
    """The ImagingStudy side."""

    detail: Literal["study", "series", "instance"] = "series"
    """The lowest level that an ImagingStudy describes."""
    catalog: CatalogSettings = CatalogSettings()
    contained_endpoint: bool = False
    """Put the Endpoint into each ImagingStudy."""
    accession_system: Uri | None = None
    """URI of the identifier system of accession numbers. null: they have no system."""
    link_key_file: KeyFile | None = None
    """File with the key of next links, the same on all replicas. null: a new key at each start."""
    timezone: Annotated[str, checked(_check_zone)] | None = None
    """IANA time zone of studies that name none. null: their started is a date without a time."""

    def link_key(self, host_key: bytes) -> bytes:
        """Return the key of next links."""
        return key_in(self.link_key_file, host_key, "next links")

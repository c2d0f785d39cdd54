"""The settings of the archive (``pacs``)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    Seconds,
    Section,
    Url,
    Wildcards,
)
from sidecar.settings.upstream_auth import NoAuth, UpstreamAuth


class Pacs(Section):
    """The archive's DICOMweb service."""

    url: Url
    """DICOMweb root, for instance http://orthanc:8042/dicom-web."""
    dialect: Literal["generic", "orthanc", "dcm4chee"] = "generic"
    """The product, which decides how the archive is asked."""
    auth: UpstreamAuth = NoAuth(method="none")
    """How we authenticate at the PACS."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for the PACS. null: the system's."""
    timeout_seconds: Seconds = 30
    """Time limit of a query, and of each silence in a retrieval, in seconds."""
    patience_seconds: Seconds | None = 30
    """Seconds that a client waits for a retrieval's first byte.

    Then it gets 503 with Retry-After, and the retrieval goes on in the background. null: off.
    """
    warm_seconds: Seconds = 600
    """Seconds that a query, or a retrieval up to its first byte, may take in the background."""
    warm_retrievals: Annotated[int, Field(ge=1, le=1_000), NO_BOOLEAN] = 16
    """Maximum concurrent retrievals in the background. Each holds a connection to the PACS."""
    ownership_cache_seconds: Seconds = 300
    """Seconds that the patient of a study is remembered."""
    max_results: Annotated[int, Field(ge=1, le=1_000_000), NO_BOOLEAN] = 20_000
    """Maximum rows of one query. More are an error; the result is never cut."""
    max_connections: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = 100
    """Maximum connections to the PACS for retrievals.

    Further retrievals wait. Queries have 32 connections of their own.
    """
    changes_url: Url | None = None
    """orthanc: its REST root, for instance http://orthanc:8042.

    What /changes names there is no longer remembered. null: off.
    """
    changes_seconds: Seconds = 5
    """Seconds between two requests for /changes."""
    generated_issuers: list[Wildcards] = []
    """Issuers of patient IDs that the archive makes up itself, for instance `DCM4CHEE.*` (`*`
    and `?` are wildcards). They count as no issuer. Only for an archive whose patient IDs are
    unique.
    """
    verify_instances: bool = True
    """Check the patient in each instance before it leaves."""
    metadata_row_bytes: Annotated[int, Field(ge=2**16, le=2**31), NO_BOOLEAN] = 16 * 2**20
    """Maximum bytes of the JSON of one instance in a metadata response."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "Pacs":
        if self.patience_seconds is not None and self.patience_seconds > self.warm_seconds:
            raise ValueError("patience_seconds is longer than warm_seconds")
        if self.changes_url is not None and self.dialect != "orthanc":
            raise ValueError("changes_url is for dialect orthanc")
        return self

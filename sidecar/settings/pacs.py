"""The settings of the archive (`pacs`)."""

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
from sidecar.settings.upstream_auth import BasicAuth, BearerClient, NoAuth


class Pacs(Section):
    """The archive's DICOMweb service."""

    url: Url = Field(description="DICOMweb root, for instance http://orthanc:8042/dicom-web")
    dialect: Literal["generic", "orthanc", "dcm4chee"] = Field(
        "generic", description="The product, for its oddities"
    )
    auth: Annotated[NoAuth | BasicAuth | BearerClient, Field(discriminator="method")] = Field(
        NoAuth(method="none"), description="How we authenticate at the PACS"
    )
    ca_file: CertificatesFile | None = Field(
        None, description="Certificate authorities to trust for the PACS, PEM"
    )
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
    ownership_cache_seconds: Seconds = Field(
        300, description="How long a study's patient is remembered"
    )
    max_results: Annotated[int, Field(ge=1, le=1_000_000), NO_BOOLEAN] = Field(
        20_000, description="Rows of one query; more is an error, no cut"
    )
    max_connections: Annotated[int, Field(ge=1, le=10_000), NO_BOOLEAN] = Field(
        100,
        description="For retrievals from the PACS at once; more wait. Queries have 32 of their own",
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
    verify_instances: bool = Field(
        True, description="Read in each instance whose it is, before it leaves"
    )
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

"""``audit``: where AuditEvents go, and how they wait for a repository."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    KeyFile,
    Seconds,
    Section,
    Url,
    key_of,
)
from sidecar.settings.upstream_auth import BasicAuth, BearerClient, NoAuth


class AuditRepository(Section):
    """A FHIR server that takes AuditEvents (IHE RESTful ATNA, ITI-20)."""

    url: Url | None = Field(
        None, description="fhir: base URL of the FHIR server that takes AuditEvents"
    )
    auth: Annotated[NoAuth | BasicAuth | BearerClient, Field(discriminator="method")] = Field(
        NoAuth(method="none"),
        description="How we authenticate there; a token_file is read anew each time",
    )
    ca_file: CertificatesFile | None = Field(
        None, description="Certificate authorities to trust for it, PEM"
    )
    timeout_seconds: Seconds = Field(10, description="For each request to it")
    batch_size: Annotated[int, Field(ge=1, le=1_000), NO_BOOLEAN] = Field(
        100,
        description="Most events in one request, a Bundle of type batch; 1: each alone, for servers without batches",
    )
    interaction: Literal["create", "update"] = Field(
        "create",
        description="update: under ids of ours, so that an event that is told twice after a crash is there once",
    )


class AuditSpool(Section):
    """Where events wait for the repository."""

    folder: Path | None = Field(
        None, description="fhir: of its own, on a disk that outlives this process"
    )
    max_bytes: Annotated[int, Field(ge=2**20, le=2**36), NO_BOOLEAN] = Field(
        2**30, description="Most that may wait"
    )
    sync: bool = Field(
        False,
        description="Survive a power cut, too: flush the disk for each event before the answer",
    )


class Audit(Section):
    """AuditEvents, a line each."""

    sink: Literal["none", "stdout", "file", "fhir"] = Field(
        "none", description="Where AuditEvents go: JSON lines, or a FHIR server"
    )
    file: Path | None = Field(
        None, description="file: appended to; opened anew when logrotate moved it"
    )
    repository: AuditRepository = AuditRepository()
    spool: AuditSpool = AuditSpool()
    when_full: Literal["refuse", "drop_oldest"] = Field(
        "refuse",
        description="fhir, with a full spool: answer nothing more (503), or give up the oldest events",
    )
    key_file: KeyFile | None = Field(
        None,
        description="Key of the tokens' hashes; null: a new one at each start, for that process alone",
    )
    site: str | None = Field(
        None, min_length=1, description="AuditEvent.source.site, for instance the hospital"
    )

    @model_validator(mode="after")
    def _what_the_sink_needs(self) -> "Audit":
        if (self.sink == "file") != (self.file is not None):
            raise ValueError("sink file needs file, and file needs sink file")
        given = self.repository.url is not None, self.spool.folder is not None
        if self.sink == "fhir" and not all(given):
            raise ValueError("sink fhir needs repository.url and spool.folder")
        if self.sink != "fhir" and any(given):
            raise ValueError("repository and spool are for sink fhir")
        return self

    def key(self) -> bytes:
        """The key of the tokens' hashes."""
        return key_of(self.key_file)

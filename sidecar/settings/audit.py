"""The settings of the audit trail (``audit``)."""

from pathlib import Path
from typing import Annotated, Literal

from sidecar.settings.section import Section
from sidecar.settings.types import (
    CertificatesFile,
    KeyFile,
    Text,
    Url,
    key_in,
    needs_each_other,
    number,
)
from sidecar.settings.upstream_auth import NoAuth, UpstreamAuth


class AuditRepository(Section):
    """A FHIR server that takes AuditEvents (IHE RESTful ATNA, ITI-20)."""

    url: Url | None = None
    """fhir: base URL of the FHIR server that takes AuditEvents."""
    auth: UpstreamAuth = NoAuth(method="none")
    """How we authenticate there. A token_file is read again for each request."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for it. null: the system's."""
    batch_size: Annotated[int, number("events", ge=1, le=1_000)] = 100
    """Maximum events in one request, a Bundle of type batch. Further ones are in the next request.

    1: each event is sent alone, for servers without batches.
    """
    interaction: Literal["create", "update"] = "create"
    """update: events are stored under ids of ours, so that an event that is sent twice after a
    crash is stored once.
    """
    patient_reference: Literal["absolute", "relative", "logical"] = "logical"
    """How events name a patient of the EHR, also those in a file.

    logical: by an identifier, the URL there, which every server takes. absolute: a reference by
    URL, which HAPI refuses unless it is told otherwise. relative: for a server that has the EHR's
    patients under the same ids.
    """


class AuditSpool(Section):
    """The folder in which events wait for the repository."""

    folder: Path | None = None
    """fhir: folder for the spool alone, on a disk that outlives this process."""
    max_bytes: Annotated[int, number("bytes", ge=2**26, le=2**36)] = 2**30
    """Maximum bytes of events that wait. audit.when_full says what happens beyond."""
    sync: bool = False
    """Flush each event to the disk before the answer, so that it survives a power cut."""


class Audit(Section):
    """Where AuditEvents go, and how they get there."""

    sink: Literal["none", "stdout", "file", "fhir"] = "none"
    """Where AuditEvents go. stdout and file get JSON lines; fhir is a FHIR server."""
    file: Path | None = None
    """file: the file that is appended to. It is opened again after logrotate moved it."""
    repository: AuditRepository = AuditRepository()
    spool: AuditSpool = AuditSpool()
    when_full: Literal["refuse", "drop_oldest"] = "refuse"
    """fhir: what happens when the spool is full.

    refuse: requests get 503. drop_oldest: the oldest events are lost.
    """
    key_file: KeyFile | None = None
    """File with the key of the hashes of tokens.

    null: a new key at each start.
    """
    site: Text | None = None
    """AuditEvent.source.site, for instance the hospital."""

    def __post_init__(self) -> None:
        needs_each_other("sink file", is_chosen=self.sink == "file", key="file", value=self.file)
        given = self.repository.url is not None, self.spool.folder is not None
        if self.sink == "fhir" and not all(given):
            raise ValueError("sink fhir needs repository.url and spool.folder")
        if self.sink != "fhir" and any(given):
            raise ValueError("repository and spool are for sink fhir")

    def key(self, host_key: bytes) -> bytes:
        """Return the key of the hashes of tokens."""
        return key_in(self.key_file, host_key, "hashes of tokens")

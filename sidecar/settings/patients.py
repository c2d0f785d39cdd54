"""The settings of the mapping from FHIR Patients to PatientIDs (``patients``)."""

from typing import Annotated, Literal

from sidecar.settings.section import Section
from sidecar.settings.types import ByMethod, Text, Uri
from sidecar.settings.upstream_auth import BackendServicesClient, BearerClient, NoAuth


class PatientIdentifierSystem(Section):
    """An identifier system of the EHR whose values are PatientIDs at the PACS."""

    system: Uri
    """URI: Patient.identifier.system whose values are PatientIDs."""
    issuer: Text | None = None
    """IssuerOfPatientID of these identifiers, which the PACS must name.

    null: the PatientID is compared alone.
    """


class Patients(Section):
    """The mapping from the FHIR Patient to the PACS's PatientIDs."""

    mapping: Literal["direct", "ehr"] = "direct"
    """direct: Patient.id is the PatientID. ehr: Patient.identifier is read at the EHR."""
    issuer: Text | None = None
    """direct: IssuerOfPatientID of all patients, which the PACS must name.

    null: the PatientID is compared alone.
    """
    identifiers: tuple[PatientIdentifierSystem, ...] = ()
    """ehr: the identifiers that are PatientIDs."""
    client: Annotated[NoAuth | BearerClient | BackendServicesClient, ByMethod()] = NoAuth(
        method="none"
    )
    """ehr: our own credentials for reading Patient."""

    def __post_init__(self) -> None:
        if self.mapping == "ehr" and not self.identifiers:
            raise ValueError("mapping ehr needs at least one entry in identifiers")
        if self.mapping == "direct" and self.identifiers:
            # Else a forgotten `mapping: ehr` would take one number for another.
            raise ValueError("identifiers are for mapping ehr, but mapping is direct")
        if self.mapping == "ehr" and self.issuer is not None:
            raise ValueError(
                "issuer is for mapping direct; with mapping ehr each of identifiers has its own"
            )
        if len({entry.system for entry in self.identifiers}) < len(self.identifiers):
            raise ValueError("a system stands twice in identifiers")

"""The settings of the mapping from FHIR Patients to PatientIDs (`patients`)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidecar.settings.types import (
    Seconds,
    Section,
)
from sidecar.settings.upstream_auth import BackendServicesClient, BearerClient, NoClient


class PatientIdentifierSystem(Section):
    """An identifier system of the EHR whose values are PatientIDs at the PACS."""

    system: str = Field(
        min_length=1, description="Patient.identifier.system whose values are PatientIDs"
    )
    issuer: str | None = Field(
        None,
        min_length=1,
        description="IssuerOfPatientID of these: the PACS must name it; null: the number alone",
    )


class Patients(Section):
    """From the FHIR Patient to the PACS's PatientIDs."""

    mapping: Literal["direct", "ehr"] = Field(
        "direct",
        description="direct: Patient.id is the PatientID; ehr: read Patient.identifier at the EHR",
    )
    issuer: str | None = Field(
        None,
        min_length=1,
        description="direct: IssuerOfPatientID of all: the PACS must name it; null: the number alone",
    )
    identifiers: list[PatientIdentifierSystem] = Field(
        [], description="ehr: which identifiers are PatientIDs"
    )
    client: Annotated[
        NoClient | BearerClient | BackendServicesClient, Field(discriminator="method")
    ] = Field(NoClient(method="none"), description="ehr: our own access for reading Patient")
    cache_ttl_seconds: Seconds = Field(
        300, description="How long a patient's identifiers are remembered"
    )

    @model_validator(mode="after")
    def _systems_fit_the_mapping(self) -> "Patients":
        if self.mapping == "ehr" and not self.identifiers:
            raise ValueError("mapping ehr needs at least one entry in identifiers")
        if self.mapping == "direct" and self.identifiers:
            # Else a forgotten `mapping: ehr` would take one number for another.
            raise ValueError("identifiers are for mapping ehr, but mapping is direct")
        if self.mapping == "ehr" and self.issuer is not None:
            raise ValueError(
                "issuer is for mapping direct; with mapping ehr each of identifiers has its own"
            )
        if len({one.system for one in self.identifiers}) < len(self.identifiers):
            raise ValueError("a system stands twice in identifiers")
        return self

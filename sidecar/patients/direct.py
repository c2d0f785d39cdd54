"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass

from sidecar.access.decision import decide_owners
from sidecar.access.facts import KnownAs, PatientIdentifier, is_fhir_id


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """Map each patient of an EHR to its ``Patient.id`` as PatientID, of this ``issuer``."""

    issuer: str | None = None

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the FHIR id as the patient's only identifier: it has no wildcards."""
        return frozenset({PatientIdentifier(patient, self.issuer)})

    async def known_as(self, owners: KnownAs) -> frozenset[str]:
        """Return the PatientID, if it is one of this issuer and may be a FHIR id."""
        patients = {owner.patient_id for owner in owners if is_fhir_id(owner.patient_id)}
        return frozenset(
            patient
            for patient in patients
            if decide_owners(owners, frozenset({PatientIdentifier(patient, self.issuer)})) is None
        )

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return the PatientID of an identifier in a FHIR search, none if it has a system."""
        return frozenset({PatientIdentifier(value, self.issuer)} if system is None else ())

    async def close(self) -> None:
        """Do nothing: no query is under way."""

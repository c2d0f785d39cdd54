"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass

from sidecar.access.facts import PatientIdentifier


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """Map each patient of an EHR to its ``Patient.id`` as PatientID, of this ``issuer``."""

    issuer: str | None = None

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the FHIR id as the patient's only identifier: it has no wildcards."""
        return frozenset({PatientIdentifier(patient, self.issuer)})

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return the PatientID of an identifier in a FHIR search, none if it has a system."""
        return frozenset({PatientIdentifier(value, self.issuer)} if system is None else ())

    async def close(self) -> None:
        """Do nothing: no query is under way."""

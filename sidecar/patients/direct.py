"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass

from sidecar.access.identity import PatientIdentifier


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """For sites whose EHR uses the medical record number as ``Patient.id``; ``issuer`` of all those numbers."""

    issuer: str | None = None

    async def identifiers(self, patient: str) -> frozenset[PatientIdentifier]:
        """Return the one identifier. A FHIR id has no characters that would match more in a query."""
        return frozenset({PatientIdentifier(patient, self.issuer)})

    async def close(self) -> None:
        """Nothing is under way."""

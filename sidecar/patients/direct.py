"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass

from sidecar.access.facts import PatientIdentifier


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """Map patients of an EHR whose ``Patient.id`` is the PatientID, of this ``issuer``."""

    issuer: str | None = None

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the one identifier: a FHIR id has no wildcards."""
        return frozenset({PatientIdentifier(patient, self.issuer)})

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return the PatientID of an identifier in a FHIR search: it has no system."""
        return frozenset({PatientIdentifier(value, self.issuer)} if system is None else ())

    async def close(self) -> None:
        """Do nothing: no query is under way."""

"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass

from sidecar.access.facts import PatientIdentifier


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """For sites whose EHR uses the medical record number as ``Patient.id``.

    ``issuer`` of all those numbers.
    """

    issuer: str | None = None

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the one identifier.

        A FHIR id has no characters that would match more in a query.
        """
        return frozenset({PatientIdentifier(patient, self.issuer)})

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """What an identifier of a FHIR search is at the PACS: these numbers are of no system."""
        return frozenset({PatientIdentifier(value, self.issuer)} if system is None else ())

    async def close(self) -> None:
        """Nothing is under way."""

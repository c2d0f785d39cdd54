"""What a mapping from FHIR Patients to PatientIDs offers."""

from typing import Protocol

from sidecar.access.facts import PatientIdentifier


class PatientMapping(Protocol):
    """FHIR Patient id -> identifiers at the PACS (``patients``)."""

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the identifiers, possibly none.

        ``fresh``: not those that are kept (at a limited rate).
        """

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """What an identifier that a FHIR search names is at the PACS, possibly nothing."""

    async def close(self) -> None:
        """End what is under way."""

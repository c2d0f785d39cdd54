"""The interface of mappings from FHIR Patients to PatientIDs."""

from typing import Protocol

from sidecar.access.facts import KnownAs, PatientIdentifier


class PatientMapping(Protocol):
    """Map a FHIR Patient id to identifiers at the PACS (``patients``)."""

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the identifiers, possibly none. ``fresh``: read them anew, at a limited rate."""

    async def known_as(self, owners: KnownAs) -> frozenset[str]:
        """Return the FHIR ids of the patients whom the PACS knows by all of ``owners``."""

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return what an identifier in a FHIR search is at the PACS, possibly nothing."""

    async def close(self) -> None:
        """Cancel the queries that are under way."""

"""Mapping ``direct``: the FHIR id is the PatientID."""

from dataclasses import dataclass
from functools import lru_cache

from sidecar.access.facts import PatientIdentifier


@dataclass(frozen=True, slots=True)
class DirectMapping:
    """Map each patient of an EHR to its ``Patient.id`` as PatientID, of this ``issuer``."""

    issuer: str | None = None

    async def identifiers(
        self, patient: str, *, fresh: bool = False
    ) -> frozenset[PatientIdentifier]:
        """Return the FHIR id as the patient's only identifier: it has no wildcards."""
        return _identifiers(patient, self.issuer)

    def named(self, system: str | None, value: str) -> frozenset[PatientIdentifier]:
        """Return the PatientID of an identifier in a FHIR search, none if it has a system."""
        return frozenset({PatientIdentifier(value, self.issuer)} if system is None else ())

    async def close(self) -> None:
        """Do nothing: no query is under way."""


@lru_cache(maxsize=4_096)
def _identifiers(patient: str, issuer: str | None) -> frozenset[PatientIdentifier]:
    # The same object each time: keys of caches that have it are then equal without a comparison.
    return frozenset({PatientIdentifier(patient, issuer)})

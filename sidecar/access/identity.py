"""Are these two the same patient? The compare that everything rests on."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """A PatientID (0010,0020) and, when known, its IssuerOfPatientID (0010,0021).

    Both are LO (PS3.5 6.2): leading and trailing spaces do not count, case does.
    """

    patient_id: str
    issuer: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patient_id", self.patient_id.strip(" "))
        object.__setattr__(self, "issuer", (self.issuer or "").strip(" ") or None)

    def is_searchable(self) -> bool:
        r"""Whether a PACS can be asked for exactly this PatientID.

        ``*`` and ``?`` are wildcards in a query and ``\`` separates values (PS3.4 C.2.2.2): such an ID would match
        other people. Control characters and more than 64 characters are not LO.
        """
        return (
            0 < len(self.patient_id) <= 64 and self.patient_id.isprintable() and not set("*?\\") & set(self.patient_id)
        )

    def same_patient(self, other: "PatientIdentifier") -> bool:
        """Same PatientID to the letter, and same issuer when both sides know one. An empty ID is nobody's."""
        if not self.patient_id or self.patient_id != other.patient_id:
            return False
        return self.issuer is None or other.issuer is None or self.issuer == other.issuer


def is_one_of(identifier: PatientIdentifier, patient: Iterable[PatientIdentifier]) -> bool:
    """Whether ``identifier`` is one of the identifiers that ``patient`` is known by."""
    return any(identifier.same_patient(known) for known in patient)

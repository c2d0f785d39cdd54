"""Are these two the same patient? The compare that everything rests on."""

from collections.abc import Collection, Iterable
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
        r"""Whether this can be a PatientID: an LO (PS3.5 6.2), to be asked for (``Dialect.query``) and compared.

        ``\`` separates values, so that no single one has it. Control characters and more than 64 characters are not LO.
        """
        return 0 < len(self.patient_id) <= 64 and self.patient_id.isprintable() and "\\" not in self.patient_id

    def is_of(self, known: "PatientIdentifier") -> bool:
        """Whether this, as an archive's database has it, is a patient who is ``known`` so.

        Same PatientID to the letter, an empty one is nobody's; and when an issuer is known, the database must have that
        one: a patient of another issuer, or of none, may be somebody else.
        """
        same_id = bool(self.patient_id) and self.patient_id == known.patient_id
        return same_id and known.issuer in (None, self.issuer)

    def may_be(self, known: "PatientIdentifier") -> bool:
        """Whether this, as an image itself says it, does not speak against ``known``: images often name no issuer."""
        return self.is_of(known) or (self.issuer is None and self.is_of(PatientIdentifier(known.patient_id)))


def is_one_of(identifier: PatientIdentifier, patient: Iterable[PatientIdentifier]) -> bool:
    """Whether ``identifier``, from the archive's database, is one of those that ``patient`` is known by."""
    return any(identifier.is_of(known) for known in patient)


def all_are_one_of(identifiers: Collection[PatientIdentifier], patient: Collection[PatientIdentifier]) -> bool:
    """Whether there are ``identifiers``, and each is one of those that ``patient`` is known by."""
    return bool(identifiers) and all(is_one_of(identifier, patient) for identifier in identifiers)


def is_shared(identifiers: Collection[PatientIdentifier], patient: Collection[PatientIdentifier]) -> bool:
    """Whether some of ``identifiers`` are those that ``patient`` is known by, and others are not."""
    own = sum(is_one_of(identifier, patient) for identifier in identifiers)
    return 0 < own < len(identifiers)


def all_may_be_one_of(identifiers: Collection[PatientIdentifier], patient: Collection[PatientIdentifier]) -> bool:
    """Whether there are ``identifiers``, from images themselves, and none speaks against its being this patient."""
    return bool(identifiers) and all(any(one.may_be(known) for known in patient) for one in identifiers)

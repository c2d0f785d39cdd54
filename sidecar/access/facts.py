"""The facts that a decision rests on: patient, token, site, study, instance. Pure data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple

from sidecar.access.scopes import Grant


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
        r"""Return whether this can be a PatientID, to be searched for and compared.

        A PatientID is an LO (PS3.5 6.2) of 1 to 64 characters, none of them a control character.
        ``\`` separates values, so that no single one has it.
        """
        return (
            0 < len(self.patient_id) <= 64
            and self.patient_id.isprintable()
            and "\\" not in self.patient_id
        )

    def is_of(self, known: "PatientIdentifier") -> bool:
        """Return whether this, from an archive's database, is a patient who is ``known`` so.

        The PatientID must be the same to the letter, and an empty one is nobody's. When an issuer
        is known, the database must have that one: a patient of another issuer, or of none, may be
        somebody else.
        """
        same_id = bool(self.patient_id) and self.patient_id == known.patient_id
        return same_id and known.issuer in (None, self.issuer)

    def may_be(self, known: "PatientIdentifier") -> bool:
        """Return whether this, from an image itself, does not contradict ``known``.

        Images often name no issuer.
        """
        return self.is_of(known) or (
            self.issuer is None and self.is_of(PatientIdentifier(known.patient_id))
        )


KnownAs = frozenset[PatientIdentifier]
"""All identifiers by which the archive may know one patient."""


class Effect(StrEnum):
    """What a rule does with what it applies to."""

    EXCLUDE = "exclude"
    HOLD = "hold"
    SHOW = "show"


Conditions = Mapping[str, tuple[str, ...]]
"""DICOM keyword -> patterns, one of which a value must match; all keywords must hold.

Patterns have ``*`` and ``?`` (PS3.4 C.2.2.2.4), case does not count; those of ``StudyDate`` are
dates and ranges (``20240101-20241231``, ``-20241231``, ``20240101-``; PS3.4 C.2.2.2.5).
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One of ``access.rules``. ``hours``: for which a study is held, after its beginning.

    ``unknown_applies``: the rule also applies where an attribute has no value.
    """

    name: str
    effect: Effect
    study: Conditions
    series: Conditions
    hours: float
    unknown_applies: bool


Attributes = Mapping[str, tuple[str, ...]]
"""DICOM keyword -> values as text.

A keyword that is missing has no value, or the archive does not return it.
"""


@dataclass(frozen=True, slots=True)
class DescribedSeries:
    """A series of a study."""

    uid: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the hospital's own policy (``access.external``) says of a study for a caller."""

    allow: bool
    exclude_series: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DescribedStudy:
    """A study as the archive describes it.

    ``started_by``: the last moment at which it can have begun (StudyDate, StudyTime), in seconds
    since 1970, ``None``: unknown. ``satisfies``: those constraints of the token's scopes that it
    satisfies. ``verdicts``: those of the external policy, where there is one, by the context of the
    scope (``patient``, …).
    """

    attributes: Attributes
    series: tuple[DescribedSeries, ...] = ()
    started_by: float | None = None
    satisfies: frozenset[str] = field(default_factory=frozenset)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the site has switched on (``access`` in the settings)."""

    app_launch: bool
    user_level: bool
    backend_services: bool
    rules: tuple[Rule, ...]
    external: bool


@dataclass(frozen=True, slots=True)
class BackendClient:
    """What a backend client was given.

    ``patients``: their FHIR ids. ``studies``: of theirs those where these conditions hold.
    ``rules``: the site's rules hold for it.
    """

    patients: frozenset[str]
    studies: Conditions
    rules: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the validated token says."""

    client_id: str | None = None
    subject: str | None = None
    issuer: str | None = None


NO_CLIENT = BackendClient(frozenset(), {}, rules=True)
"""A client that was given nothing."""


_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def is_fhir_id(text: str) -> bool:
    """Return whether ``text`` is a FHIR R4 ``id`` (https://hl7.org/fhir/R4/datatypes.html#id)."""
    return _FHIR_ID.fullmatch(text) is not None and text.strip(".") != ""


@dataclass(frozen=True, slots=True)
class Token:
    """What the authorization server says of an active token (RFC 7662; SIA-10).

    ``patient`` is the FHIR id of the launch's patient, ``None`` without patient context;
    ``expires_at`` is in seconds since 1970 (``exp``).
    """

    grants: tuple[Grant, ...]
    expires_at: float
    patient: str | None = None
    client_id: str | None = None
    subject: str | None = None
    issuer: str | None = None

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return Caller(self.client_id, self.subject, self.issuer)


class Part(NamedTuple):
    """A study of the archive, or a series or an instance in it."""

    study: str
    series: str | None = None
    instance: str | None = None

    def covers(self, other: "Part") -> bool:
        """Return whether ``other`` is this part, or is in it."""
        return (
            other.study == self.study
            and self.series in (None, other.series)
            and self.instance in (None, other.instance)
        )


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What the decision on a patient rests on, beside the token.

    ``client``: what the token's client was given for Backend Services, ``None``: nothing.
    ``understood``: those constraints of the token's scopes that can be evaluated; a scope with
    another one permits nothing (SIA-11, 16). ``now``: in seconds since 1970.
    """

    policy: Policy
    client: BackendClient | None
    understood: frozenset[str]
    now: float


class AnswerKind(Enum):
    """How much an answer contains of the part that is asked for, and what of it is checked."""

    LISTED = "listed"
    """Rows: each is checked, and what is excluded is left out."""
    NAMED = "named"
    """Everything, in instances or rows that name their patient: each is checked as it passes."""
    UNNAMED = "unnamed"
    """Everything, without a patient's name (frames, bulk data): instances are opened before."""
    DRAWN = "drawn"
    """A whole study, drawn (rendered, thumbnail): it names neither patient nor series."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the PACS says of a study UID.

    ``owners``: the patients of every study that the PACS has under this UID. ``part_found``:
    whether the series and the instance asked for are in it (not looked for, hence false, in a study
    that is not the patient's). ``inside``: the patients that instances of the part name in
    themselves, one instance of each series, ``None``: not looked at yet.
    """

    owners: KnownAs
    part_found: bool
    inside: KnownAs | None


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """Patient and UIDs in the header of an instance."""

    patient: PatientIdentifier
    study: str
    series: str
    instance: str

    @property
    def part(self) -> Part:
        """The instance, by its UIDs."""
        return Part(self.study, self.series, self.instance)

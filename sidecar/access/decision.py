"""The whole decision. Read this file and you have read who may see what.

It is made in two steps, because the second needs facts that only a permitted caller is worth an upstream call for:

1. ``decide_patient``: does this token reach this patient's imaging at all? (SIA-10..16, 22)
2. ``decide_study``: is this study, with the series and instance asked for in it, that patient's? (SIA-42, 45)

Both are pure: same facts, same answer. ``PatientPermit`` and ``StudyPermit`` are made here and nowhere else, and the
rooms that fetch and stream take them as arguments: nothing can be fetched that was not permitted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sidecar.access.identity import PatientIdentifier, all_are_one_of
from sidecar.access.scopes import Context, Grant
from sidecar.access.token import Token


class Interaction(StrEnum):
    """What the caller wants to do: a search needs ``s``, a read or a retrieval needs ``r`` (SIA-11)."""

    SEARCH = "search"
    READ = "read"
    RETRIEVE = "retrieve"


class Reason(StrEnum):
    """Why a request was refused: metric label, log field and audit code. Statuses are in ``STATUS``."""

    MISSING_TOKEN = "missing_token"
    MALFORMED_TOKEN = "malformed_token"
    INACTIVE_TOKEN = "inactive_token"
    EXPIRED_TOKEN = "expired_token"
    APP_LAUNCH_OFF = "app_launch_off"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    CONSTRAINED_SCOPE = "constrained_scope"
    NO_PATIENT_CONTEXT = "no_patient_context"
    OTHER_PATIENT = "other_patient"
    ABSENT = "absent"
    FOREIGN = "foreign"
    NOT_IN_STUDY = "not_in_study"


STATUS: dict[Reason, int] = {
    Reason.MISSING_TOKEN: 401,
    Reason.MALFORMED_TOKEN: 401,
    Reason.INACTIVE_TOKEN: 401,
    Reason.EXPIRED_TOKEN: 401,
    Reason.APP_LAUNCH_OFF: 403,
    Reason.INSUFFICIENT_SCOPE: 403,
    Reason.CONSTRAINED_SCOPE: 403,
    Reason.NO_PATIENT_CONTEXT: 403,
    Reason.OTHER_PATIENT: 403,
    # The next three are one and the same to the caller (SIA-45).
    Reason.ABSENT: 404,
    Reason.FOREIGN: 404,
    Reason.NOT_IN_STUDY: 404,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the site has switched on (``access`` in the settings)."""

    app_launch: bool = True


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused, and why."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class PatientPermit:
    """The caller may do ``interaction`` on the imaging of ``patient`` (FHIR id)."""

    patient: str
    interaction: Interaction


@dataclass(frozen=True, slots=True)
class Part:
    """What of the archive is asked for: a study, or a series or an instance in it."""

    study: str
    series: str | None = None
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the PACS says of a study UID.

    ``owners``: the patients of every study that the PACS has under this UID; ``part_found``: whether the series and
    the instance asked for are in it (not looked for, hence false, in a study that is not the patient's).
    """

    owners: frozenset[PatientIdentifier]
    part_found: bool


@dataclass(frozen=True, slots=True)
class StudyPermit:
    """``part`` of the archive is the permitted patient's and may be fetched."""

    patient: str
    part: Part


def decide_patient(
    token: Token, interaction: Interaction, patient: str | None, *, policy: Policy, now: float
) -> PatientPermit | Deny:
    """Step 1. ``patient`` is the FHIR id in the request, ``None`` for the token's own; ``now`` in seconds."""
    if not now < token.expires_at:  # Not ">=": an expiry that cannot be compared (NaN) must not permit for ever.
        return Deny(Reason.EXPIRED_TOKEN)
    if not policy.app_launch:
        return Deny(Reason.APP_LAUNCH_OFF)
    # Only patient/ grants count: system/ and user/ scopes alone give nothing (SIA-13, 14).
    grants = [grant for grant in token.grants if grant.context is Context.PATIENT and _covers(grant, interaction)]
    if not grants:
        return Deny(Reason.INSUFFICIENT_SCOPE)
    if all(grant.constraint is not None for grant in grants):
        # Constraints (?modality=CT) are not evaluated yet: what cannot be evaluated permits nothing (SIA-11, 16).
        return Deny(Reason.CONSTRAINED_SCOPE)
    if token.patient is None:
        return Deny(Reason.NO_PATIENT_CONTEXT)
    if patient is not None and patient != token.patient:
        return Deny(Reason.OTHER_PATIENT)
    return PatientPermit(token.patient, interaction)


def decide_study(
    permit: PatientPermit, part: Part, known_as: Iterable[PatientIdentifier], facts: StudyFacts
) -> StudyPermit | Deny:
    """Step 2. ``known_as``: every identifier by which the PACS may know the permitted patient."""
    if not facts.owners:
        return Deny(Reason.ABSENT)
    # Every study under this UID must be the patient's: a PACS may hold one UID for two people (a copy, a mistake),
    # and a retrieval by UID could then bring either.
    if not all_are_one_of(facts.owners, tuple(known_as)):
        return Deny(Reason.FOREIGN)
    if not facts.part_found:
        return Deny(Reason.NOT_IN_STUDY)
    return StudyPermit(permit.patient, part)


def _covers(grant: Grant, interaction: Interaction) -> bool:
    return grant.search if interaction is Interaction.SEARCH else grant.read

"""The whole decision, in the order in which a request meets it (docs/authorization.md).

Same facts, same answer. This file alone makes permits (``tests/access/test_permits.py``).
"""

import hmac
from collections.abc import Collection, Iterable

from sidecar.access.facts import (
    NO_CLIENT,
    AnswerKind,
    InstanceHeader,
    KnownAs,
    Part,
    PatientFacts,
    PatientIdentifier,
    StudyFacts,
    Token,
)
from sidecar.access.permits import (
    ALL_STUDIES,
    AllStudies,
    Capability,
    Deny,
    GrantPath,
    HeaderPermit,
    Interaction,
    Operation,
    PatientPermit,
    SearchPermit,
    StudyPermit,
    includes,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import ScopeContext
from sidecar.access.visibility import WHOLE_STUDY, Hidden, Visible


def decide_patient(
    token: Token, interaction: Interaction, patient: str | None, facts: PatientFacts
) -> PatientPermit | Deny:
    """Permit ``interaction`` on the imaging of ``patient`` (FHIR id, ``None``: the token's own)."""
    policy = facts.policy
    if not facts.now < token.expires_at:  # Not ">=": an expiry of NaN must not permit for ever.
        return Deny(Reason.EXPIRED_TOKEN)
    covering = [grant for grant in token.grants if grant.covers(interaction is Interaction.SEARCH)]
    usable = [grant for grant in covering if grant.constraint in (None, *facts.understood)]
    # SMART App Launch (SIA-12): for the patient of the launch alone.
    contexts = {ScopeContext.PATIENT} | ({ScopeContext.USER} if policy.user_level else set())
    launch = [
        GrantPath(grant.constraint, {}, policy.rules, grant.context.value)
        for grant in usable
        if grant.context in contexts
    ]
    launch_refused = _first_reason(
        (contexts.isdisjoint(grant.context for grant in covering), Reason.INSUFFICIENT_SCOPE),
        (not policy.app_launch, Reason.APP_LAUNCH_OFF),
        (not launch, Reason.CONSTRAINED_SCOPE),
        (token.patient is None, Reason.NO_PATIENT_CONTEXT),  # Never system-level access (SIA-14).
        (patient not in (None, token.patient), Reason.OTHER_PATIENT),
    )
    # Backend Services (SIA-13): for the patients that the client was given, each by name.
    given = facts.client or NO_CLIENT
    system = [grant for grant in covering if grant.context is ScopeContext.SYSTEM]
    rules = policy.rules if given.rules else ()
    backend = [
        GrantPath(grant.constraint, given.studies, rules, grant.context.value)
        for grant in system
        if grant in usable
    ]
    backend_refused = _first_reason(
        (not (system and policy.backend_services), Reason.INSUFFICIENT_SCOPE),
        (facts.client is None, Reason.UNKNOWN_CLIENT),
        (not backend, Reason.CONSTRAINED_SCOPE),
        (patient is None, Reason.NO_PATIENT_NAMED),
        (patient not in given.patients, Reason.NOT_THE_CLIENTS_PATIENT),
    )
    permitted = ([] if launch_refused else launch) + ([] if backend_refused else backend)
    if permitted and (whose := token.patient if patient is None else patient) is not None:
        paths = tuple(path for at, path in enumerate(permitted) if path not in permitted[:at])
        return PatientPermit(whose, interaction, paths, token.caller if policy.external else None)
    may_be_named = backend_refused is Reason.NO_PATIENT_NAMED
    of_client = may_be_named or launch_refused is Reason.INSUFFICIENT_SCOPE  # Else one for apps.
    return Deny((backend_refused if of_client else launch_refused) or Reason.INSUFFICIENT_SCOPE)


def _first_reason(*conditions: tuple[bool, Reason]) -> Reason | None:
    return next((reason for holds, reason in conditions if holds), None)


def decide_capability(
    capability: Capability, study: str | None, operation: Operation, *, shown: bytes, now: float
) -> Deny | None:
    """Return why a capability URL does not cover a request, ``None`` when it does (SIA-50..52).

    ``study``: what the request names, ``None``: any. ``shown``: hash of the request's valid token.
    """
    if not now < capability.expires_at:
        return Deny(Reason.EXPIRED_CAPABILITY)
    if not hmac.compare_digest(shown, capability.token_hash):
        return Deny(Reason.OTHER_TOKEN)
    if study not in (None, capability.study):
        return Deny(Reason.ABSENT)
    return None if operation in capability.operations else Deny(Reason.NOT_IN_CAPABILITY)


def decide_identifiers(
    permit: PatientPermit, known_as: KnownAs, named: Iterable[KnownAs]
) -> SearchPermit | Deny:
    """Permit searches by ``known_as``, all identifiers by which the archive may know the patient.

    Each of ``named``, what an identifier in the request is in the archive, must be among them.
    """
    if not all(identifiers & known_as for identifiers in named):
        return Deny(Reason.OTHER_PATIENT)
    return SearchPermit(permit.patient, known_as)


def decide_read(named: str, own: Collection[str], shared: Collection[str]) -> Deny | None:
    """Return why the FHIR resource ``named`` is not to be read, unless it is of ``own`` (SIA-45).

    ``shared``: studies that are another patient's, too.
    """
    return None if named in own else Deny(Reason.SHARED_UID if named in shared else Reason.ABSENT)


def is_unambiguous(issuers: Collection[str | None]) -> bool:
    """Return whether a PatientID that the archive has under these issuers is one person's."""
    return len(set(issuers)) <= 1


def decide_visible(
    permit: PatientPermit, part: Part, seen: Visible | Hidden | AllStudies, answer: AnswerKind
) -> Visible | Deny:
    """Return what may be seen of ``part``; where all of a study is fetched, all of it (SIA-43).

    ``seen`` is what ``visibility`` leaves of it; ``ALL_STUDIES`` is for a permit without limits.
    """
    if seen is ALL_STUDIES:
        return Deny(Reason.NOT_SHOWN) if permit.is_limited else WHOLE_STUDY
    if isinstance(seen, Hidden):
        return Deny(seen.reason)
    if not is_shown(seen, part.series):
        return Deny(Reason.NOT_SHOWN)
    # Nor may anything be drawn of some series alone: one that came since would go unnoticed.
    left_out = not seen.is_complete or (answer is AnswerKind.DRAWN and seen.is_limited)
    if answer is not AnswerKind.LISTED and part.series is None and left_out:
        return Deny(Reason.PARTLY_EXCLUDED, seen.named_series)
    return seen


def decide_owners(owners: KnownAs, known_as: KnownAs) -> Deny | None:
    """Return why the studies under one UID that have these ``owners`` are refused, if they are."""
    if not owners:
        return Deny(Reason.ABSENT)
    # An archive may hold one UID for two people (a copy, a mistake): a retrieval brings either.
    own = [any(owner.is_of(known) for known in known_as) for owner in owners]
    return None if all(own) else Deny(Reason.SHARED_UID if any(own) else Reason.FOREIGN)


def are_own_instances(named: Collection[PatientIdentifier], known_as: KnownAs) -> bool:
    """Return whether instances that name these patients inside are all the patient's."""
    return bool(named) and all(any(who.may_be(known) for known in known_as) for who in named)


def decide_study(
    permit: SearchPermit, part: Part, seen: Visible, facts: StudyFacts, answer: AnswerKind
) -> StudyPermit | HeaderPermit | Deny:
    """Permit ``part``, of which ``seen`` may be seen.

    An ``answer`` that names no patient needs ``facts.inside``: a ``HeaderPermit`` to find them.
    """
    if (refused := decide_owners(facts.owners, permit.known_as)) is not None:
        return refused
    if not facts.part_found:
        return Deny(Reason.NOT_IN_STUDY)
    if answer in (AnswerKind.UNNAMED, AnswerKind.DRAWN):
        if facts.inside is None:
            return HeaderPermit(permit.patient, part, permit.known_as)
        if not are_own_instances(facts.inside, permit.known_as):
            return Deny(Reason.FOREIGN)
    return StudyPermit(permit.patient, part, seen.series, permit.known_as)


def decide_instance(permit: StudyPermit, header: InstanceHeader) -> Deny | None:
    """Return why an instance with this ``header`` must not pass, ``None`` when it may."""
    is_theirs = are_own_instances((header.patient,), permit.known_as)
    if not (is_theirs and permit.part.covers(header.part)):
        return Deny(Reason.FOREIGN)
    return None if includes(permit.series, header.series) else Deny(Reason.NOT_SHOWN)


def is_shown(seen: Visible | Hidden, series: str | None) -> bool:
    """Return whether a row of a study, or of this ``series`` of it, may be seen."""
    return isinstance(seen, Visible) and (series is None or includes(seen.series, series))


def is_own_row(owner: PatientIdentifier | None, known_as: KnownAs, *, unnamed: bool) -> bool:
    """Return whether a row with this owner is the patient's; ``unnamed``: without an owner."""
    return unnamed if owner is None else any(owner.is_of(known) for known in known_as)

"""The whole decision, in the order in which a request meets it.

All four functions are pure: same facts, same answer.

1. ``decide_patient``: may this token reach this patient's imaging, and in which ways? (SIA-10..16,
   22)
2. ``decide_capability``: does the capability URL that was used cover the request? (SIA-50..52)
3. ``decide_study``: is this study, with the series and instance asked for in it, that patient's,
   and may it be seen?
   (SIA-42, 45) Where an answer does not say itself whose it is, instances are opened first, and it
   is asked again.
   ``decide_visible`` is its half that needs no question about the study to the archive.
4. ``decide_instance``: is this instance, on its way to the client, what was permitted? (SIA-42, 43)

Permits are made here and nowhere else (``tests/access/test_permits.py``). Who fetches takes one as
an argument.
"""

import hmac
from collections.abc import Iterable, Sequence

from sidecar.access.facts import (
    AnswerKind,
    BackendClient,
    Caller,
    DescribedStudy,
    InstanceHeader,
    Part,
    PatientIdentifier,
    Policy,
    StudyFacts,
    Token,
    all_are_one_of,
    all_may_be_one_of,
    is_shared,
)
from sidecar.access.permits import (
    ALL_SERIES,
    Capability,
    Deny,
    GrantPath,
    HeaderPermit,
    Interaction,
    Operation,
    PatientPermit,
    StudyPermit,
    includes,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import Grant, ScopeContext
from sidecar.access.visibility import WHOLE_STUDY, Hidden, Visible, visibility


def decide_patient(
    token: Token,
    interaction: Interaction,
    patient: str | None,
    *,
    policy: Policy,
    now: float,
    client: BackendClient | None,
    understood: frozenset[str],
) -> PatientPermit | Deny:
    """Permit ``interaction`` on the imaging of ``patient`` (FHIR id, ``None``: the token's own).

    ``now`` in seconds.

    ``client``: what the token's client was given for Backend Services, ``None``: nothing;
    ``understood``: those constraints of the token's scopes that can be evaluated.
    """
    # Not ">=": an expiry that cannot be compared (NaN) must not permit for ever.
    if not now < token.expires_at:
        return Deny(Reason.EXPIRED_TOKEN)
    # What cannot be evaluated permits nothing (SIA-11, 16).
    covering = [grant for grant in token.grants if _covers(grant, interaction)]
    grants = [
        grant for grant in covering if grant.constraint is None or grant.constraint in understood
    ]
    launched, refused = _launch_ways(token, covering, grants, patient, policy)
    backend, backend_refused = _backend_ways(covering, grants, patient, policy, client)
    whose = token.patient if patient is None else patient
    if (launched or backend) and whose is not None:
        caller = Caller(token.client_id, token.subject, token.issuer) if policy.external else None
        ways: list[GrantPath] = []
        for way in (*launched, *backend):  # Each once: scopes often say the same thing twice.
            if way not in ways:
                ways.append(way)
        return PatientPermit(whose, interaction, tuple(ways), caller)
    # A token for apps is told what is wrong with it as one for apps.
    return Deny(
        refused
        if refused is not Reason.INSUFFICIENT_SCOPE or backend_refused is None
        else backend_refused
    )


def _launch_ways(
    token: Token,
    covering: Sequence[Grant],
    grants: Sequence[Grant],
    patient: str | None,
    policy: Policy,
) -> tuple[list[GrantPath], Reason]:
    """SMART App Launch: patient/ scopes, and user/ ones where the site wants them, for the launch's patient alone."""
    contexts = (
        {ScopeContext.PATIENT, ScopeContext.USER} if policy.user_level else {ScopeContext.PATIENT}
    )
    ways = [
        GrantPath(one.constraint, {}, policy.rules, one.context.value)
        for one in grants
        if one.context in contexts
    ]
    if not any(one.context in contexts for one in covering):
        return [], Reason.INSUFFICIENT_SCOPE if policy.app_launch else Reason.APP_LAUNCH_OFF
    if not policy.app_launch:
        return [], Reason.APP_LAUNCH_OFF
    if not ways:
        return [], Reason.CONSTRAINED_SCOPE
    if token.patient is None:  # Never system-level access (SIA-14).
        return [], Reason.NO_PATIENT_CONTEXT
    if patient is not None and patient != token.patient:
        return [], Reason.OTHER_PATIENT
    return ways, Reason.INSUFFICIENT_SCOPE


def _backend_ways(
    covering: Sequence[Grant],
    grants: Sequence[Grant],
    patient: str | None,
    policy: Policy,
    client: BackendClient | None,
) -> tuple[list[GrantPath], Reason | None]:
    """Backend Services (SIA-13): system/ scopes, for the patients that the client was given, each by name."""
    if not any(one.context is ScopeContext.SYSTEM for one in covering):
        return [], None
    if not policy.backend_services:
        return [], None
    if client is None:
        return [], Reason.UNKNOWN_CLIENT
    ways = [
        GrantPath(
            one.constraint, client.studies, policy.rules if client.rules else (), one.context.value
        )
        for one in grants
        if one.context is ScopeContext.SYSTEM
    ]
    if not ways:
        return [], Reason.CONSTRAINED_SCOPE
    if patient is None:
        return [], Reason.NO_PATIENT_NAMED
    if patient not in client.patients:
        return [], Reason.NOT_THE_CLIENTS_PATIENT
    return ways, None


def _covers(grant: Grant, interaction: Interaction) -> bool:
    return grant.search if interaction is Interaction.SEARCH else grant.read


def decide_capability(
    capability: Capability, study: str | None, operation: Operation, *, shown: bytes, now: float
) -> Deny | None:
    """Return why a capability does not cover a request, ``None`` when it does.

    ``study``: what the request names, ``None``: any; ``shown``: hash of the valid token that came
    with it.
    """
    if not now < capability.expires_at:
        return Deny(Reason.EXPIRED_CAPABILITY)
    if not hmac.compare_digest(shown, capability.token_hash):
        return Deny(Reason.OTHER_TOKEN)
    if study not in (None, capability.study):
        return Deny(Reason.ABSENT)
    if operation not in capability.operations:
        return Deny(Reason.NOT_IN_CAPABILITY)
    return None


def decide_study(
    permit: PatientPermit,
    part: Part,
    known_as: Iterable[PatientIdentifier],
    facts: StudyFacts,
    answer: AnswerKind,
    *,
    now: float,
) -> StudyPermit | HeaderPermit | Deny:
    """Permit ``part``. ``known_as``: every identifier by which the archive may know the permitted patient.

    Where the ``answer`` does not say whose it is, a ``HeaderPermit`` permits to open instances;
    with what they name in ``facts.inside`` it is decided. A study that is not shown is refused
    before anything else is looked at: what is hidden and what is not there are the same. ``now`` in
    seconds since 1970.
    """
    known_as = frozenset(known_as)
    seen = decide_visible(permit, part, facts.described, answer, now=now, shared=False)
    if isinstance(seen, Deny):
        return seen
    if not facts.owners:
        return Deny(Reason.ABSENT)
    # Every study under this UID must be the patient's: a PACS may hold one UID for two people (a
    # copy, a mistake), and a retrieval by UID could then bring either.
    if not all_are_one_of(facts.owners, known_as):
        return Deny(Reason.SHARED_UID if is_shared(facts.owners, known_as) else Reason.FOREIGN)
    if not facts.part_found:
        return Deny(Reason.NOT_IN_STUDY)
    if answer in (AnswerKind.UNNAMED, AnswerKind.DRAWN):
        if facts.inside is None:
            return HeaderPermit(permit.patient, part, known_as)
        if not all_may_be_one_of(facts.inside, known_as):
            return Deny(Reason.FOREIGN)
    return StudyPermit(permit.patient, part, seen.series, known_as)


def decide_visible(
    permit: PatientPermit,
    part: Part,
    described: Iterable[DescribedStudy],
    answer: AnswerKind,
    *,
    now: float,
    shared: bool,
) -> Visible | Deny:
    """Return what may be seen of ``part``.

    ``described`` as in ``StudyFacts``, ``now`` in seconds since 1970.

    Where everything is fetched, nothing may be excluded (SIA-43). ``shared``: the patient's list
    says that the UID is somebody else's, too.
    """
    if not permit.is_limited:
        return WHOLE_STUDY
    seen = visibility(permit, described, now)
    if shared:
        return Deny(Reason.SHARED_UID)
    if isinstance(seen, Hidden) or (
        part.series is not None and not includes(seen.series, part.series)
    ):
        return Deny(Reason.NOT_SHOWN)
    # Nor may anything that is drawn: a series that came since would not be noticed.
    unnoticed = answer is AnswerKind.DRAWN and seen.series is not ALL_SERIES
    if (
        answer is not AnswerKind.LISTED
        and part.series is None
        and (unnoticed or not seen.is_complete)
    ):
        return Deny(
            Reason.PARTLY_EXCLUDED, frozenset() if seen.series is ALL_SERIES else seen.series
        )
    return seen


def decide_instance(permit: StudyPermit, header: InstanceHeader) -> Deny | None:
    """Return why an instance that says this of itself must not pass, ``None`` when it may.

    ``FOREIGN``: it is not the permitted patient's, or not of the part. ``NOT_SHOWN``: it is, but of
    a series that is excluded, or came since it was decided; nobody else's image was about to leave.
    """
    part = permit.part
    is_theirs = any(header.patient.may_be(known) for known in permit.known_as)
    is_of_part = (
        header.study == part.study
        and part.series in (None, header.series)
        and part.instance in (None, header.instance)
    )
    if not (is_theirs and is_of_part):
        return Deny(Reason.FOREIGN)
    return None if includes(permit.series, header.series) else Deny(Reason.NOT_SHOWN)

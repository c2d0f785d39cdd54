"""The whole decision. Read this file and you have read who may see what.

It is made in two steps, because the second needs facts that only a permitted caller is worth an upstream call for:

1. ``decide_patient``: does this token reach this patient's imaging at all, and in which ways? (SIA-10..16, 22)
2. ``decide_study``: is this study, with the series and instance asked for in it, that patient's (SIA-42, 45), and does
   one of those ways lead to it? A search asks the same of each study (``may_see``). Where the answer carries no
   patient inside, ``decide_header`` comes between: an instance may be opened to read whose it is, and nothing else.

All are pure: same facts, same answer. ``HeaderPermit`` and ``StudyPermit`` are made here and nowhere else, and the
rooms that fetch and stream take them as arguments: nothing can be fetched that was not permitted. ``PatientPermit`` is
made here, and by the probe of the external policy, which asks about nobody and fetches nothing.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sidecar.access.facts import (
    Caller,
    Client,
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
    Capability,
    Deny,
    HeaderPermit,
    Interaction,
    Operation,
    PatientPermit,
    StudyPermit,
    Way,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import Context, Grant
from sidecar.access.visibility import Shown, may_see


def decide_patient(
    token: Token,
    interaction: Interaction,
    patient: str | None,
    *,
    policy: Policy,
    now: float,
    client: Client | None = None,
    understood: frozenset[str] = frozenset(),
) -> PatientPermit | Deny:
    """Step 1. ``patient`` is the FHIR id in the request, ``None`` for the token's own; ``now`` in seconds.

    ``client``: what the token's client was given for Backend Services, ``None``: nothing; ``understood``: those
    constraints of the token's scopes that can be evaluated.
    """
    if not now < token.expires_at:  # Not ">=": an expiry that cannot be compared (NaN) must not permit for ever.
        return Deny(Reason.EXPIRED_TOKEN)
    # What cannot be evaluated permits nothing (SIA-11, 16).
    covering = [grant for grant in token.grants if _covers(grant, interaction)]
    grants = [grant for grant in covering if grant.constraint is None or grant.constraint in understood]
    launched, refused = _launch_ways(token, covering, grants, patient, policy)
    backend, backend_refused = _backend_ways(covering, grants, patient, policy, client)
    whose = token.patient if patient is None else patient
    if (launched or backend) and whose is not None:
        caller = Caller(token.client_id, token.subject, token.issuer) if policy.external else None
        ways: list[Way] = []
        for way in (*launched, *backend):  # Each once: scopes often say the same thing twice.
            if way not in ways:
                ways.append(way)
        return PatientPermit(whose, interaction, tuple(ways), caller)
    # A token for apps is told what is wrong with it as one for apps.
    return Deny(refused if refused is not Reason.INSUFFICIENT_SCOPE or backend_refused is None else backend_refused)


def _launch_ways(
    token: Token, covering: Sequence[Grant], grants: Sequence[Grant], patient: str | None, policy: Policy
) -> tuple[list[Way], Reason]:
    """SMART App Launch: patient/ scopes, and user/ ones where the site wants them, for the launch's patient alone."""
    contexts = {Context.PATIENT, Context.USER} if policy.user_level else {Context.PATIENT}
    ways = [
        Way(one.constraint, rules=policy.rules, context=one.context.value) for one in grants if one.context in contexts
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
    covering: Sequence[Grant], grants: Sequence[Grant], patient: str | None, policy: Policy, client: Client | None
) -> tuple[list[Way], Reason | None]:
    """Backend Services (SIA-13): system/ scopes, for the patients that the client was given, each by name."""
    if not any(one.context is Context.SYSTEM for one in covering):
        return [], None
    if not policy.backend_services:
        return [], None
    if client is None:
        return [], Reason.UNKNOWN_CLIENT
    ways = [
        Way(one.constraint, client.studies, policy.rules if client.rules else (), one.context.value)
        for one in grants
        if one.context is Context.SYSTEM
    ]
    if not ways:
        return [], Reason.CONSTRAINED_SCOPE
    if patient is None:
        return [], Reason.NO_PATIENT_NAMED
    if patient not in client.patients:
        return [], Reason.NOT_THE_CLIENTS_PATIENT
    return ways, None


def decide_study(
    permit: PatientPermit,
    part: Part,
    known_as: Iterable[PatientIdentifier],
    facts: StudyFacts,
    *,
    now: float = 0,
    whole: bool = True,
    drawn: bool = False,
    names_patient: bool = True,
) -> StudyPermit | Deny:
    """Step 2. ``known_as``: every identifier by which the PACS may know the permitted patient.

    ``whole``: all that is in the part is fetched, so that nothing in it may be excluded (SIA-43); else it is listed,
    and what is excluded will be left out. ``names_patient`` off: the answer does not say whose it is, so instances
    must have been looked at. A study that is not shown is refused before anything else is looked at: what is hidden
    and what is not there are the same.
    """
    known_as = frozenset(known_as)
    seen = _decide_by_rows(permit, part, known_as, facts, now=now, whole=whole, drawn=drawn)
    if isinstance(seen, Deny):
        return seen
    if not names_patient and not all_may_be_one_of(facts.inside or (), known_as):
        return Deny(Reason.FOREIGN)
    return StudyPermit(permit.patient, part, seen.series, known_as)


def decide_header(
    permit: PatientPermit,
    part: Part,
    known_as: Iterable[PatientIdentifier],
    facts: StudyFacts,
    *,
    now: float = 0,
    whole: bool = True,
    drawn: bool = False,
) -> HeaderPermit | Deny:
    """Permit opening instances to read their patient, when the rows permit the part."""
    known_as = frozenset(known_as)
    seen = _decide_by_rows(permit, part, known_as, facts, now=now, whole=whole, drawn=drawn)
    return seen if isinstance(seen, Deny) else HeaderPermit(permit.patient, part, known_as)


def _decide_by_rows(
    permit: PatientPermit,
    part: Part,
    known_as: frozenset[PatientIdentifier],
    facts: StudyFacts,
    *,
    now: float,
    whole: bool,
    drawn: bool,
) -> Shown | Deny:
    """The part of step 2 that rests on the archive's rows."""
    seen = decide_shown(permit, part, facts.described, now=now, whole=whole, drawn=drawn)
    if isinstance(seen, Deny):
        return seen
    if not facts.owners:
        return Deny(Reason.ABSENT)
    # Every study under this UID must be the patient's: a PACS may hold one UID for two people (a copy, a mistake),
    # and a retrieval by UID could then bring either.
    if not all_are_one_of(facts.owners, known_as):
        return Deny(Reason.SHARED_UID if is_shared(facts.owners, known_as) else Reason.FOREIGN)
    if not facts.part_found:
        return Deny(Reason.NOT_IN_STUDY)
    return seen


def decide_shown(
    permit: PatientPermit,
    part: Part,
    described: Iterable[DescribedStudy],
    *,
    now: float,
    whole: bool,
    drawn: bool = False,
    shared: bool = False,
) -> Shown | Deny:
    """The half of step 2 for which the archive need not be asked by UID; ``described`` as in ``StudyFacts``.

    ``drawn``: what is fetched says nothing of its series, so that one which came since would not be noticed.
    ``shared``: the study's UID is somebody else's, too, as far as the patient's list says.
    """
    if not permit.is_limited:
        return Shown()
    seen = may_see(permit, described, now)
    if shared:
        return Deny(Reason.SHARED_UID)
    if seen is None or (seen.series is not None and part.series is not None and part.series not in seen.series):
        return Deny(Reason.NOT_SHOWN)
    unnoticed = drawn and seen.series is not None
    if whole and part.series is None and (unnoticed or not seen.is_complete):
        return Deny(Reason.PARTLY_EXCLUDED, seen.series or frozenset())
    return seen


def _covers(grant: Grant, interaction: Interaction) -> bool:
    return grant.search if interaction is Interaction.SEARCH else grant.read


def decide_capability(
    capability: Capability, study: str | None, operation: Operation, *, shown: bytes, now: float
) -> Reason | None:
    """Return why a capability does not cover a request, ``None`` when it does (SIA-50..52).

    ``study``: what the request names, ``None``: any; ``shown``: hash of the valid token that came with it.
    """
    if not now < capability.expires_at:
        return Reason.EXPIRED_CAPABILITY
    if not hmac.compare_digest(shown, capability.token_hash):
        return Reason.OTHER_TOKEN
    if study not in (None, capability.study):
        return Reason.ABSENT
    if operation not in capability.operations:
        return Reason.NOT_IN_CAPABILITY
    return None


@dataclass(frozen=True, slots=True)
class Permitted:
    """Whose and what an answer may hold: the permitted ``part``, of the patient ``known_as`` these identifiers.

    ``series``: of it these alone, ``None``: any.
    """

    part: Part
    known_as: tuple[PatientIdentifier, ...]
    series: frozenset[str] | None = None

    @staticmethod
    def by(permit: StudyPermit) -> "Permitted":
        """What a permit covers."""
        return Permitted(permit.part, tuple(permit.known_as), permit.series)

    def covers(self, header: InstanceHeader) -> bool:
        """Whether an instance that says this of itself is permitted."""
        part = self.part
        return (
            any(header.patient.may_be(known) for known in self.known_as)
            and header.study == part.study
            and part.series in (None, header.series)
            and part.instance in (None, header.instance)
        )

    def shows(self, header: InstanceHeader) -> bool:
        """Whether no rule leaves its series out (SIA-43)."""
        return self.series is None or header.series in self.series

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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.access.identity import PatientIdentifier, all_are_one_of, all_may_be_one_of, is_shared
from sidecar.access.policy import Caller, Client, Policy
from sidecar.access.reasons import Reason
from sidecar.access.rules import Conditions, Rule, Shown, holds, shown
from sidecar.access.scopes import Context, Grant
from sidecar.access.study import DescribedSeries, DescribedStudy
from sidecar.access.token import Token


class Interaction(StrEnum):
    """What the caller wants to do: a search needs ``s``, a read or a retrieval needs ``r`` (SIA-11)."""

    SEARCH = "search"
    READ = "read"
    RETRIEVE = "retrieve"


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused, and why. ``series``: for ``PARTLY_EXCLUDED``, those that the caller may have instead."""

    reason: Reason
    series: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Way:
    """One grant's way to a patient's studies: those that satisfy ``constraint`` and where ``studies`` hold.

    ``rules``: the site's rules hold on it; ``context``: of the grant's scope. Ways are never joined: what none of them
    leads to alone is not permitted (SIA-15).
    """

    constraint: str | None = None
    studies: Conditions = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    context: str = Context.PATIENT.value

    @property
    def leads_everywhere(self) -> bool:
        """Whether there is no study to which it does not lead."""
        return self.constraint is None and not self.studies and not self.rules


@dataclass(frozen=True, slots=True)
class PatientPermit:
    """The caller may do ``interaction`` on that imaging of ``patient`` (FHIR id) to which one of the ``ways`` leads.

    ``caller``: about whom the external policy must be asked for each study, ``None``: there is none.
    """

    patient: str
    interaction: Interaction
    ways: tuple[Way, ...] = (Way(),)
    caller: Caller | None = None

    @property
    def is_limited(self) -> bool:
        """Whether studies must be described before it is known which of them may be seen."""
        return self.caller is not None or not any(way.leads_everywhere for way in self.ways)

    @property
    def constraints(self) -> frozenset[str]:
        """The constraints of which it must be known whether a study satisfies them."""
        return frozenset(way.constraint for way in self.ways if way.constraint is not None)


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
    the instance asked for are in it (not looked for, hence false, in a study that is not the patient's);
    ``described``: each study under this UID that is the patient's, for a permit that ``is_limited``; ``inside``: the
    patients that instances of the part name in themselves, one instance of each series, ``None``: not looked at,
    because each instance of the answer is looked at as it goes by.
    """

    owners: frozenset[PatientIdentifier]
    part_found: bool
    described: tuple[DescribedStudy, ...] = ()
    inside: frozenset[PatientIdentifier] | None = None


@dataclass(frozen=True, slots=True)
class HeaderPermit:
    """Instances in ``part`` may be opened to read whose they are. Nothing of them may be passed on.

    ``known_as``: the identifiers of the patient on which it was decided.
    """

    patient: str
    part: Part
    known_as: frozenset[PatientIdentifier] = frozenset()

    def covers(self, part: Part) -> bool:
        """Whether ``part`` is in the permitted one."""
        return part.study == self.part.study and all(
            wanted in (None, given)
            for wanted, given in ((self.part.series, part.series), (self.part.instance, part.instance))
        )


@dataclass(frozen=True, slots=True)
class StudyPermit:
    """``part`` of the archive is the permitted patient's and may be fetched.

    ``series``: of it these series, ``None``: they were not decided one by one. ``known_as``: the identifiers of the
    patient on which it was decided; none permit nothing.
    """

    patient: str
    part: Part
    series: frozenset[str] | None = None
    known_as: frozenset[PatientIdentifier] = frozenset()


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


_STAND_IN = DescribedStudy({}, (DescribedSeries("", {}),))


def may_see(permit: PatientPermit, described: Iterable[DescribedStudy], now: float) -> Shown | None:
    """Return what the caller may see of a study, ``None``: nothing. ``described``: each study under one UID.

    Each must be seen, and of the series those that are seen in each.
    """
    studies = tuple(described)
    # A study that is not there takes as long as one that is hidden (SIA-45).
    found = [_seen_by_any_way(permit, one, now) for one in studies or (_STAND_IN,)]
    seen = [one for one in found if one is not None]
    if not studies or not seen or len(seen) < len(found):
        return None
    decided = [one.series for one in seen if one.series is not None]
    return Shown(
        series=frozenset.intersection(*decided) if decided else None,
        is_complete=all(one.is_complete for one in seen),
        since=max((one.since for one in seen if one.since is not None), default=None),
    )


def _seen_by_any_way(permit: PatientPermit, study: DescribedStudy, now: float) -> Shown | None:
    """By the way that shows most of it; two ways are not added up."""
    best: Shown | None = None
    for way in permit.ways:
        if way.constraint is not None and way.constraint not in study.satisfies:
            continue
        if holds(way.studies, study.attributes) is not True:
            continue
        found = shown(way.rules, study, now)
        if found is not None and permit.caller is not None:
            found = _with_verdict(found, study, way.context)
        if found is not None and (best is None or _shows_more(found, best)):
            best = found
    return best


def _with_verdict(found: Shown, study: DescribedStudy, context: str) -> Shown | None:
    """The external policy only takes away; without its word nothing is left (SIA-16)."""
    verdict = study.verdicts.get(context)
    if verdict is None or not verdict.allow:
        return None
    known = frozenset(one.uid for one in study.series)
    left = (known if found.series is None else found.series & known) - verdict.exclude_series
    if known and not left:
        return None
    return Shown(left, left == known, found.since)


def _shows_more(one: Shown, other: Shown) -> bool:
    return (one.is_complete, len(one.series or ())) > (other.is_complete, len(other.series or ()))


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

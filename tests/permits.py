"""Permits and what they rest on, as tests want them: the product's own types have no defaults."""

from collections.abc import Iterable

from sidecar.access.decision import (
    decide_identifiers,
    decide_patient,
    decide_study,
    decide_visible,
)
from sidecar.access.facts import (
    AnswerKind,
    BackendClient,
    Caller,
    Conditions,
    DescribedStudy,
    Effect,
    Part,
    PatientFacts,
    PatientIdentifier,
    Policy,
    Rule,
    StudyFacts,
    Token,
)
from sidecar.access.permits import (
    ALL_SERIES,
    ALL_STUDIES,
    Deny,
    GrantPath,
    HeaderPermit,
    Inquiry,
    Interaction,
    PatientPermit,
    SearchPermit,
    SeriesSet,
    StudyPermit,
)
from sidecar.access.visibility import Visible, visibility


def make_path(
    constraint: str | None = None,
    studies: Conditions | None = None,
    rules: tuple[Rule, ...] = (),
    context: str = "patient",
) -> GrantPath:
    """Return a path; it leads everywhere unless something is said."""
    return GrantPath(constraint, studies or {}, rules, context)


def patient_permit(
    patient: str,
    interaction: Interaction,
    ways: tuple[GrantPath, ...] = (make_path(),),
    caller: Caller | None = None,
) -> PatientPermit:
    """Return a permit for everything of the patient unless something is said."""
    return PatientPermit(patient, interaction, ways, caller)


def study_permit(
    patient: str,
    part: Part,
    series: SeriesSet = ALL_SERIES,
    known_as: frozenset[PatientIdentifier] = frozenset(),
) -> StudyPermit:
    """Return a permit for all series of the part."""
    return StudyPermit(patient, part, series, known_as)


def header_permit(
    patient: str, part: Part, known_as: frozenset[PatientIdentifier] = frozenset()
) -> HeaderPermit:
    """Return a permit to open instances of the part."""
    return HeaderPermit(patient, part, known_as)


def search_permit(
    patient: str, known_as: frozenset[PatientIdentifier] = frozenset()
) -> SearchPermit:
    """Return a permit to search rows of the patient."""
    return SearchPermit(patient, known_as)


def rows_of(*known_as: PatientIdentifier) -> SearchPermit:
    """Return a permit to search rows of a patient who is known so."""
    return search_permit("p", frozenset(known_as))


ASKED = Inquiry(frozenset())
"""By this a test asks an archive for rows."""


def study_facts(
    owners: frozenset[PatientIdentifier],
    part_found: bool,
    inside: frozenset[PatientIdentifier] | None = None,
) -> StudyFacts:
    """Return what the archive says of a study into which nobody has looked."""
    return StudyFacts(owners, part_found, inside)


def permit_patient(
    token: Token,
    interaction: Interaction,
    patient: str | None,
    *,
    policy: Policy,
    now: float,
    client: BackendClient | None,
    understood: frozenset[str],
) -> PatientPermit | Deny:
    """Decide on a patient by these facts."""
    return decide_patient(
        token, interaction, patient, PatientFacts(policy, client, understood, now)
    )


def see_study(
    permit: PatientPermit,
    part: Part,
    described: tuple[DescribedStudy, ...],
    answer: AnswerKind,
    *,
    now: float,
) -> Visible | Deny:
    """Decide what may be seen of a study that the archive describes so."""
    seen = visibility(permit, described, now) if permit.is_limited else ALL_STUDIES
    return decide_visible(permit, part, seen, answer)


def permit_study(
    permit: PatientPermit,
    part: Part,
    known_as: Iterable[PatientIdentifier],
    facts: StudyFacts,
    answer: AnswerKind,
    *,
    now: float,
    described: tuple[DescribedStudy, ...] = (),
) -> StudyPermit | HeaderPermit | Deny:
    """Decide on a study as the authorizer does, step by step."""
    search = decide_identifiers(permit, frozenset(known_as), ())
    assert isinstance(search, SearchPermit)
    seen = see_study(permit, part, described, answer, now=now)
    return seen if isinstance(seen, Deny) else decide_study(search, part, seen, facts, answer)


def make_policy(
    app_launch: bool = True,
    user_level: bool = False,
    backend_services: bool = False,
    rules: tuple[Rule, ...] = (),
    external: bool = False,
) -> Policy:
    """Return what a site has switched on that has configured nothing."""
    return Policy(app_launch, user_level, backend_services, rules, external)


def backend_client(
    patients: frozenset[str] = frozenset(), studies: Conditions | None = None, rules: bool = True
) -> BackendClient:
    """Return what a backend client was given."""
    return BackendClient(patients, studies or {}, rules)


def make_rule(
    name: str,
    effect: Effect,
    study: Conditions | None = None,
    series: Conditions | None = None,
    hours: float = 0,
    unknown_applies: bool = True,
) -> Rule:
    """Return a rule for whole studies unless something is said."""
    return Rule(name, effect, study or {}, series or {}, hours, unknown_applies)


def make_visible(
    series: SeriesSet = ALL_SERIES, is_complete: bool = True, since: float | None = None
) -> Visible:
    """Return what is seen of a study of which nothing is hidden."""
    return Visible(series, is_complete, since)

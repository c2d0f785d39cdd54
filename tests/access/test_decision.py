"""Who may see what: the whole decision (SIA-10..16, 22, 42, 45)."""

import math
from dataclasses import replace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.decision import (
    are_own_instances,
    decide_owners,
    is_own_row,
    is_unambiguous,
)
from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, Policy, StudyFacts, Token
from sidecar.access.permits import Deny, Interaction, Operation, PatientPermit
from sidecar.access.reasons import STATUS, Reason
from sidecar.access.scopes import Grant, ScopeContext, parse_scopes
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.decision_log import Denied
from sidecar.common.invalidation import Invalidation
from sidecar.patients.direct import DirectMapping
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.cache import TokenCache
from sidecar.tokens.rejection import TokenRejected
from tests.fakes.site import NO_AUDIT, NO_VIEWS
from tests.permits import (
    header_permit,
    make_policy,
    patient_permit,
    permit_patient,
    permit_study,
    study_facts,
    study_permit,
)
from tests.tables.capability_denials import CAPABILITY_DENIALS
from tests.tables.claims import REJECTIONS
from tests.tables.denials import BACKEND_DENIALS, SHOWN_DENIALS
from tests.tables.tokens import REFUSED

NOW = 1_000.0
ON, OFF = make_policy(), make_policy(app_launch=False)
SEARCH, READ, RETRIEVE = Interaction.SEARCH, Interaction.READ, Interaction.RETRIEVE
PART = Part("1.2.3", "1.2.3.4", "1.2.3.4.5")
MINE, ALSO_MINE, HERS = (
    PatientIdentifier("p1"),
    PatientIdentifier("4711", "MRN"),
    PatientIdentifier("p2"),
)
PERMIT = patient_permit("p1", RETRIEVE)


def token(
    scopes: str = "patient/ImagingStudy.rs", *, patient: str | None = "p1", exp: float = NOW + 60
) -> Token:
    """A validated token."""
    return Token(parse_scopes(scopes), exp, patient)


PATIENT_DENIALS: list[tuple[Token, Interaction, str | None, Policy, Reason]] = [
    (token(exp=NOW), SEARCH, "p1", ON, Reason.EXPIRED_TOKEN),
    (token(exp=NOW - 1), RETRIEVE, None, ON, Reason.EXPIRED_TOKEN),
    (token(exp=0), READ, "p1", OFF, Reason.EXPIRED_TOKEN),
    (token(), SEARCH, "p1", OFF, Reason.APP_LAUNCH_OFF),
    (token("system/*.rs"), SEARCH, "p1", OFF, Reason.APP_LAUNCH_OFF),
    (token(""), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("openid fhirUser launch/patient"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.r"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.s"), READ, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("patient/ImagingStudy.s"), RETRIEVE, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (
        token("patient/Observation.rs patient/Patient.rs"),
        SEARCH,
        "p1",
        ON,
        Reason.INSUFFICIENT_SCOPE,
    ),
    (token("system/ImagingStudy.rs"), SEARCH, "p1", ON, Reason.INSUFFICIENT_SCOPE),
    (token("system/*.cruds user/*.cruds"), RETRIEVE, None, ON, Reason.INSUFFICIENT_SCOPE),
    (
        token("patient/ImagingStudy.s system/*.rs user/*.rs"),
        RETRIEVE,
        None,
        ON,
        Reason.INSUFFICIENT_SCOPE,
    ),
    (token("patient/ImagingStudy.rs?modality=CT"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token("patient/ImagingStudy.rs?"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (
        token("patient/ImagingStudy.rs?modality=CT&modality=MR"),
        RETRIEVE,
        None,
        ON,
        Reason.CONSTRAINED_SCOPE,
    ),
    (token("patient/*.r?a=b patient/ImagingStudy.s"), RETRIEVE, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token("patient/*.rs?a=b system/*.rs"), SEARCH, "p1", ON, Reason.CONSTRAINED_SCOPE),
    (token(patient=None), SEARCH, "p1", ON, Reason.NO_PATIENT_CONTEXT),
    (token(patient=None), RETRIEVE, None, ON, Reason.NO_PATIENT_CONTEXT),
    (token(), SEARCH, "p2", ON, Reason.OTHER_PATIENT),
    (token(), READ, "P1", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "p1 ", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "*", ON, Reason.OTHER_PATIENT),
    (token(), SEARCH, "p1,p2", ON, Reason.OTHER_PATIENT),
]

STUDY_DENIALS: list[tuple[list[PatientIdentifier], StudyFacts, Reason]] = [
    ([MINE], study_facts(frozenset(), part_found=True), Reason.ABSENT),
    ([], study_facts(frozenset(), part_found=False), Reason.ABSENT),
    ([MINE], study_facts(frozenset({HERS}), part_found=True), Reason.FOREIGN),
    ([MINE], study_facts(frozenset({HERS}), part_found=False), Reason.FOREIGN),
    ([MINE], study_facts(frozenset({MINE, HERS}), part_found=True), Reason.SHARED_UID),
    ([MINE], study_facts(frozenset({MINE, HERS}), part_found=False), Reason.SHARED_UID),
    (
        [MINE, ALSO_MINE],
        study_facts(frozenset({MINE, ALSO_MINE, HERS}), part_found=True),
        Reason.SHARED_UID,
    ),
    (
        [MINE],
        study_facts(frozenset({MINE, PatientIdentifier("")}), part_found=True),
        Reason.SHARED_UID,
    ),
    (
        [ALSO_MINE],
        study_facts(frozenset({ALSO_MINE, PatientIdentifier("4711", "X")}), True),
        Reason.SHARED_UID,
    ),
    (
        [MINE, ALSO_MINE],
        study_facts(frozenset({HERS, PatientIdentifier("")}), part_found=True),
        Reason.FOREIGN,
    ),
    ([], study_facts(frozenset({MINE}), part_found=True), Reason.FOREIGN),
    (
        [ALSO_MINE],
        study_facts(frozenset({PatientIdentifier("4711", "X")}), part_found=True),
        Reason.FOREIGN,
    ),
    (
        [PatientIdentifier("")],
        study_facts(frozenset({PatientIdentifier("")}), part_found=True),
        Reason.FOREIGN,
    ),
    ([MINE], study_facts(frozenset({MINE}), part_found=False), Reason.NOT_IN_STUDY),
]


@pytest.mark.parametrize(("facts", "interaction", "patient", "policy", "reason"), PATIENT_DENIALS)
def test_a_token_that_does_not_reach_the_patient(
    facts: Token, interaction: Interaction, patient: str | None, policy: Policy, reason: Reason
) -> None:
    """SIA-10, 11, 12, 13, 14, 22: refused, and for this reason."""
    assert permit_patient(
        facts, interaction, patient, policy=policy, now=NOW, client=None, understood=frozenset()
    ) == Deny(reason)


@pytest.mark.parametrize("interaction", Interaction)
@pytest.mark.parametrize("patient", ["p1", None])
@pytest.mark.parametrize(
    "scopes",
    [
        "patient/ImagingStudy.rs",
        "patient/*.read",
        "patient/*.*",
        "openid patient/*.rs?a=b patient/*.cruds",
    ],
)
def test_a_token_that_reaches_the_patient(
    scopes: str, patient: str | None, interaction: Interaction
) -> None:
    """SIA-11, 12: the permit is for the token's patient; a constrained scope does not spoil one
    without.
    """
    decision = permit_patient(
        token(scopes), interaction, patient, policy=ON, now=NOW, client=None, understood=frozenset()
    )
    assert decision == patient_permit("p1", interaction)


@pytest.mark.parametrize(("known_as", "facts", "reason"), STUDY_DENIALS)
def test_a_study_that_is_not_the_patients(
    known_as: list[PatientIdentifier], facts: StudyFacts, reason: Reason
) -> None:
    """SIA-42, 45: refused, and to the caller not found, whichever it was."""
    assert permit_study(PERMIT, PART, known_as, facts, AnswerKind.NAMED, now=NOW) == Deny(reason)
    assert STATUS[reason] == 404


@pytest.mark.parametrize("known_as", [[MINE, ALSO_MINE], [ALSO_MINE, MINE]])
def test_a_study_that_is_the_patients(known_as: list[PatientIdentifier]) -> None:
    """SIA-42: by any of the patient's identifiers; the permit is for this part and no other."""
    facts = study_facts(frozenset({MINE, PatientIdentifier(" 4711 ", "MRN")}), part_found=True)
    assert permit_study(
        PERMIT, PART, iter(known_as), facts, AnswerKind.NAMED, now=NOW
    ) == study_permit("p1", PART, known_as=frozenset(known_as))
    without_issuer = study_facts(frozenset({MINE, PatientIdentifier("4711")}), part_found=True)
    assert permit_study(
        PERMIT, PART, iter(known_as), without_issuer, AnswerKind.NAMED, now=NOW
    ) == Deny(Reason.SHARED_UID)


async def test_every_reason_is_reached() -> None:
    """No refusal is dead code: those of the decision by the tables above, those of the credentials
    by the authorizer.
    """

    async def introspected(bearer: str) -> Token | None:
        return Token((), 9e9, "p1") if bearer == "good" else None

    authorizer = Authorizer(
        TokenCache(introspected),
        DirectMapping(),
        cast("Any", None),
        cast("Any", None),
        cast("Any", None),
        Metrics("0"),
        NO_AUDIT,
        NO_VIEWS,
        policy=ON,
        invalidation=Invalidation(),
    )
    tables = (PATIENT_DENIALS, STUDY_DENIALS, BACKEND_DENIALS, SHOWN_DENIALS, CAPABILITY_DENIALS)
    reached: set[Reason] = {row[-1] for table in tables for row in table}
    for headers in ((), ("Basic eDp5",), ("Bearer junk",)):
        with pytest.raises(Denied) as refused:
            await authorizer.token(AccessRecord("r1"), headers)
        assert STATUS[refused.value.reason] == 401
        reached.add(refused.value.reason)
    # tests/authorization/test_capability_urls.py has those that are on.
    with pytest.raises(Denied) as refused:
        await authorizer.capability(
            AccessRecord("r1"), ("Bearer good",), "x", None, Operation.QUERY
        )
    reached.add(refused.value.reason)
    # tests/tokens/test_claims.py and tests/tokens/test_jwt_validation.py have the tokens that are
    # refused for these.
    for reason in {*REJECTIONS, *(one for one in REFUSED if one), Reason.CONTRADICTORY_TOKEN}:
        authorizer._tokens = TokenCache(AsyncMock(side_effect=TokenRejected(reason)))
        with pytest.raises(Denied) as refused:
            await authorizer.token(AccessRecord("r1"), ("Bearer x",))
        assert refused.value.reason is reason
        reached.add(reason)
    assert reached == set(Reason)


def test_every_reason_has_a_status() -> None:
    """SIA-22, 45: 401 for the token, 403 for what it does not cover, 404 for what is not the
    caller's.
    """
    assert set(STATUS) == set(Reason)
    assert set(STATUS.values()) == {401, 403, 404}
    assert {reason for reason, status in STATUS.items() if status == 404} == {
        Reason.ABSENT,
        Reason.FOREIGN,
        Reason.NOT_IN_STUDY,
        Reason.NOT_SHOWN,
        Reason.SHARED_UID,
    }
    assert STATUS[Reason.OTHER_PATIENT] == 403


GRANTS = st.builds(
    Grant,
    st.sampled_from(ScopeContext),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, "", "modality=CT"]),
)
PATIENTS = st.sampled_from(["p1", "p2", None])
TOKENS = st.builds(
    Token,
    st.lists(GRANTS, max_size=4).map(tuple),
    st.sampled_from([0.0, NOW - 1, NOW, NOW + 0.001, NOW + 60]),
    PATIENTS,
)


@given(TOKENS, st.sampled_from(Interaction), PATIENTS, st.booleans())
def test_a_permit_needs_everything(
    facts: Token, interaction: Interaction, patient: str | None, app_launch: bool
) -> None:
    """SIA-10..15: unexpired, its own patient, and a patient scope without constraint that covers
    this; else nothing.
    """
    decision = permit_patient(
        facts,
        interaction,
        patient,
        policy=make_policy(app_launch),
        now=NOW,
        client=None,
        understood=frozenset(),
    )
    covered = any(
        grant.context is ScopeContext.PATIENT
        and grant.constraint is None
        and (grant.search if interaction is SEARCH else grant.read)
        for grant in facts.grants
    )
    own = facts.patient is not None and patient in (None, facts.patient)
    if covered and own and facts.expires_at > NOW and app_launch:
        assert decision == patient_permit(cast("str", facts.patient), interaction)
    else:
        assert isinstance(decision, Deny)
        assert STATUS[decision.reason] in (401, 403)


@given(TOKENS, st.sampled_from(Interaction), PATIENTS)
def test_system_and_user_scopes_never_permit(
    facts: Token, interaction: Interaction, patient: str | None
) -> None:
    """SIA-13, 14: whatever else the token says, and whatever patient it has."""
    without = Token(
        tuple(grant for grant in facts.grants if grant.context is not ScopeContext.PATIENT),
        facts.expires_at,
        facts.patient,
    )
    assert isinstance(
        permit_patient(
            without, interaction, patient, policy=ON, now=NOW, client=None, understood=frozenset()
        ),
        Deny,
    )


@given(TOKENS, st.sampled_from(Interaction), PATIENTS)
def test_grants_are_not_combined(
    facts: Token, interaction: Interaction, patient: str | None
) -> None:
    """SIA-15: all grants together permit what one of them alone permits."""

    def permits(*grants: Grant) -> bool:
        alone = Token(grants, facts.expires_at, facts.patient)
        return isinstance(
            permit_patient(
                alone, interaction, patient, policy=ON, now=NOW, client=None, understood=frozenset()
            ),
            PatientPermit,
        )

    assert permits(*facts.grants) == any(permits(grant) for grant in facts.grants)


IDENTIFIERS = st.builds(
    PatientIdentifier, st.sampled_from(["", "a", "b", "A"]), st.sampled_from([None, "X", "Y"])
)


@given(st.frozensets(IDENTIFIERS, max_size=3), st.lists(IDENTIFIERS, max_size=3), st.booleans())
def test_a_study_needs_all_its_owners_to_be_the_patient(
    owners: frozenset[PatientIdentifier], known_as: list[PatientIdentifier], part_found: bool
) -> None:
    """SIA-42, 45: a UID that the archive holds for two people is nobody's."""
    decision = permit_study(
        PERMIT, PART, known_as, study_facts(owners, part_found), AnswerKind.NAMED, now=NOW
    )
    mine = bool(owners) and all(any(owner.is_of(known) for known in known_as) for owner in owners)
    if mine and part_found:
        assert decision == study_permit("p1", PART, known_as=frozenset(known_as))
    else:
        assert isinstance(decision, Deny)
        assert STATUS[decision.reason] == 404
        some = any(owner.is_of(known) for owner in owners for known in known_as)
        assert (decision.reason is Reason.SHARED_UID) == (some and not mine)


@pytest.mark.parametrize(("exp", "now"), [(math.nan, NOW), (NOW + 60, math.nan)])
def test_an_expiry_that_cannot_be_compared_permits_nothing(exp: float, now: float) -> None:
    """SIA-16: the reading of the answer refuses NaN already; the decision must not rest on that."""
    assert permit_patient(
        token(exp=exp), SEARCH, "p1", policy=ON, now=now, client=None, understood=frozenset()
    ) == Deny(Reason.EXPIRED_TOKEN)


@pytest.mark.parametrize(
    ("inside", "permitted"),
    [
        ([MINE], True),
        ([ALSO_MINE], True),
        ([PatientIdentifier(MINE.patient_id)], True),
        ([MINE, HERS], False),
        ([HERS], False),
        ([PatientIdentifier("")], False),
        ([], False),
    ],
)
def test_what_carries_no_patient_is_permitted_by_what_instances_say(
    inside: list[PatientIdentifier], permitted: bool
) -> None:
    """SIA-42: nothing looked at is not permitted; images often name no issuer."""
    facts = study_facts(frozenset({MINE}), True, inside=frozenset(inside))
    decision = permit_study(PERMIT, PART, [MINE, ALSO_MINE], facts, AnswerKind.UNNAMED, now=NOW)
    both = frozenset({MINE, ALSO_MINE})
    assert decision == (
        study_permit("p1", PART, known_as=both) if permitted else Deny(Reason.FOREIGN)
    )
    # Where each instance is looked at as it goes by, nothing else is asked.
    assert permit_study(
        PERMIT, PART, [MINE], study_facts(frozenset({MINE}), True), AnswerKind.NAMED, now=NOW
    ) == study_permit("p1", PART, known_as=frozenset({MINE}))


@pytest.mark.parametrize(("known_as", "facts", "reason"), STUDY_DENIALS)
def test_no_instance_is_looked_at_in_what_is_not_the_patients(
    known_as: list[PatientIdentifier], facts: StudyFacts, reason: Reason
) -> None:
    assert permit_study(PERMIT, PART, known_as, facts, AnswerKind.UNNAMED, now=NOW) == Deny(reason)
    assert permit_study(
        PERMIT,
        PART,
        known_as,
        replace(facts, inside=frozenset({MINE})),
        AnswerKind.UNNAMED,
        now=NOW,
    ) == Deny(reason)


def test_a_header_permit_is_for_its_part() -> None:
    facts = study_facts(frozenset({MINE}), True)
    assert permit_study(PERMIT, PART, [MINE], facts, AnswerKind.UNNAMED, now=NOW) == header_permit(
        "p1", PART, frozenset({MINE})
    )


def test_a_part_covers_what_is_in_it() -> None:
    study, series, instance = Part("1.2"), Part("1.2", "1.3"), Part("1.2", "1.3", "1.4")
    for part, covered in (
        (study, [study, series, instance]),
        (series, [series, instance]),
        (instance, [instance]),
    ):
        others = [one for one in (study, series, instance) if one not in covered]
        assert all(part.covers(one) for one in covered)
        assert not any(part.covers(one) for one in others)
        assert not part.covers(Part("1.9", "1.3", "1.4"))


def test_two_scopes_that_permit_the_same_are_one_path() -> None:
    decision = permit_patient(
        token("patient/*.rs patient/*.s"),
        SEARCH,
        None,
        policy=ON,
        now=NOW,
        client=None,
        understood=frozenset(),
    )
    assert decision == patient_permit("p1", SEARCH)


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_row_is_the_patients_by_one_of_the_identifiers(unnamed: bool) -> None:
    """SIA-42: or where no patient is named, as its level has it."""
    known_as = frozenset({MINE, ALSO_MINE})
    for owner, own in ((MINE, True), (ALSO_MINE, True), (HERS, False), (None, unnamed)):
        assert is_own_row(owner, known_as, unnamed=unnamed) is own
    assert not is_own_row(MINE, frozenset(), unnamed=unnamed)


@pytest.mark.parametrize(
    ("issuers", "unambiguous"),
    [([], True), ([None], True), (["A"], True), (["A", None], False), (["A", "B"], False)],
)
def test_a_number_under_two_issuers_is_nobodys(
    issuers: list[str | None], unambiguous: bool
) -> None:
    assert is_unambiguous(issuers) is unambiguous


def test_owners_that_are_all_some_or_none_of_the_patient() -> None:
    """No owners are nobody's; a study of which some owners are the patient is shared."""
    mine, also_mine, hers = map(PatientIdentifier, ("1", "2", "3"))
    patient = frozenset({mine, also_mine})
    for owners, reason in (
        ([], Reason.ABSENT),
        ([mine], None),
        ([mine, also_mine], None),
        ([mine, hers], Reason.SHARED_UID),
        ([mine, also_mine, hers], Reason.SHARED_UID),
        ([hers], Reason.FOREIGN),
    ):
        refused = decide_owners(frozenset(owners), patient)
        assert (refused and refused.reason) == reason
        assert are_own_instances(owners, patient) is (reason is None)

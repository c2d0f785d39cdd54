"""The decision holds for every combination of grants, patients, tokens and owners (SIA-10..16)."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import AnswerKind, PatientIdentifier, Token
from sidecar.access.permits import Deny, Interaction, PatientPermit
from sidecar.access.reasons import STATUS, Reason
from sidecar.access.scopes import Grant, ScopeContext
from tests.access.decision_cases import NOW, ON, PART, PERMIT, SEARCH
from tests.permits import (
    make_policy,
    patient_permit,
    permit_patient,
    permit_study,
    study_facts,
    study_permit,
)

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

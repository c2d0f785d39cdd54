"""Whether a study, its instances and rows are the patient's (SIA-22, 42, 45)."""

from dataclasses import replace

import pytest

from sidecar.access.decision import (
    are_own_instances,
    decide_owners,
    is_own_row,
    is_unambiguous,
)
from sidecar.access.facts import AnswerKind, Part, PatientIdentifier, StudyFacts
from sidecar.access.permits import Deny
from sidecar.access.reasons import STATUS, Reason
from tests.access.decision_cases import ALSO_MINE, HERS, MINE, NOW, PART, PERMIT, STUDY_DENIALS
from tests.permits import (
    header_permit,
    permit_study,
    study_facts,
    study_permit,
)


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
        others = [candidate for candidate in (study, series, instance) if candidate not in covered]
        assert all(part.covers(candidate) for candidate in covered)
        assert not any(part.covers(candidate) for candidate in others)
        assert not part.covers(Part("1.9", "1.3", "1.4"))


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

"""What the paths of a permit show of a study, and what they hide (SIA-15, 43)."""

from dataclasses import replace
from itertools import permutations

import pytest

from sidecar.access.decision import decide_visible
from sidecar.access.facts import (
    AnswerKind,
    Caller,
    DescribedStudy,
    Effect,
    Part,
    PatientIdentifier,
)
from sidecar.access.permits import (
    ALL_STUDIES,
    AllStudies,
    Deny,
    HeaderPermit,
    PatientPermit,
    StudyPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.visibility import (
    HIDDEN,
    SHARED,
    Hidden,
    Visible,
    is_hidden_anyway,
    visibility,
)
from tests.permits import (
    make_path,
    make_rule,
    make_visible,
    patient_permit,
    permit_study,
    study_facts,
    study_permit,
)
from tests.tables.denials import (
    CT_SERIES,
    OF_CT,
    RETRIEVE,
    SEARCH,
    SHOWN_DENIALS,
    SR,
    SR_SERIES,
    STUDY,
    WITH_RULES,
    described,
)

NOW = 1_000.0
MINE = PatientIdentifier("p1")
MINE_ALONE = frozenset({MINE})


def decide(
    permit: PatientPermit,
    part: Part,
    studies: tuple[DescribedStudy, ...],
    answer: AnswerKind = AnswerKind.NAMED,
) -> StudyPermit | HeaderPermit | Deny:
    """The decision on a study that is the patient's, as its instances say, too."""
    facts = study_facts(frozenset({MINE}), True, inside=frozenset({MINE}))
    return permit_study(permit, part, [MINE], facts, answer, now=NOW, described=studies)


@pytest.mark.parametrize(("permit", "part", "studies", "reason"), SHOWN_DENIALS)
def test_what_is_not_shown(
    permit: PatientPermit, part: Part, studies: tuple[DescribedStudy, ...], reason: Reason
) -> None:
    """SIA-43, 45."""
    denied = decide(permit, part, studies)
    assert isinstance(denied, Deny)
    assert denied.reason is reason
    assert denied.series == ({"1.CT"} if reason is Reason.PARTLY_EXCLUDED else set())


def test_a_shared_uid_is_not_shown_and_has_its_own_reason() -> None:
    """Of a permit that is limited; any other asks the archive for the owners."""

    def decided(permit: PatientPermit, seen: Hidden | AllStudies) -> Visible | Deny:
        return decide_visible(permit, STUDY, seen, AnswerKind.NAMED)

    assert decided(WITH_RULES, SHARED) == Deny(Reason.SHARED_UID)
    assert decided(patient_permit("p1", RETRIEVE), ALL_STUDIES) == make_visible()


@pytest.mark.parametrize("permit", [WITH_RULES, OF_CT], ids=["rules", "a constraint"])
def test_all_studies_are_for_a_permit_without_limits_alone(permit: PatientPermit) -> None:
    """Who forgets to work out what is visible permits nothing."""
    decided = decide_visible(permit, STUDY, ALL_STUDIES, AnswerKind.NAMED)
    assert decided == Deny(Reason.NOT_SHOWN)


def test_what_is_shown() -> None:
    whole = described("CT", satisfies=("modality=CT",))
    assert decide(OF_CT, STUDY, (whole,)) == study_permit("p1", STUDY, known_as=MINE_ALONE)
    assert decide(WITH_RULES, STUDY, (whole,)) == study_permit(
        "p1", STUDY, frozenset({"1.CT"}), MINE_ALONE
    )
    permit = decide(WITH_RULES, CT_SERIES, (described("CT", "SR"),))
    assert permit == study_permit("p1", CT_SERIES, frozenset({"1.CT"}), MINE_ALONE)


def test_a_study_that_is_listed_may_have_excluded_parts() -> None:
    permit = decide(WITH_RULES, STUDY, (described("CT", "SR"),), AnswerKind.LISTED)
    assert permit == study_permit("p1", STUDY, frozenset({"1.CT"}), MINE_ALONE)
    assert isinstance(
        decide(WITH_RULES, SR_SERIES, (described("CT", "SR"),), AnswerKind.LISTED), Deny
    )


def test_a_foreign_study_is_foreign_whatever_is_said_of_it() -> None:
    facts = study_facts(frozenset({PatientIdentifier("p2")}), True)
    studies = (described("CT"),)
    assert permit_study(
        WITH_RULES, STUDY, [MINE], facts, AnswerKind.NAMED, now=NOW, described=studies
    ) == Deny(Reason.FOREIGN)


def test_what_is_drawn_of_a_whole_study_tells_of_no_series() -> None:
    """One that came since it was described would not be noticed: so where series are decided on, by
    series alone.
    """
    decided = decide(WITH_RULES, STUDY, (described("CT"),), AnswerKind.DRAWN)
    assert decided == Deny(Reason.PARTLY_EXCLUDED, frozenset({"1.CT"}))
    assert isinstance(
        decide(WITH_RULES, CT_SERIES, (described("CT"),), AnswerKind.DRAWN), StudyPermit
    )
    assert isinstance(
        decide(OF_CT, STUDY, (described("CT", satisfies=("modality=CT",)),), AnswerKind.DRAWN),
        StudyPermit,
    )


def test_of_several_studies_under_a_uid_each_must_be_shown() -> None:
    """Series that each shows, complete only if each is, held until the last hold is over."""
    hold = make_rule("hold", Effect.HOLD, {"StudyID": ("held",)}, hours=0)
    permit = patient_permit("p1", SEARCH, (make_path(rules=(hold, SR)),))
    never = described("CT", StudyID="x")
    early, late = (
        replace(described("CT", "SR", StudyID="held"), started_by=started_by)
        for started_by in (10.0, 20.0)
    )
    for studies in permutations((never, early, late)):
        assert visibility(permit, studies, NOW) == make_visible(
            frozenset({"1.CT"}), is_complete=False, since=20.0
        )
    assert visibility(permit, [never, described("SR", StudyID="x")], NOW) == HIDDEN


def test_a_study_that_is_not_described_is_hidden() -> None:
    """Whatever leads to it, and whatever the external policy will say."""
    for permit in (
        patient_permit("p1", SEARCH),
        patient_permit("p1", SEARCH, caller=Caller("app")),
        WITH_RULES,
    ):
        assert visibility(permit, [], NOW) == HIDDEN
        assert is_hidden_anyway(permit, [], NOW)


@pytest.mark.parametrize("answer", [AnswerKind.UNNAMED, AnswerKind.DRAWN])
def test_what_names_nobody_needs_a_look_inside_first(answer: AnswerKind) -> None:
    """SIA-42: drawn images and frames alike."""
    permit = patient_permit("p1", RETRIEVE)

    def decided(inside: frozenset[PatientIdentifier] | None) -> StudyPermit | HeaderPermit | Deny:
        facts = study_facts(MINE_ALONE, True, inside=inside)
        return permit_study(permit, STUDY, [MINE], facts, answer, now=NOW)

    assert decided(None) == HeaderPermit("p1", STUDY, MINE_ALONE)
    assert decided(frozenset({PatientIdentifier("p2")})) == Deny(Reason.FOREIGN)
    assert decided(MINE_ALONE) == study_permit("p1", STUDY, known_as=MINE_ALONE)

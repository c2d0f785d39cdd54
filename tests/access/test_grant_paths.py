"""Ways to a study: constraints of scopes, backend clients, rules; never added up (SIA-11, 13, 14,
15, 43).
"""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.decision import decide_visible
from sidecar.access.facts import (
    AnswerKind,
    BackendClient,
    Caller,
    DescribedStudy,
    Effect,
    Part,
    PatientIdentifier,
    Policy,
    Rule,
    Token,
    Verdict,
)
from sidecar.access.permits import (
    ALL_SERIES,
    ALL_STUDIES,
    AllStudies,
    Deny,
    GrantPath,
    HeaderPermit,
    Interaction,
    PatientPermit,
    StudyPermit,
)
from sidecar.access.reasons import Reason
from sidecar.access.scopes import Grant, ScopeContext, parse_scopes
from sidecar.access.visibility import (
    HIDDEN,
    SHARED,
    Hidden,
    Visible,
    is_hidden_anyway,
    visibility,
)
from tests.permits import (
    backend_client,
    make_path,
    make_policy,
    make_rule,
    make_visible,
    patient_permit,
    permit_patient,
    permit_study,
    study_facts,
    study_permit,
)
from tests.tables.denials import (
    BACKEND,
    BACKEND_DENIALS,
    CLIENT,
    CT_SERIES,
    OF_CT,
    RETRIEVE,
    RULES,
    SEARCH,
    SHOWN_DENIALS,
    SR,
    SR_SERIES,
    STUDY,
    WITH_RULES,
    described,
)

NOW = 1_000.0
SYSTEM = make_path(context="system")


def token(scopes: str, patient: str | None = None) -> Token:
    """A validated token."""
    return Token(parse_scopes(scopes), NOW + 60, patient, client_id="app")


@pytest.mark.parametrize(
    ("scopes", "own", "patient", "policy", "client", "reason"), BACKEND_DENIALS
)
def test_who_has_no_path(
    scopes: str,
    own: str | None,
    patient: str | None,
    policy: Policy,
    client: BackendClient | None,
    reason: Reason,
) -> None:
    """SIA-13, 14: a backend client has what it was given, by name, and nobody else has it."""
    found = permit_patient(
        token(scopes, own),
        RETRIEVE,
        patient,
        policy=policy,
        now=NOW,
        client=client,
        understood=frozenset(),
    )
    assert found == Deny(reason)


@pytest.mark.parametrize(
    ("scopes", "own", "patient", "policy", "client", "paths"),
    [
        ("system/*.rs", None, "p2", BACKEND, CLIENT, [SYSTEM]),
        (
            "system/*.rs",
            None,
            "p2",
            make_policy(app_launch=False, backend_services=True),
            CLIENT,
            [SYSTEM],
        ),
        ("user/*.rs", "p1", None, make_policy(user_level=True), None, [make_path(context="user")]),
        ("patient/*.rs", "p1", None, make_policy(user_level=True), None, [make_path()]),
        ("patient/*.rs system/*.rs", "p1", "p1", BACKEND, CLIENT, [make_path(), SYSTEM]),
        (
            "patient/*.rs?a=b patient/*.rs patient/ImagingStudy.rs",
            "p1",
            None,
            make_policy(),
            None,
            [make_path("a=b"), make_path()],
        ),
        ("patient/*.rs system/*.rs", "p1", "p2", BACKEND, CLIENT, [SYSTEM]),
        ("patient/*.rs", "p1", "p1", make_policy(rules=RULES), None, [make_path(rules=RULES)]),
        ("patient/*.rs?a=b patient/*.rs?c=d", "p1", None, make_policy(), None, [make_path("a=b")]),
        (
            "system/*.rs?a=b",
            None,
            "p1",
            BACKEND,
            backend_client(frozenset({"p1"}), {"StudyID": ("x",)}, rules=False),
            [make_path("a=b", {"StudyID": ("x",)}, context="system")],
        ),
        (
            "system/*.rs",
            None,
            "p1",
            make_policy(backend_services=True, rules=RULES),
            CLIENT,
            [make_path(rules=RULES, context="system")],
        ),
        (
            "system/*.rs",
            None,
            "p1",
            make_policy(backend_services=True, rules=RULES),
            backend_client(frozenset({"p1"}), rules=False),
            [SYSTEM],
        ),
    ],
)
def test_each_grant_is_a_path(
    scopes: str,
    own: str | None,
    patient: str,
    policy: Policy,
    client: BackendClient | None,
    paths: list[GrantPath],
) -> None:
    """SIA-13, 15: with its own constraint, its client's studies, and the site's rules."""
    found = permit_patient(
        token(scopes, own),
        RETRIEVE,
        patient,
        policy=policy,
        now=NOW,
        client=client,
        understood=frozenset({"a=b"}),
    )
    assert found == patient_permit(patient or own or "", RETRIEVE, tuple(paths))


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
    found = decide(permit, part, studies)
    assert isinstance(found, Deny)
    assert found.reason is reason
    assert found.series == ({"1.CT"} if reason is Reason.PARTLY_EXCLUDED else set())


def test_a_shared_uid_is_not_shown_and_has_its_own_reason() -> None:
    """Of a permit that is limited; any other asks the archive for the owners."""

    def found(permit: PatientPermit, seen: Hidden | AllStudies) -> Visible | Deny:
        return decide_visible(permit, STUDY, seen, AnswerKind.NAMED)

    assert found(WITH_RULES, SHARED) == Deny(Reason.SHARED_UID)
    assert found(patient_permit("p1", RETRIEVE), ALL_STUDIES) == make_visible()


@pytest.mark.parametrize("permit", [WITH_RULES, OF_CT], ids=["rules", "a constraint"])
def test_all_studies_are_for_a_permit_without_limits_alone(permit: PatientPermit) -> None:
    """Who forgets to work out what is visible permits nothing."""
    found = decide_visible(permit, STUDY, ALL_STUDIES, AnswerKind.NAMED)
    assert found == Deny(Reason.NOT_SHOWN)


def test_what_is_shown() -> None:
    whole = described("CT", satisfies=("modality=CT",))
    assert decide(OF_CT, STUDY, (whole,)) == study_permit("p1", STUDY, known_as=MINE_ALONE)
    assert decide(WITH_RULES, STUDY, (whole,)) == study_permit(
        "p1", STUDY, frozenset({"1.CT"}), MINE_ALONE
    )
    found = decide(WITH_RULES, CT_SERIES, (described("CT", "SR"),))
    assert found == study_permit("p1", CT_SERIES, frozenset({"1.CT"}), MINE_ALONE)


def test_a_study_that_is_listed_may_have_excluded_parts() -> None:
    found = decide(WITH_RULES, STUDY, (described("CT", "SR"),), AnswerKind.LISTED)
    assert found == study_permit("p1", STUDY, frozenset({"1.CT"}), MINE_ALONE)
    assert isinstance(
        decide(WITH_RULES, SR_SERIES, (described("CT", "SR"),), AnswerKind.LISTED), Deny
    )


def test_a_foreign_study_is_foreign_whatever_is_said_of_it() -> None:
    facts = study_facts(frozenset({PatientIdentifier("p2")}), True)
    studies = (described("CT"),)
    assert permit_study(
        WITH_RULES, STUDY, [MINE], facts, AnswerKind.NAMED, now=NOW, described=studies
    ) == Deny(Reason.FOREIGN)


CONSTRAINTS = ["a", "b"]
GRANTS = st.builds(
    Grant,
    st.sampled_from(ScopeContext),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "a", "b", "not understood"]),
)
VERDICTS = st.sampled_from(
    [None, Verdict(True), Verdict(False), Verdict(True, frozenset({"1.CT"}))]
)
STUDIES = st.builds(
    lambda series, satisfies, name: described(
        *series, satisfies=tuple(satisfies), **({"StudyID": name} if name else {})
    ),
    st.lists(st.sampled_from(["CT", "SR"]), unique=True),
    st.sets(st.sampled_from(CONSTRAINTS)),
    st.sampled_from(["x", "y", ""]),
)
CLIENTS = st.none() | st.builds(
    BackendClient,
    st.sampled_from([frozenset(), frozenset({"p1"})]),
    st.sampled_from([{}, {"StudyID": ("x",)}]),
    st.booleans(),
)
POLICIES = st.builds(
    Policy,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), RULES]),
    st.just(False),
)


@given(
    st.lists(GRANTS, max_size=4).map(tuple),
    st.sampled_from(Interaction),
    st.sampled_from(["p1", "p2", None]),
    st.sampled_from(["p1", None]),
    POLICIES,
    CLIENTS,
    STUDIES,
)
def test_together_grants_show_what_one_of_them_shows(
    grants: tuple[Grant, ...],
    interaction: Interaction,
    patient: str | None,
    own: str | None,
    policy: Policy,
    client: BackendClient | None,
    study: DescribedStudy,
) -> None:
    """SIA-15: two grants permit together what the better of them permits alone."""

    def sees(*some: Grant) -> Visible | Hidden:
        permit = permit_patient(
            Token(some, NOW + 60, own),
            interaction,
            patient,
            policy=policy,
            now=NOW,
            client=client,
            understood=frozenset(CONSTRAINTS),
        )
        return visibility(permit, [study], NOW) if isinstance(permit, PatientPermit) else HIDDEN

    alone = [found for grant in grants if isinstance(found := sees(grant), Visible)]
    together = sees(*grants)
    if not alone:
        assert together == HIDDEN
    else:
        assert together in alone
        assert isinstance(together, Visible)
        assert together.is_complete == any(one.is_complete for one in alone)


@given(st.booleans(), st.sampled_from([(), RULES]), STUDIES, VERDICTS)
def test_the_external_policy_only_takes_away(
    constrained: bool, rules: tuple[Rule, ...], study: DescribedStudy, verdict: Verdict | None
) -> None:
    """And what it does not speak of is not shown (SIA-16)."""
    path = make_path("a" if constrained else None, rules=rules)
    before = visibility(patient_permit("p1", SEARCH, (path,)), [study], NOW)
    judged = replace(study, verdicts={} if verdict is None else {"patient": verdict})
    after = visibility(patient_permit("p1", SEARCH, (path,), Caller("app")), [judged], NOW)
    if verdict is None or not verdict.allow or isinstance(before, Hidden):
        assert after == HIDDEN
        return
    everything = frozenset(one.uid for one in study.series)
    left = (everything if before.series is ALL_SERIES else before.series) - verdict.exclude_series
    if everything and not left:
        assert after == HIDDEN
    else:
        assert isinstance(after, Visible)
        assert after.series == left
        assert after.is_complete == (left == everything)


def test_who_asks_is_told_to_the_external_policy() -> None:
    facts = Token(
        parse_scopes("patient/*.rs openid"), NOW + 60, "p1", "app", "u1", "https://ehr.example.org"
    )
    found = permit_patient(
        facts,
        SEARCH,
        None,
        policy=make_policy(external=True),
        now=NOW,
        client=None,
        understood=frozenset(),
    )
    assert isinstance(found, PatientPermit)
    assert found.caller == Caller("app", "u1", "https://ehr.example.org")
    assert found.is_limited


def test_a_verdict_is_for_the_scopes_of_one_context() -> None:
    """SIA-15: what the policy allows to a user's scope does not come to a patient's beside it."""
    judged = replace(
        described("CT", "SR", satisfies=("modality=MR",)),
        verdicts={"patient": Verdict(True, frozenset({"1.SR"})), "user": Verdict(True)},
    )
    permit = patient_permit(
        "p1", SEARCH, (make_path(), make_path("modality=CT", context="user")), Caller("app")
    )
    assert visibility(permit, [judged], NOW) == make_visible(frozenset({"1.CT"}), is_complete=False)
    both = patient_permit(
        "p1", SEARCH, (make_path(), make_path("modality=MR", context="user")), Caller("app")
    )
    assert visibility(both, [judged], NOW) == make_visible(frozenset({"1.CT", "1.SR"}))


def test_what_is_drawn_of_a_whole_study_tells_of_no_series() -> None:
    """One that came since it was described would not be noticed: so where series are decided on, by
    series alone.
    """
    found = decide(WITH_RULES, STUDY, (described("CT"),), AnswerKind.DRAWN)
    assert found == Deny(Reason.PARTLY_EXCLUDED, frozenset({"1.CT"}))
    assert isinstance(
        decide(WITH_RULES, CT_SERIES, (described("CT"),), AnswerKind.DRAWN), StudyPermit
    )
    assert isinstance(
        decide(OF_CT, STUDY, (described("CT", satisfies=("modality=CT",)),), AnswerKind.DRAWN),
        StudyPermit,
    )


def test_the_path_that_shows_most_is_taken_in_any_order() -> None:
    """A path that leads nowhere, or to less, neither hides nor ends what another one shows."""
    everything, less = make_path("a"), make_path(rules=RULES)
    unsatisfied, elsewhere = make_path("b"), make_path(studies={"StudyID": ("x",)})
    empty = make_path(rules=(make_rule("all", Effect.EXCLUDE),))
    study = described("CT", "SR", satisfies=("a",), StudyID="y")
    for paths in permutations((everything, less, unsatisfied, elsewhere, empty)):
        assert visibility(patient_permit("p1", SEARCH, paths), [study], NOW) == make_visible()
    for paths in permutations((less, unsatisfied, elsewhere, empty)):
        assert visibility(patient_permit("p1", SEARCH, paths), [study], NOW) == make_visible(
            frozenset({"1.CT"}), is_complete=False
        )


def test_of_paths_to_parts_the_larger_part_is_taken_and_of_equals_the_first() -> None:
    def without(*modalities: str) -> GrantPath:
        rule = make_rule("r", Effect.EXCLUDE, series={"Modality": modalities})
        return make_path(rules=(rule,))

    def seen(*paths: GrantPath) -> Visible | Hidden:
        study = described("CT", "SR", "PR")
        return visibility(patient_permit("p1", SEARCH, paths), [study], NOW)

    two = make_visible(frozenset({"1.CT", "1.PR"}), is_complete=False)
    assert seen(without("SR"), without("CT", "SR")) == two
    assert seen(without("CT", "SR"), without("SR")) == two
    assert seen(without("SR"), without("CT")) == two


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


def test_what_is_hidden_whatever_the_external_policy_says() -> None:
    """Then it is not asked; a study on which it has said nothing yet is not among those."""
    permit = patient_permit("p1", SEARCH, (make_path(rules=RULES),), Caller("app"))
    assert is_hidden_anyway(permit, [described("SR")], NOW)
    assert is_hidden_anyway(permit, [described("CT"), described("SR")], NOW)
    assert not is_hidden_anyway(permit, [described("CT", "SR")], NOW)
    assert visibility(permit, [described("CT", "SR")], NOW) == HIDDEN


def test_the_external_policy_adds_nothing_to_what_rules_leave() -> None:
    permit = patient_permit("p1", SEARCH, (make_path(rules=RULES),), Caller("app"))

    def seen(verdict: Verdict) -> Visible | Hidden:
        study = replace(described("CT", "SR"), verdicts={"patient": verdict})
        return visibility(permit, [study], NOW)

    assert seen(Verdict(True)) == make_visible(frozenset({"1.CT"}), is_complete=False)
    assert seen(Verdict(True, frozenset({"1.SR"}))) == seen(Verdict(True))
    # A study of which nothing is left is not shown as an empty one.
    assert seen(Verdict(True, frozenset({"1.CT"}))) == HIDDEN


@pytest.mark.parametrize("answer", [AnswerKind.UNNAMED, AnswerKind.DRAWN])
def test_what_names_nobody_needs_a_look_inside_first(answer: AnswerKind) -> None:
    """SIA-42: drawn images and frames alike."""
    permit = patient_permit("p1", RETRIEVE)

    def found(inside: frozenset[PatientIdentifier] | None) -> StudyPermit | HeaderPermit | Deny:
        facts = study_facts(MINE_ALONE, True, inside=inside)
        return permit_study(permit, STUDY, [MINE], facts, answer, now=NOW)

    assert found(None) == HeaderPermit("p1", STUDY, MINE_ALONE)
    assert found(frozenset({PatientIdentifier("p2")})) == Deny(Reason.FOREIGN)
    assert found(MINE_ALONE) == study_permit("p1", STUDY, known_as=MINE_ALONE)

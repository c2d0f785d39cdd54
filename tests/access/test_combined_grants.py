"""Grants are never added up, and the external policy only takes away, for any of them
(SIA-11, 13, 14, 43).
"""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.access.facts import (
    BackendClient,
    Caller,
    DescribedStudy,
    Policy,
    Rule,
    Token,
    Verdict,
)
from sidecar.access.permits import (
    ALL_SERIES,
    Interaction,
    PatientPermit,
)
from sidecar.access.scopes import Grant, ScopeContext
from sidecar.access.visibility import (
    HIDDEN,
    Hidden,
    Visible,
    visibility,
)
from tests.permits import (
    make_path,
    patient_permit,
    permit_patient,
)
from tests.tables.denials import (
    RULES,
    SEARCH,
    described,
)

NOW = 1_000.0
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


@example(
    (Grant(ScopeContext.PATIENT, True, False), Grant(ScopeContext.SYSTEM, False, True)),
    SEARCH,
    "p1",
    "p1",
    Policy(True, False, False, (), False),
    None,
    described("CT"),
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

    alone = [visible for grant in grants if isinstance(visible := sees(grant), Visible)]
    together = sees(*grants)
    if not alone:
        assert together == HIDDEN
    else:
        assert together in alone
        assert isinstance(together, Visible)
        assert together.is_complete == any(visible.is_complete for visible in alone)


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
    everything = frozenset(series.uid for series in study.series)
    left = (everything if before.series is ALL_SERIES else before.series) - verdict.exclude_series
    if everything and not left:
        assert after == HIDDEN
    else:
        assert isinstance(after, Visible)
        assert after.series == left
        assert after.is_complete == (left == everything)

"""Study rules: excluded, held, shown; in doubt not (SIA-16, 43)."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import DescribedSeries, DescribedStudy, Effect, Rule
from sidecar.access.permits import ALL_SERIES
from sidecar.access.visibility import HIDDEN, HOUR_SECONDS, Hidden, Visible, holds, visible_by_rules
from tests.permits import make_rule, make_visible

EXCLUDE, HOLD, SHOW = Effect.EXCLUDE, Effect.HOLD, Effect.SHOW
NOW = 1_700_000_000.0
CT, SR, PR = (DescribedSeries(f"1.2.{one}", {"Modality": (one,)}) for one in ("CT", "SR", "PR"))
NAMELESS = DescribedSeries("1.2.9", {})


def study(
    *series: DescribedSeries, started_by: float | None = NOW - 10, **attributes: Any
) -> DescribedStudy:
    """A study with these attributes, each a text or several."""
    values = {
        name: (one,) if isinstance(one, str) else tuple(one) for name, one in attributes.items()
    }
    return DescribedStudy(values, series, started_by)


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("CT", "CT", True),
        ("CT", "ct", True),
        ("CT", "CTA", False),
        ("CT*", "CTA", True),
        ("?R", "MR", True),
        ("*dose*", "A Dose Report", True),
        ("?R", "R", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[AB]", True),
        ("*", "x", True),
        ("*a*a*a*a*b", "a" * 64, False),
        ("a*", "a\nb", True),
        ("Brustkrebs*", "BRUSTKREBSVORSORGE", True),
    ],
)
def test_patterns(pattern: str, value: str, matches: bool) -> None:
    """PS3.4 C.2.2.2.4, without case; nothing else is special."""
    assert holds({"StudyDescription": (pattern,)}, {"StudyDescription": (value,)}) is matches


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("20240101", "20240101", True),
        ("20240101", "20240102", False),
        ("20240101-20241231", "20240615", True),
        ("20240101-20241231", "20250101", False),
        ("-20241231", "19990101", True),
        ("-20241231", "20250101", False),
        ("20240101-", "20240101", True),
        ("20240101-", "20231231", False),
        ("20240101", "2024.01.01", True),
        ("-20241231", "2024", None),
        ("-20241231", "", None),
        ("20240101-", "soon", None),
        ("20240101-", "2024May1", None),
        ("20240101-", "\uff12\uff10\uff12\uff14\uff10\uff11\uff10\uff11", None),
    ],
)
def test_dates(pattern: str, value: str, matches: bool | None) -> None:
    """PS3.4 C.2.2.2.5; a date that is none is not known."""
    assert holds({"StudyDate": (pattern,)}, {"StudyDate": (value,)} if value else {}) is matches


def test_conditions_are_true_false_or_unknown() -> None:
    both = {"ModalitiesInStudy": ("CT", "MR"), "StudyDescription": ("*head*",)}
    assert holds({}, {}) is True
    assert holds(both, {"ModalitiesInStudy": ("SR", "MR"), "StudyDescription": ("Head",)}) is True
    assert holds(both, {"ModalitiesInStudy": ("MR",)}) is None
    assert holds(both, {"ModalitiesInStudy": ("US",)}) is False  # Whatever the description is.


def test_without_rules_all_is_shown() -> None:
    assert visible_by_rules([], study(CT), NOW) == make_visible()


@pytest.mark.parametrize("effect", [EXCLUDE, HOLD])
def test_what_is_unknown_is_not_shown(effect: Effect) -> None:
    """And is, where the site says that a missing value is none that matches."""
    rule = make_rule("r", effect, study={"InstitutionName": ("Clinic*",)}, hours=1)
    assert visible_by_rules([rule], study(InstitutionName="Clinic A"), NOW) == HIDDEN
    assert visible_by_rules([rule], study(InstitutionName="Hospital"), NOW) == make_visible()
    assert visible_by_rules([rule], study(), NOW) == HIDDEN
    assert (
        visible_by_rules(
            [make_rule("r", effect, study=rule.study, hours=1, unknown_applies=False)], study(), NOW
        )
        == make_visible()
    )


def test_a_rule_that_shows_needs_to_know() -> None:
    rules = [
        make_rule("mine", SHOW, study={"InstitutionName": ("Mine",)}),
        make_rule("all", EXCLUDE),
    ]
    assert visible_by_rules(rules, study(InstitutionName="Mine"), NOW) == make_visible()
    assert visible_by_rules(rules, study(InstitutionName="Other"), NOW) == HIDDEN
    assert visible_by_rules(rules, study(), NOW) == HIDDEN


def test_the_first_rule_decides() -> None:
    ct, head = {"ModalitiesInStudy": ("CT",)}, {"StudyDescription": ("*head*",)}
    one = study(ModalitiesInStudy="CT", StudyDescription="Head")
    assert (
        visible_by_rules(
            [make_rule("a", SHOW, study=ct), make_rule("b", EXCLUDE, study=head)], one, NOW
        )
        == make_visible()
    )
    assert (
        visible_by_rules(
            [make_rule("b", EXCLUDE, study=head), make_rule("a", SHOW, study=ct)], one, NOW
        )
        == HIDDEN
    )


@pytest.mark.parametrize(
    ("started_by", "is_shown"),
    [
        (NOW - 72 * HOUR_SECONDS, True),
        (NOW - 72 * HOUR_SECONDS + 0.001, False),
        (NOW, False),
        (NOW + 1e9, False),
        (None, False),
        (math.nan, False),
        (0.0, True),
    ],
)
def test_a_hold_ends_after_its_hours(started_by: float | None, is_shown: bool) -> None:
    """A study that does not say when it began, or that is yet to begin, is held."""
    found = visible_by_rules(
        [make_rule("embargo", HOLD, hours=72)], study(CT, started_by=started_by), NOW
    )
    assert found == (
        make_visible(since=(started_by or 0) + 72 * HOUR_SECONDS) if is_shown else HIDDEN
    )


def test_after_a_hold_the_next_rule_decides() -> None:
    rules = [
        make_rule("a", HOLD, hours=1),
        make_rule("b", EXCLUDE, study={"StudyDescription": ("x",)}),
        make_rule("c", HOLD, hours=2),
    ]
    assert visible_by_rules(rules, study(started_by=0, StudyDescription="x"), NOW) == HIDDEN
    assert visible_by_rules(rules, study(started_by=0, StudyDescription="y"), NOW) == make_visible(
        since=2 * HOUR_SECONDS
    )


def test_the_last_hold_counts_where_series_are_held_too() -> None:
    rules = [
        make_rule("study", HOLD, hours=1),
        make_rule("series", HOLD, series={"Modality": ("CT",)}, hours=2),
    ]
    assert visible_by_rules(rules, study(CT, started_by=0), NOW) == make_visible(
        frozenset({CT.uid}), since=2 * HOUR_SECONDS
    )


def test_series_are_left_out() -> None:
    """The rest of the study stays; a series that does not tell is left out, too."""
    dose = make_rule("dose reports", EXCLUDE, series={"Modality": ("SR",)})
    assert visible_by_rules([dose], study(CT, SR, NAMELESS), NOW) == make_visible(
        frozenset({CT.uid}), is_complete=False
    )
    assert visible_by_rules([dose], study(CT, PR), NOW) == make_visible(frozenset({CT.uid, PR.uid}))
    assert visible_by_rules([dose], study(SR), NOW) == HIDDEN  # Nothing is left: it is not there.
    only_of_mr = make_rule(
        "r", EXCLUDE, study={"ModalitiesInStudy": ("MR",)}, series={"Modality": ("SR",)}
    )
    assert visible_by_rules(
        [only_of_mr], study(CT, SR, ModalitiesInStudy=("CT", "SR")), NOW
    ) == make_visible(frozenset({CT.uid, SR.uid}))


def test_a_series_that_stands_twice_is_shown_only_if_both_may_be() -> None:
    dose = make_rule("dose reports", EXCLUDE, series={"Modality": ("SR",)})
    twice = DescribedSeries(CT.uid, {"Modality": ("SR",)})
    assert visible_by_rules([dose], study(CT, PR, twice), NOW) == make_visible(
        frozenset({PR.uid}), is_complete=False
    )


def test_no_series_is_compared_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 series that took two seconds."""
    monkeypatch.setattr(DescribedSeries, "__eq__", lambda *both: pytest.fail("compared"))
    dose = make_rule("dose reports", EXCLUDE, series={"Modality": ("SR",)})
    assert visible_by_rules([dose], study(CT, PR, SR), NOW) == make_visible(
        frozenset({CT.uid, PR.uid}), is_complete=False
    )


def test_without_any_series_nobody_knows_what_there_is() -> None:
    dose = make_rule("dose reports", EXCLUDE, series={"Modality": ("SR",)})
    assert visible_by_rules([dose], study(), NOW) == make_visible(frozenset(), is_complete=False)


def test_rules_on_studies_and_on_series_are_two_lists() -> None:
    """A series that is shown does not bring its study back, nor the other way round."""
    rules = [
        make_rule("a", SHOW, series={"Modality": ("CT",)}),
        make_rule("b", EXCLUDE, study={"StudyDescription": ("x",)}),
    ]
    assert visible_by_rules(rules, study(CT, StudyDescription="x"), NOW) == HIDDEN
    rules = [make_rule("a", SHOW), make_rule("b", EXCLUDE, series={"Modality": ("SR",)})]
    assert visible_by_rules(rules, study(CT, SR), NOW) == make_visible(
        frozenset({CT.uid}), is_complete=False
    )


VALUES = st.sampled_from([(), ("CT",), ("SR",), ("CT", "SR")])
CONDITIONS = st.dictionaries(
    st.sampled_from(["Modality", "ModalitiesInStudy"]), st.sampled_from([("CT",), ("S*",)])
)
RULES = st.builds(
    Rule,
    st.just("r"),
    st.sampled_from(Effect),
    study=CONDITIONS,
    series=CONDITIONS,
    hours=st.sampled_from([1.0, 100.0]),
    unknown_applies=st.booleans(),
)
STUDIES = st.builds(
    lambda modalities, series, started_by: DescribedStudy(
        {"ModalitiesInStudy": modalities},
        tuple(
            DescribedSeries(f"1.{number}", {"Modality": one}) for number, one in enumerate(series)
        ),
        started_by,
    ),
    VALUES,
    st.lists(VALUES, max_size=3),
    st.sampled_from([None, 0.0, NOW - 2 * HOUR_SECONDS, NOW]),
)


def _series(found: Visible | Hidden, one: DescribedStudy) -> frozenset[str]:
    """The series that are shown."""
    if isinstance(found, Hidden):
        return frozenset()
    return (
        frozenset(series.uid for series in one.series)
        if found.series is ALL_SERIES
        else found.series
    )


@given(st.lists(RULES, max_size=4), STUDIES)
def test_one_more_rule_that_excludes_or_holds_never_shows_more(
    rules: list[Rule], one: DescribedStudy
) -> None:
    before = visible_by_rules(rules, one, NOW)
    for more in (
        make_rule("x", EXCLUDE, series={"Modality": ("CT",)}),
        make_rule("x", EXCLUDE),
        make_rule("x", HOLD, hours=1),
    ):
        after = visible_by_rules([more, *rules], one, NOW)
        assert isinstance(before, Visible) or isinstance(after, Hidden)
        assert _series(after, one) <= _series(before, one)


@given(st.lists(RULES, max_size=4), STUDIES)
def test_what_is_left_is_part_of_the_study(rules: list[Rule], one: DescribedStudy) -> None:
    found = visible_by_rules(rules, one, NOW)
    if isinstance(found, Visible):
        everything = frozenset(series.uid for series in one.series)
        assert _series(found, one) <= everything
        by_series = any(rule.series for rule in rules)
        assert found.is_complete == (
            _series(found, one) == everything and (bool(everything) or not by_series)
        )
        assert not one.series or _series(found, one)

"""What a limited permit shows of a patient's lists: time, copies, series that come, questions
(SIA-20, 43, 45).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.access.facts import (
    Caller,
    DescribedStudy,
    Effect,
    PatientIdentifier,
    Rule,
    Verdict,
)
from sidecar.access.permits import ALL_STUDIES, Interaction, PatientPermit, SearchPermit
from sidecar.access.visibility import HIDDEN, SHARED, WHOLE_STUDY, Visible
from sidecar.authorization.external_policy import ExternalPolicy
from sidecar.authorization.row_filter import shown_rows
from sidecar.authorization.visible_studies import VisibleStudiesLookup
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import Row
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.query import parse_matching
from sidecar.fhir.imaging_study import study_uid
from sidecar.pacs.listing import Listing
from sidecar.pacs.studies import AsOf, Studies
from tests.common.peer import Clock
from tests.fakes.site import SITE
from tests.fhir.rows import row
from tests.permits import make_path, make_rule, patient_permit, search_permit

HOUR = 3_600
DAY_ENDS = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
KNOWN_AS = frozenset({PatientIdentifier("p1")})
SEARCH = search_permit("p1", KNOWN_AS)
NO_SR = make_rule("no SR", Effect.EXCLUDE, series={"Modality": ("SR",)})
HOLD = make_rule("hold", Effect.HOLD, hours=72)
ASKED = datetime(2024, 1, 1, tzinfo=UTC)


class Archive(Studies):
    """Knows these rows; ``fresh`` ones only when it is asked for those."""

    def __init__(
        self, rows: list[Row], series: dict[str, list[Row]], copies: Iterable[Row] = ()
    ) -> None:
        self.listing = self.fresh = Listing(rows, ASKED, None, tuple(copies))
        self.series_rows = series
        self.series_asked = ASKED
        self.questions: list[bool] = []
        self.details: list[tuple[object, ...]] = []

        async def of_patient(permit: SearchPermit, *, fresh: bool = False) -> Listing:
            self.questions.append(fresh)
            return self.fresh if fresh else self.listing

        self.of_patient = of_patient

    async def series_of(
        self,
        permit: SearchPermit,
        studies: Iterable[str],
        listing: Listing,
        oldest: AsOf,
    ) -> dict[str, list[Row]]:
        """As the archive says."""
        wanted = list(studies)
        self.details.append(("series", *wanted))
        oldest.note(self.series_asked)
        return {study: self.series_rows.get(study, []) for study in wanted}

    async def instances(
        self, permit: SearchPermit, study: str, series: str, oldest: AsOf
    ) -> list[Row]:
        """Return one instance of the series."""
        self.details.append(("instances", study, series))
        return [row(SOPInstanceUID=f"{series}.1")]

    async def holding(
        self,
        permit: SearchPermit,
        keyword: str,
        uid: str,
        studies: Iterable[str],
        oldest: AsOf,
        only: Mapping[str, frozenset[str]] | None = None,
    ) -> set[str]:
        """Return all that were asked about."""
        self.details.append(("holding", keyword, uid, dict(only or {})))
        return set(studies)

    def forget_listed(self, study: str, known_as: frozenset[PatientIdentifier]) -> None:
        """As ``Studies``."""
        self.details.append(("forget", study, known_as))


def study(uid: str = "1.2", **attributes: Any) -> Row:
    """A study's row."""
    return row(**{"StudyInstanceUID": uid, "StudyDate": "20240229"} | attributes)


def series(uid: str, modality: str | None) -> Row:
    """A series' row."""
    return row(SeriesInstanceUID=uid, Modality=modality, NumberOfSeriesRelatedInstances=3)


def permit(*rules: Rule, constraint: str | None = None) -> PatientPermit:
    """One that is limited so."""
    return patient_permit("p1", Interaction.RETRIEVE, (make_path(constraint, rules=rules),))


def views(
    archive: Archive, clock: Clock | None = None, rules: tuple[Rule, ...] = (), **more: Any
) -> VisibleStudiesLookup:
    """On this archive."""
    return VisibleStudiesLookup(
        archive,
        SITE,
        rules=rules,
        clock=clock or Clock(DAY_ENDS),
        **({"invalidation": Invalidation()} | more),
    )


@pytest.mark.parametrize(
    ("after", "shown"), [(0, False), (72 * HOUR - 0.01, False), (72 * HOUR, True)]
)
async def test_a_held_study_appears_when_its_time_has_come(after: float, shown: bool) -> None:
    """Without a time of day it is reckoned from the day's end."""
    view = await views(Archive([study()], {}), Clock(DAY_ENDS + after)).of(permit(HOLD), SEARCH)
    assert [study_uid(one) for one in view.rows] == (["1.2"] if shown else [])


async def test_a_sync_sees_a_study_whose_hold_has_ended() -> None:
    """SIA-20: else a client that synced meanwhile would never get it."""
    ended = datetime.fromtimestamp(DAY_ENDS + 72 * HOUR, UTC)
    view = await views(Archive([study()], {}), Clock(DAY_ENDS + 80 * HOUR)).of(permit(HOLD), SEARCH)
    assert view.last_updated({"1.2": datetime(2024, 3, 1, tzinfo=UTC)}) == {"1.2": ended}
    later = datetime(2025, 1, 1, tzinfo=UTC)
    assert view.last_updated({"1.2": later, "1.3": later}) == {"1.2": later, "1.3": later}


async def test_a_permit_that_leads_everywhere_costs_nothing() -> None:
    archive = Archive([study("not a UID"), study()], {})
    view = await views(archive).of(patient_permit("p1", Interaction.SEARCH), SEARCH)
    assert view.rows is archive.listing.rows
    assert view.visible is ALL_STUDIES
    assert view.shows_row("9.9", "9.9.9")


async def test_a_study_without_a_usable_uid_is_not_shown() -> None:
    view = await views(Archive([study("not a UID")], {})).of(permit(NO_SR), SEARCH)
    assert view.rows == []


async def test_copies_of_a_study_must_all_be_shown() -> None:
    """One UID under two identifiers of the patient: a retrieval by it may bring either."""
    rule = make_rule(
        "x", Effect.EXCLUDE, study={"StudyDescription": ("secret",)}, unknown_applies=False
    )
    archive = Archive([study()], {}, copies=[study(StudyDescription="secret")])
    assert (await views(archive).of(permit(rule), SEARCH)).rows == []
    shown = await views(archive).of_study(permit(rule), SEARCH, "1.2")
    assert shown.of("1.2") == HIDDEN


async def test_a_series_that_came_a_moment_ago_is_looked_for_once_more() -> None:
    archive = Archive([], {"1.2": [series("1.2.1", "CT")]})
    archive.fresh = Listing([study()], ASKED)
    shown = await views(archive).of_study(permit(NO_SR), SEARCH, "1.2")
    assert isinstance(shown.of("1.2"), Visible)
    assert archive.questions == [False, True]
    absent = await views(archive).of_study(permit(NO_SR), SEARCH, "9.9")
    assert absent.of("9.9") == HIDDEN
    assert absent.of("1.2") == HIDDEN  # It was not asked for.


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("shared", [True, False])
async def test_what_is_hidden_costs_what_is_not_there_costs(exists: bool, shared: bool) -> None:
    """SIA-45: no question more, no question less."""
    archive = Archive([study()] if exists else [], {"1.2": [series("1.2.1", "SR")]})
    if shared:
        archive.listing = Listing([], ASKED, shared=frozenset({"1.2"}))
    archive.fresh = archive.listing
    shown = await views(archive).of_study(permit(NO_SR), SEARCH, "1.2")
    assert shown.of("1.2") == (SHARED if shared else HIDDEN)
    assert archive.questions == [False, True]


@pytest.mark.parametrize("rules", [(), (NO_SR,)])
async def test_a_study_whose_uid_is_somebody_elses_is_not_shown(rules: tuple[Rule, ...]) -> None:
    """Also for a permit that leads everywhere: no capability is issued for it."""
    archive = Archive([study()], {"1.2": [series("1.2.1", "CT")]})
    archive.listing = Listing([study()], ASKED, shared=frozenset({"1.3"}))
    view = await views(archive).of(permit(*rules), SEARCH)
    assert isinstance(view.of("1.2"), Visible)
    assert view.of("1.3") == SHARED
    assert not view.shows_row("1.3", None)


async def test_lists_of_what_is_hidden_are_empty() -> None:
    archive = Archive([study()], {"1.2": [series("1.2.1", "CT"), series("1.2.2", "SR")]})
    view = await views(archive).of(permit(NO_SR), SEARCH)
    assert [text["0020000E"]["Value"] for text in (await view.series_of(["1.2"]))["1.2"]] == [
        ["1.2.1"]
    ]
    assert await view.series_of(["9.9"]) == {"9.9": []}
    assert await view.instances("1.2", "1.2.2") == []
    assert await view.instances("9.9", "1.2.1") == []


ROWS = [
    study("1.2", ModalitiesInStudy=["CT", "SR"], NumberOfStudyRelatedSeries=2),
    study("1.3", ModalitiesInStudy=["CT"]),
    study("1.4", ModalitiesInStudy=["SR"]),
]
SERIES = {
    "1.2": [series("1.2.1", "CT"), series("1.2.2", "SR")],
    "1.3": [series("1.3.1", "CT")],
    "1.4": [series("1.4.1", "SR")],
}


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ([], ["1.2", "1.3"]),
        ([("ModalitiesInStudy", "SR")], ["1.3"]),  # What the archive says of 1.3 is its own matter.
        ([("ModalitiesInStudy", "CT")], ["1.2", "1.3"]),
        ([("ModalitiesInStudy", "S?")], ["1.3"]),
        ([("ModalitiesInStudy", "SR\\CT")], ["1.2", "1.3"]),
        ([("StudyDate", "20240229"), ("PatientName", "x")], ["1.2", "1.3"]),
        ([("SeriesInstanceUID", "1.2.2")], ["1.3"]),
        ([("Modality", "SR")], ["1.3"]),
        ([("SOPClassesInStudy", "1.2")], ["1.3"]),
        ([("includefield", "all")], ["1.2", "1.3"]),
    ],
)
async def test_studies_are_not_found_by_what_is_hidden(
    parameters: list[tuple[str, str]], found: list[str]
) -> None:
    """Whatever the archive matched: its rows are looked at again."""
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    rows = list(filter(None, shown_rows(ROWS, Query("studies"), parse_matching(parameters), view)))
    assert [study_uid(one) for one in rows] == found
    for one in rows:
        assert "SR" not in one["00080061"]["Value"]
        assert study_uid(one) != "1.2" or one["00201206"]["Value"] == [1]


async def test_rows_below_studies() -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    for level in ("series", "instances"):
        rows = [
            row(StudyInstanceUID=study, SeriesInstanceUID=one)
            for study, one in [
                ("1.2", "1.2.1"),
                ("1.2", "1.2.2"),
                ("1.2", None),
                ("1.4", "1.4.1"),
                ("1.3", "1.3.1"),
            ]
        ]
        found = list(filter(None, shown_rows(rows, Query(level), parse_matching([]), view)))
        assert [one["0020000E"]["Value"] for one in found] == [["1.2.1"], ["1.3.1"]]


async def test_a_constraint_limits_what_is_shown() -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(constraint="modality=SR"), SEARCH)
    assert [study_uid(one) for one in view.rows] == ["1.2", "1.4"]
    assert view.rows[0] is ROWS[0]  # Nothing in it is hidden.


async def test_a_constraint_cannot_ask_for_what_is_hidden() -> None:
    """By modality or by UID: as if it were not there."""
    for constraint, found in (
        ("modality=SR", []),
        ("series=1.2.2", []),
        ("series=1.2.1", ["1.2"]),
        ("modality=CT", None),
    ):
        view = await views(Archive(ROWS, SERIES), rules=(NO_SR,)).of(
            permit(NO_SR, constraint=constraint), SEARCH
        )
        assert [study_uid(one) for one in view.rows] == (
            ["1.2", "1.3"] if found is None else found
        ), constraint


async def test_a_constraint_holds_by_the_studys_own_row_where_nothing_is_hidden() -> None:
    archive = Archive(ROWS[:1], {"1.2": SERIES["1.2"][:1]})
    limited = permit(NO_SR, constraint="modality=SR")
    view = await views(archive, rules=(NO_SR,)).of(limited, SEARCH)
    assert [study_uid(one) for one in view.rows] == ["1.2"]


async def test_what_an_archive_fills_in_from_some_series_is_left_out() -> None:
    """Orthanc answers any attribute at any level, from an image of its choice."""
    told = row(
        SeriesInstanceUID="1.2.2",
        SOPInstanceUID="1.2.2.1",
        SeriesDescription="secret",
        Modality="SR",
        NumberOfPatientRelatedStudies=3,
        StudyDescription="Head",
    )
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    (found, *_) = list(
        filter(None, shown_rows([{**ROWS[0], **told}], Query("studies"), parse_matching([]), view))
    )
    assert "SR" not in str(found)
    assert "secret" not in str(found)
    assert "1.2.2" not in str(found)
    assert found["00081030"]["Value"] == ["Head"]
    assert "00201200" not in found


@pytest.mark.parametrize("level", ["series", "instances"])
async def test_sums_below_a_study_tell_nothing(level: str) -> None:
    own = {**row(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1"), **ROWS[0]}
    other = row(StudyInstanceUID="1.3", SeriesInstanceUID="1.3.1", ModalitiesInStudy=["CT"])
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    found = list(filter(None, shown_rows([own, other], Query(level), parse_matching([]), view)))
    assert ["00080061" in one for one in found] == [False, True]
    for name in ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "SOPClassesInStudy"):
        found = list(
            filter(
                None, shown_rows([own, other], Query(level), parse_matching([(name, "2")]), view)
            )
        )
        assert [text["0020000D"]["Value"] for text in found] == [["1.3"]]


@pytest.mark.parametrize("name", ["NumberOfPatientRelatedStudies", "00201204"])
async def test_nobody_matches_by_how_much_a_patient_has(name: str) -> None:
    view = await views(Archive(ROWS, SERIES)).of(permit(NO_SR), SEARCH)
    for level in ("studies", "series"):
        assert (
            list(filter(None, shown_rows(ROWS, Query(level), parse_matching([(name, "3")]), view)))
            == []
        )


async def test_one_uid_twice_under_one_identifier() -> None:
    rule = make_rule(
        "x", Effect.EXCLUDE, study={"StudyDescription": ("secret",)}, unknown_applies=False
    )
    archive = Archive(
        [study(StudyDescription="open")], {}, copies=[study(StudyDescription="secret")]
    )
    assert (await views(archive).of(permit(rule), SEARCH)).rows == []


async def test_a_study_that_was_never_held_has_not_changed_by_it() -> None:
    """Nor does a hold that has ended bring a study that was not asked about."""
    archive = Archive([study("1.2"), study("1.3", StudyDate="20230101")], {})
    hold = make_rule("hold", Effect.HOLD, study={"StudyDate": ("20240101-",)}, hours=72)
    view = await views(archive, Clock(DAY_ENDS + 80 * HOUR)).of(permit(hold), SEARCH)
    seen = datetime(2024, 1, 1, tzinfo=UTC)
    assert view.last_updated({"1.3": seen}) == {"1.3": seen}
    everything = await views(archive).of(patient_permit("p1", Interaction.SEARCH), SEARCH)
    assert everything.last_updated({"1.2": seen}) == {"1.2": seen}


async def test_details_of_a_permit_that_leads_everywhere_are_the_archives() -> None:
    """Also where its list came with series: they may be older than what is known by now."""
    archive = Archive([study()], {"1.2": [series("1.2.1", "CT")]})
    archive.listing = Listing([study()], ASKED, series={"1.2": []})
    view = await views(archive).of(patient_permit("p1", Interaction.SEARCH), SEARCH)
    assert await view.series_of(["1.2"]) == archive.series_rows
    assert view.of("9.9") == WHOLE_STUDY
    assert len(await view.instances("9.9", "9.9.9")) == 1
    assert await view.holding("SOPClassUID", "1.2.840", ["1.2"]) == {"1.2"}
    assert archive.details == [
        ("series", "1.2"),
        ("instances", "9.9", "9.9.9"),
        ("holding", "SOPClassUID", "1.2.840", {}),
    ]


async def test_details_of_a_limited_permit_are_asked_for_in_what_is_shown() -> None:
    archive = Archive(ROWS, SERIES)
    view = await views(archive).of(permit(NO_SR), SEARCH)
    archive.details.clear()
    assert await view.instances("1.2", "1.2.1") == [row(SOPInstanceUID="1.2.1.1")]
    assert await view.instances("1.2", "1.2.2") == []
    assert await view.holding("SOPClassUID", "1.2.840", ["1.2", "1.3"]) == {"1.2", "1.3"}
    assert archive.details == [
        ("instances", "1.2", "1.2.1"),
        (
            "holding",
            "SOPClassUID",
            "1.2.840",
            {"1.2": frozenset({"1.2.1"}), "1.3": frozenset({"1.3.1"})},
        ),
    ]
    whole = await views(archive).of(permit(constraint="modality=CT"), SEARCH)
    await whole.holding("SOPClassUID", "1.2.840", ["1.2"])
    assert archive.details[-1] == ("holding", "SOPClassUID", "1.2.840", {})


async def test_a_list_is_described_once_for_each_listing() -> None:
    """The answer is as old as the oldest of what the description rests on."""
    invalidation = Invalidation()
    archive = Archive(ROWS, SERIES)
    archive.series_asked = ASKED - timedelta(seconds=5)
    lookup = views(archive, invalidation=invalidation)

    async def described() -> bool:
        before = len(archive.details)
        view = await lookup.of(permit(NO_SR), SEARCH)
        assert view.oldest.moment == archive.series_asked
        return len(archive.details) > before

    assert await described()
    assert not await described()
    # By another constraint, studies are compared anew.
    await lookup.of(permit(NO_SR, constraint="modality=CT"), SEARCH)
    assert len(archive.details) == 2
    archive.listing = Listing(ROWS[:1], ASKED)
    assert await described()
    invalidation.archive_changed({"p2"})
    assert not await described()
    invalidation.archive_changed({"p1"})
    assert await described()


async def test_the_list_of_a_limited_permit_can_be_had_fresh() -> None:
    archive = Archive([], {})
    archive.fresh = Listing([study()], ASKED)
    for one in (permit(NO_SR), patient_permit("p1", Interaction.SEARCH)):
        assert (await views(archive).of(one, SEARCH)).rows == []
        assert len((await views(archive).of(one, SEARCH, fresh=True)).rows) == 1
    assert archive.questions == [False, True] * 2
    await views(archive).of_study(permit(NO_SR), SEARCH, "1.2", fresh=True)
    assert archive.questions[4:] == [True]


def test_a_study_that_is_somebody_elses_too_is_forgotten_in_lists() -> None:
    archive = Archive([], {})
    views(archive).forget_listed("1.2", KNOWN_AS)
    assert archive.details == [("forget", "1.2", KNOWN_AS)]


class Verdicts(ExternalPolicy):
    """Answers by the study; ``asked`` has contexts and studies."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.asked: list[tuple[str, str]] = []

    async def verdict(
        self, permit: PatientPermit, context: str, uid: str, study: DescribedStudy
    ) -> Verdict:
        """As the hospital's policy."""
        self.asked.append((context, uid))
        return self.verdicts[uid]


def judged(*rules: Rule, contexts: tuple[str, ...] = ("patient",)) -> PatientPermit:
    """Return a permit on whose studies a policy must be asked."""
    paths = tuple(make_path(rules=rules, context=context) for context in contexts)
    return patient_permit("p1", Interaction.RETRIEVE, paths, Caller("app"))


async def test_the_policy_takes_away_studies_and_series() -> None:
    policy = Verdicts(
        **{
            "1.2": Verdict(True, frozenset({"1.2.2"})),
            "1.3": Verdict(True),
            "1.4": Verdict(False),
        }
    )
    view = await views(Archive(ROWS, SERIES), external=policy).of(judged(), SEARCH)
    assert [study_uid(one) for one in view.rows] == ["1.2", "1.3"]
    assert [view.shows_row("1.2", one) for one in ("1.2.1", "1.2.2")] == [True, False]
    assert policy.asked == [("patient", "1.2"), ("patient", "1.3"), ("patient", "1.4")]


async def test_the_policy_is_not_asked_about_what_is_hidden_anyway() -> None:
    policy = Verdicts(**{"1.2": Verdict(True), "1.3": Verdict(True)})
    view = await views(Archive(ROWS, SERIES), external=policy).of(judged(NO_SR), SEARCH)
    assert [study_uid(one) for one in view.rows] == ["1.2", "1.3"]
    assert [uid for _, uid in policy.asked] == ["1.2", "1.3"]
    assert not view.shows_row("1.2", "1.2.2")
    policy.asked.clear()
    await views(Archive(ROWS, SERIES), external=policy).of(permit(NO_SR), SEARCH)
    assert policy.asked == []  # A permit that names no caller needs no verdict.


async def test_the_policy_is_asked_once_for_each_context() -> None:
    """SIA-15: what a scope of one context leads to is judged by that context alone."""
    policy = Verdicts(**{"1.2": Verdict(True)})
    archive = Archive(ROWS[:1], SERIES)
    permit_of_two = judged(contexts=("user", "patient", "user"))
    assert await views(archive, external=policy).of_study(permit_of_two, SEARCH, "1.2")
    assert policy.asked == [("patient", "1.2"), ("user", "1.2")]


async def test_without_a_policy_to_ask_nothing_is_shown() -> None:
    """SIA-16: a permit that needs a verdict gets none."""
    view = await views(Archive(ROWS, SERIES)).of(judged(), SEARCH)
    assert view.rows == []


async def test_each_of_a_studys_copies_is_judged() -> None:
    policy = Verdicts(**{"1.2": Verdict(True)})
    archive = Archive([study()], {}, copies=[study()])
    view = await views(archive, external=policy).of(judged(), SEARCH)
    assert isinstance(view.of("1.2"), Visible)
    assert policy.asked == [("patient", "1.2")] * 2

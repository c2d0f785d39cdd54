"""What a limited permit shows of a patient's lists: time, copies, series that come
(SIA-20, 43, 45).
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sidecar.access.facts import (
    Effect,
    Rule,
)
from sidecar.access.permits import ALL_STUDIES, Interaction
from sidecar.access.visibility import HIDDEN, SHARED, WHOLE_STUDY, Visible
from sidecar.authorization import visible_studies_lookup
from sidecar.common import slices
from sidecar.fhir.imaging_study import study_uid
from sidecar.fhir.list_snapshot import VIEWS_OF_A_STUDY
from sidecar.pacs.listing import Listing
from tests.authorization.listed_archive import (
    ASKED,
    DAY_ENDS,
    KNOWN_AS,
    NO_SR,
    SEARCH,
    Archive,
    permit,
    series,
    study,
    views,
)
from tests.common.peer import Clock
from tests.permits import make_rule, patient_permit

HOUR = 3_600
HOLD = make_rule("hold", Effect.HOLD, hours=72)


@pytest.mark.parametrize(
    ("after", "shown"), [(0, False), (72 * HOUR - 0.01, False), (72 * HOUR, True)]
)
async def test_a_held_study_appears_when_its_time_has_come(after: float, shown: bool) -> None:
    """Without a time of day it is reckoned from the day's end."""
    view = await views(Archive([study()], {}), Clock(DAY_ENDS + after)).of(permit(HOLD), SEARCH)
    assert [study_uid(row) for row in view.rows] == (["1.2"] if shown else [])


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


async def test_a_copy_of_a_study_that_is_not_listed_is_no_row() -> None:
    """The study itself was rejected, or is gone."""
    archive = Archive([study("1.3")], {}, copies=[study("1.2")])
    view = await views(archive).of(permit(NO_SR), SEARCH)
    assert [study_uid(row) for row in view.rows] == ["1.3"]


async def test_what_is_left_of_a_study_is_one_object_while_the_same_is_visible() -> None:
    """By it an entry is found that was made of it."""
    both = {uid: [series(f"{uid}.1", "CT"), series(f"{uid}.2", "SR")] for uid in ("1.2", "1.3")}
    archive = Archive([study("1.2"), study("1.3")], both)
    lookup = views(archive)
    no_ct = make_rule("no CT", Effect.EXCLUDE, series={"Modality": ("CT",)})
    one, other, again = [
        (await lookup.of(permit(rule), SEARCH)).rows[0] for rule in (NO_SR, no_ct, NO_SR)
    ]
    assert one is again
    assert one is not other
    assert archive.listing.rows[0] not in (one, other)


@pytest.mark.parametrize("more", [0, 1])
async def test_not_every_way_in_which_a_study_is_shown_is_remembered(more: int) -> None:
    """Nobody can fill the memory with tokens that see different series."""
    modalities = ["CT", "SR", "MR", "US", "XA", "PT"]
    rows = [series(f"1.2.{number}", name) for number, name in enumerate(modalities, 1)]
    lookup = views(Archive([study()], {"1.2": rows}))
    rules = [
        make_rule(name, Effect.EXCLUDE, series={"Modality": (name,)})
        for name in modalities[: VIEWS_OF_A_STUDY + more]
    ]
    first, second, *_ = [(await lookup.of(permit(rule), SEARCH)).rows[0] for rule in rules]
    again = (await lookup.of(permit(rules[0]), SEARCH)).rows[0]
    assert again == first
    assert (again is first) is (more == 0)
    assert again != second


async def test_all_work_on_a_study_of_many_series_is_done_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is one step, which no slice divides: the event loop would stand still."""
    monkeypatch.setattr(slices, "LONG_ROWS", 1)
    threads: dict[str, threading.Thread] = {}

    def noted(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def noting(*arguments: object) -> object:
            threads[name] = threading.current_thread()
            return work(*arguments)

        return noting

    steps = ["pack_facts", "visibility", "without_hidden"]
    for name in steps:
        work = getattr(visible_studies_lookup, name)
        monkeypatch.setattr(visible_studies_lookup, name, noted(name, work))
    archive = Archive([study()], {"1.2": [series("1.2.1", "CT"), series("1.2.2", "SR")]})
    assert (await views(archive).of(permit(NO_SR), SEARCH)).rows
    assert list(threads) == steps
    assert threading.current_thread() not in threads.values()


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


async def test_the_list_of_a_limited_permit_can_be_had_fresh() -> None:
    archive = Archive([], {})
    archive.fresh = Listing([study()], ASKED)
    for visible_to in (permit(NO_SR), patient_permit("p1", Interaction.SEARCH)):
        assert (await views(archive).of(visible_to, SEARCH)).rows == []
        assert len((await views(archive).of(visible_to, SEARCH, fresh=True)).rows) == 1
    assert archive.questions == [False, True] * 2
    await views(archive).of_study(permit(NO_SR), SEARCH, "1.2", fresh=True)
    assert archive.questions[4:] == [True]


def test_a_study_that_is_somebody_elses_too_is_forgotten_in_lists() -> None:
    archive = Archive([], {})
    views(archive).forget_listed("1.2", KNOWN_AS)
    assert archive.details == [("forget", "1.2", KNOWN_AS)]

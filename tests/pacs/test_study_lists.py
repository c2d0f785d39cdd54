"""A patient's studies with all their series: one query more, and what an archive does that cannot
(SIA-25).
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import Row, text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.pacs.client import Parameters
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.studies import AsOf, Studies
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row, settle
from tests.permits import rows_of

P1, P2 = PatientIdentifier("p1"), PatientIdentifier("p2")
STUDIES: list[Row] = [row("p1", "1.1"), row("p1", "1.2"), row("p2", "1.9")]
SERIES: list[Row] = [
    row("p1", "1.1", "1.1.1"),
    row("p1", "1.2", "1.2.1"),
    row("p1", "1.2", "1.2.2"),
    row("p2", "1.9", "1.9.1"),
]


BARE: list[Row] = [row(None, "1.1", "1.1.1"), row(None, "1.2", "1.2.1")]


class Archive(FakePacs):
    """Fails whole searches for series of a patient with ``patient_series_failure``."""

    patient_series_failure: Exception | None = None

    async def search(self, query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        """As ``FakePacs.search``."""
        rows = await super().search(query, parameters, **more)
        if query == Query("series") and self.patient_series_failure is not None:
            raise self.patient_series_failure
        return rows


class Moving(list[Row]):
    """Rows that are others from the second look on."""

    def __init__(self, first: list[Row], then: list[Row]) -> None:
        super().__init__(first)
        self.looks = [first, then]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])


class World:
    """Lists with series, before an archive that has them."""

    def __init__(
        self, studies: list[Any] = STUDIES, series: list[Any] = SERIES, *, filters: bool = True
    ) -> None:
        self.pacs = Archive(filters=filters)
        self.pacs.rows_of_level = {"studies": studies, "series": series}
        self.clock = Clock()
        self.dropped: Counter[str] = Counter()
        self.invalidation = Invalidation()
        self.studies = Studies(
            self.pacs,
            Ownership(self.pacs, clock=self.clock, invalidation=self.invalidation),
            with_series=True,
            clock=self.clock,
            drop=self._drop,
            invalidation=self.invalidation,
        )

    def _drop(self, what: str) -> None:
        self.dropped[what] += 1

    async def series(self, *known_as: PatientIdentifier) -> dict[str, list[str | None]]:
        """Of each study in the list: its series."""
        listing = await self.studies.of_patient(rows_of(*known_as))
        uids = [text(one, "StudyInstanceUID") or "" for one in listing.rows]
        oldest = AsOf(datetime.max.replace(tzinfo=UTC))
        found = await self.studies.series_of(rows_of(*known_as), uids, listing, oldest)
        return {
            study: [text(one, "SeriesInstanceUID") for one in found[study]]
            for study in sorted(found)
        }


async def test_all_series_come_in_one_query() -> None:
    world = World()
    assert await world.series(P1) == {"1.1": ["1.1.1"], "1.2": ["1.2.1", "1.2.2"]}
    assert sorted(world.pacs.levels) == ["series", "studies", "studies"]  # The owners last.
    assert await world.series(P1) == {"1.1": ["1.1.1"], "1.2": ["1.2.1", "1.2.2"]}
    assert len(world.pacs.asked) == 3


async def test_series_of_others_are_dropped_and_counted() -> None:
    """Also those that stand under a study of the patient."""
    world = World(
        series=[*SERIES, row("p2", "1.1", "1.1.9"), row("p1", "1.1", "1.1.8", issuer="A")],
        filters=False,
    )
    assert (await world.series(P1))["1.1"] == ["1.1.1", "1.1.8"]
    assert world.dropped == {"study_row": 1, "series_row": 2}


async def test_issuers_are_compared_in_series_too() -> None:
    known = PatientIdentifier("p1", "A")
    studies = [row("p1", "1.1", issuer="A"), row("p1", "1.2", issuer="B")]
    series = [
        row("p1", "1.1", "1.1.1", issuer="A"),
        row("p1", "1.1", "1.1.2", issuer="B"),
        row("p1", "1.1", "1.1.3"),
    ]
    assert await World(studies, series, filters=False).series(known) == {"1.1": ["1.1.1"]}


async def test_a_patient_with_several_identifiers_has_the_series_of_all() -> None:
    shared = [row("p1", "1.1", "1.1.1"), row("p2", "1.1", "1.1.2")]
    world = World([row("p1", "1.1"), row("p2", "1.1")], shared)
    assert await world.series(P1, P2) == {"1.1": ["1.1.1", "1.1.2"]}
    assert await world.series(P2) == {}  # For whom the other one is somebody else.


async def test_a_study_that_came_between_the_two_queries_is_asked_for() -> None:
    world = World(series=SERIES[:1])
    listing = await world.studies.of_patient(rows_of(P1))
    world.pacs.rows_of_level["series"] = SERIES
    oldest = AsOf(datetime.max.replace(tzinfo=UTC))
    found = await world.studies.series_of(rows_of(P1), ["1.1", "1.2"], listing, oldest)
    assert [len(found[study]) for study in ("1.1", "1.2")] == [1, 2]
    assert world.pacs.asked[-1][0] == Query("series", study="1.2")


@pytest.mark.parametrize("failure", [ResourceNotOffered, None])
async def test_an_archive_that_cannot_is_asked_study_by_study(
    failure: type[ResourceNotOffered] | None,
) -> None:
    """It has no such search, or leaves the patient out of its rows. It is asked again after an
    hour.
    """
    world = World()
    if failure is None:
        world.pacs.rows_of_level["series"] = BARE
        world.pacs.filters = False
    else:
        world.pacs.patient_series_failure = failure.named("series")
    assert sorted(await world.series(P1)) == ["1.1", "1.2"]
    for seconds, asked in ((60, 1), (3_600, 2)):
        world.clock.now += seconds
        await world.series(P1)
        assert [query for query, _ in world.pacs.asked].count(Query("series")) == asked


@pytest.mark.parametrize(
    "failure",
    [
        QueryRefused("No.", reason="no"),
        BadGateway("Too many.", reason="query_too_many_results"),
        BadGateway("Too large.", reason="query_too_large"),
    ],
)
async def test_a_patient_whose_series_cannot_be_listed_at_once(failure: BadGateway) -> None:
    """Study by study, then; and nobody else's list is another for it, nor this one's for ever."""
    world = World()
    world.pacs.patient_series_failure = failure
    assert sorted(await world.series(P1)) == ["1.1", "1.2"]
    world.pacs.patient_series_failure = None
    assert (await world.studies.of_patient(rows_of(P2))).series is not None
    world.clock.now += 60
    assert (await world.studies.of_patient(rows_of(P1))).series is not None


async def test_a_row_without_patient_among_others() -> None:
    """It may be this patient's: study by study it is told."""
    world = World()
    bare = {name: value for name, value in SERIES[0].items() if name != "00100020"}
    world.pacs.rows_of_level["series"] = [bare, *SERIES[1:]]
    world.pacs.filters = False
    assert (await world.studies.of_patient(rows_of(P1))).series is None
    world.pacs.rows_of_level["series"] = SERIES
    world.clock.now += 60
    assert (await world.studies.of_patient(rows_of(P1))).series is not None


async def test_a_list_of_series_that_was_cut_off() -> None:
    """An archive may cut long lists and say nothing: the study's own count tells."""
    five = {"00201206": {"vr": "IS", "Value": [5]}}
    world = World([STUDIES[0], {**STUDIES[1], **five}, STUDIES[2]])
    listing = await world.studies.of_patient(rows_of(P1))
    asked = len(world.pacs.asked)
    oldest = AsOf(datetime.max.replace(tzinfo=UTC))
    await world.studies.series_of(rows_of(P1), ["1.1", "1.2"], listing, oldest)
    assert [query for query, _ in world.pacs.asked[asked:]] == [Query("series", study="1.2")]


async def test_an_archive_that_fails_has_no_list() -> None:
    """A list without series would look like changed studies, and cost a query for each."""
    world = World()
    world.pacs.patient_series_failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await world.series(P1)


async def test_one_patients_lists_are_forgotten() -> None:
    world = World()
    for known in (P1, P2):
        await world.series(known)
    asked = len(world.pacs.asked)
    world.invalidation.archive_changed({"p1"})
    await world.series(P2)
    assert len(world.pacs.asked) == asked
    await world.series(P1)
    assert len(world.pacs.asked) == asked + 3


async def test_what_was_asked_before_something_changed_is_not_kept() -> None:
    """The archive was asked, then something came, then it answered."""
    world = World()
    world.pacs.gate.clear()
    early = asyncio.create_task(world.series(P1))
    await settle()
    world.invalidation.archive_changed({"p1"})
    world.pacs.gate.set()
    await early
    asked = len(world.pacs.asked)
    await world.series(P1)
    assert len(world.pacs.asked) == asked + 3


@pytest.mark.parametrize(
    "other", [row("p2", "1.1"), row(None, "1.1"), row("p1", "1.1", issuer="B")]
)
@pytest.mark.parametrize("uid_lists", [True, False])
async def test_a_study_whose_uid_is_somebody_elses_is_in_no_list(
    other: Row, uid_lists: bool
) -> None:
    """Neither its row nor its series, for any of those who have it; what it was left out for is
    known.
    """
    known = PatientIdentifier("p1", "A")
    own = [row("p1", "1.1", issuer="A"), row("p1", "1.2", issuer="A")]
    series = [row("p1", uid, uid + ".1", issuer="A") for uid in ("1.1", "1.2")]
    world = World([*own, other], series)
    world.pacs.uid_lists = uid_lists
    listing = await world.studies.of_patient(rows_of(known))
    assert [text(one, "StudyInstanceUID") for one in listing.rows] == ["1.2"]
    assert list(listing.series or {}) == ["1.2"]
    assert listing.shared == {"1.1"}
    assert await world.studies.of_patient(rows_of(known)) is listing
    for each in (PatientIdentifier("p2"), PatientIdentifier("p1", "B")):
        assert (await world.studies.of_patient(rows_of(each))).rows == []


async def test_two_who_are_the_same_patient_share_nothing() -> None:
    """Both rows are listed, the second as a copy; a third one's ends that."""
    world = World([row("p1", "1.1"), row("p2", "1.1")], [])
    listing = await world.studies.of_patient(rows_of(P1, P2))
    assert (len(listing.rows), len(listing.copies), listing.shared) == (1, 1, frozenset())
    world.pacs.rows_of_level["studies"].append(row("p3", "1.1"))
    world.clock.now += 60
    listing = await world.studies.of_patient(rows_of(P1, P2))
    assert (list(listing.rows), list(listing.copies), set(listing.shared)) == ([], [], {"1.1"})


async def test_a_study_that_moved_while_it_was_listed_is_left_out() -> None:
    """It is not shared: its row is the patient's still, its owner is another already. A read would
    refuse it.
    """
    world = World([row("p1", "1.1"), row("p1", "1.2")], [])
    world.pacs.gate.clear()
    asking = asyncio.create_task(world.studies.of_patient(rows_of(P1)))
    await settle()
    listed = world.pacs.rows_of_level["studies"]
    world.pacs.rows_of_level["studies"] = Moving(listed, [row("p2", "1.1"), row("p1", "1.2")])
    world.pacs.gate.set()
    listing = await asking
    assert [text(one, "StudyInstanceUID") for one in listing.rows] == ["1.2"]
    assert listing.shared == frozenset()


async def test_owners_are_asked_for_while_the_series_still_come() -> None:
    world = World()
    asked = asyncio.Event()
    search = world.pacs.search

    async def wait(query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        rows = await search(query, parameters, **more)
        if query.level == "series":
            await asyncio.wait_for(asked.wait(), 60)
        elif "StudyInstanceUID" in dict(parameters):
            asked.set()
        return rows

    world.pacs.search = wait  # type: ignore[method-assign]
    assert sorted(await world.series(P1)) == ["1.1", "1.2"]


async def test_a_list_in_which_each_query_is_slow_comes_at_last() -> None:
    """Each goes on in the background (SIA-23); what has come is not asked for again."""
    world = World()
    search = world.pacs.search
    slow: set[tuple[str, bool]] = set()

    async def late(query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        """The second time it is there; whoever takes it leaves nothing."""
        key = (query.level, "PatientID" in dict(parameters))
        if key not in slow:
            slow.add(key)
            raise Unavailable("Later.", reason="pacs_warming", retry_after=8)
        slow.remove(key)
        return await search(query, parameters, **more)

    world.pacs.search = late  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await world.series(P1)
        await settle()
    assert sorted(await world.series(P1)) == ["1.1", "1.2"]
    assert sorted(world.pacs.levels) == ["series", "studies", "studies"]


@pytest.mark.parametrize("changed", ["p1", "p2"])
async def test_half_a_list_from_before_something_changed_is_not_used(changed: str) -> None:
    """Whoever changed: the owners of the patient's studies may have."""
    world = World()
    world.pacs.patient_series_failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await world.series(P1)
    await settle()
    world.invalidation.archive_changed({changed})
    world.pacs.patient_series_failure = None
    world.pacs.rows_of_level["studies"] = STUDIES[1:]
    assert sorted(await world.series(P1)) == ["1.2"]


async def test_a_list_that_knows_of_the_other_already_is_not_asked_for_again() -> None:
    """However often a read is refused."""
    world = World([row("p1", "1.1"), row("p1", "1.2"), row("p2", "1.2")], [])
    await world.series(P1)
    asked = len(world.pacs.asked)
    world.studies.forget_listed("1.2", frozenset({P1}))
    world.studies.forget_listed("1.1", frozenset({P2}))
    await world.series(P1)
    assert len(world.pacs.asked) == asked
    world.studies.forget_listed("1.1", frozenset({P1}))
    await world.series(P1)
    assert len(world.pacs.asked) == asked + 3


async def test_a_list_of_two_identifiers_ends_for_a_third_owner() -> None:
    world = World([row("p1", "1.1"), row("p2", "1.1")], [])
    both = frozenset({P1, P2})
    assert len((await world.studies.of_patient(rows_of(*both))).rows) == 1
    world.pacs.rows_of_level["studies"].append(row("p3", "1.1"))
    assert len((await world.studies.of_patient(rows_of(*both))).rows) == 1
    world.studies.forget_listed("1.1", both)
    assert (await world.studies.of_patient(rows_of(*both))).shared == {"1.1"}

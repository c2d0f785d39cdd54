"""Lists for the FHIR side: the patient's own rows, each once, kept for some seconds (SIA-20, 22,
25).
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import text
from sidecar.dicomweb.paths import Query
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.studies import AsOf, Studies
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row, settle
from tests.permits import rows_of

OWN = frozenset({PatientIdentifier("p1")})
OWN_ROWS = rows_of(*OWN)


class World:
    """Studies in front of an archive, with a clock and what was dropped."""

    def __init__(self, *rows: Any, filters: bool = True, **more: Any) -> None:
        self.pacs = FakePacs(*rows, filters=filters)
        self.clock = Clock()
        self.dropped: Counter[str] = Counter()
        invalidation = Invalidation()
        self.studies = Studies(
            self.pacs,
            Ownership(self.pacs, clock=self.clock, invalidation=invalidation),
            cache_seconds=15,
            clock=self.clock,
            drop=self._drop,
            invalidation=invalidation,
            **more,
        )

    def _drop(self, what: str) -> None:
        self.dropped[what] += 1

    async def of(self, *identifiers: PatientIdentifier) -> list[str | None]:
        """The UIDs of a patient's studies."""
        return sorted(
            uids((await self.studies.of_patient(rows_of(*identifiers))).rows, "StudyInstanceUID"),
            key=str,
        )


def uids(rows: list[Any], keyword: str) -> list[str | None]:
    """The UIDs of a level."""
    return [text(one, keyword) for one in rows]


OLDEST = AsOf(datetime.max.replace(tzinfo=UTC))
P1, P2 = PatientIdentifier("p1"), PatientIdentifier("p2")


async def test_the_studies_of_a_patient() -> None:
    world = World(row("p1", "1.1"), row("p2", "1.2"), row(" p1 ", "1.3"), filters=False)
    assert await world.of(P1) == ["1.1", "1.3"]
    query, parameters = world.pacs.asked[0]
    assert query.level == "studies"
    assert parameters["PatientID"] == "p1"
    assert "IssuerOfPatientID" not in parameters
    assert {"0020000D", "00100020", "00100021", "00080020"} <= set(
        parameters["includefield"].split(",")
    )


async def test_no_identifiers_are_no_studies() -> None:
    """And no query, which without a PatientID would bring everybody's."""
    world = World(row("p1", "1.1"))
    assert await world.of() == []
    assert world.pacs.asked == []


FOREIGN = [
    row("p2", "1.9"),
    row("P1", "1.9"),
    row("p11", "1.9"),
    row("p", "1.9"),
    row("p*", "1.9"),
    row(None, "1.9"),
    row("", "1.9"),
    row("*", "1.9"),
    row("p1\\p2", "1.9"),
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda found: str(text(found, "PatientID")))
async def test_foreign_rows_are_dropped_and_counted(
    foreign: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A PACS matches without case, with wildcards, or not at all."""
    world = World(row("p1", "1.1"), foreign, filters=False)
    assert await world.of(P1) == ["1.1"]
    assert world.dropped == {"study_row": 1}
    assert "1.9" not in caplog.text
    assert str(text(foreign, "PatientID")) not in caplog.messages[-1].split()


async def test_rows_without_a_uid_are_left_out() -> None:
    world = World(row("p1", None), row("p1", "1.1"), {}, filters=False)
    assert await world.of(P1) == ["1.1"]


async def test_issuers_are_asked_for_and_compared() -> None:
    """The same number of two hospitals is two people; of a third nobody knows."""
    world = World(
        row("p1", "1.1", issuer="A"), row("p1", "1.2", issuer="B"), row("p1", "1.3"), filters=False
    )
    assert await world.of(PatientIdentifier("p1", "A")) == ["1.1"]
    assert world.pacs.asked[0][1]["IssuerOfPatientID"] == "A"
    assert world.dropped == {"study_row": 2}


async def test_a_patient_with_several_identifiers_has_the_studies_of_all() -> None:
    """Each study once."""
    rows = [row("p1", "1.1"), row("p2", "1.2"), row("p3", "1.3"), row("p2", "1.1")]
    world = World(*rows)
    assert await world.of(P1, P2) == ["1.1", "1.2"]
    assert len(world.pacs.asked) == 4  # Of each the list and its owners.
    # From what is kept of that identifier; 1.1 is also p1's, who is another here.
    assert await world.of(P2) == ["1.2"]
    assert len(world.pacs.asked) == 4


async def test_one_identifier_that_fails_fails_all() -> None:
    """Half of a patient's studies would look like all."""
    world = World(row("p1", "1.1"))
    assert await world.of(P1) == ["1.1"]
    world.pacs.failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await world.of(P1, P2)


async def test_what_is_kept_of_one_patient_is_never_anothers() -> None:
    world = World(row("p1", "1.1"), row("p2", "1.2"), row("p1", "1.3", issuer="A"))
    assert await world.of(P1) == ["1.1", "1.3"]
    assert await world.of(P2) == ["1.2"]
    assert await world.of(PatientIdentifier("p1", "A")) == ["1.3"]
    assert len(world.pacs.asked) == 6  # Of each the list and its owners.


async def test_lists_are_kept_for_their_time() -> None:
    """Empty ones, too; failures never."""
    world = World()
    assert await world.of(P1) == []
    world.pacs.rows = [row("p1", "1.1", "1.1.1", "1.1.1.1")]
    world.clock.now += 14.9
    assert await world.of(P1) == []
    assert len(world.pacs.asked) == 1
    world.clock.now += 0.2
    world.pacs.failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await world.of(P1)
    world.pacs.failure = None
    assert await world.of(P1) == ["1.1"]
    for _ in range(3):
        assert len(await world.studies.series(OWN_ROWS, "1.1", OLDEST)) == 1
        assert len(await world.studies.instances(OWN_ROWS, "1.1", "1.1.1", OLDEST)) == 1
    assert world.pacs.levels == ["studies"] * 4 + ["series", "instances"]
    world.clock.now += 15.1
    world.pacs.rows = []
    assert await world.studies.series(OWN_ROWS, "1.1", OLDEST) == []
    assert await world.studies.instances(OWN_ROWS, "1.1", "1.1.1", OLDEST) == []


async def test_all_who_ask_at_once_share_a_query() -> None:
    world = World(row("p1", "1.1", "1.1.1"))
    world.pacs.gate.clear()
    waiting = [asyncio.create_task(world.of(P1)) for _ in range(100)]
    await settle()
    world.pacs.gate.set()
    assert await asyncio.gather(*waiting) == [["1.1"]] * 100
    assert len(world.pacs.asked) == 2  # The list and its owners.


async def test_series_and_instances_of_a_study() -> None:
    world = World(
        row("p1", "1.1", "1.1.1", "1.1.1.1"),
        row("p1", "1.1", "1.1.2", "1.1.2.1"),
        row("p1", "1.2", "1.2.1", "1.2.1.1"),
    )
    assert uids(
        await world.studies.instances(OWN_ROWS, "1.1", "1.1.2", OLDEST), "SOPInstanceUID"
    ) == ["1.1.2.1"]
    assert uids(await world.studies.series(OWN_ROWS, "1.1", OLDEST), "SeriesInstanceUID") == [
        "1.1.1",
        "1.1.2",
    ]
    assert [query for query, _ in world.pacs.asked] == [
        Query("instances", "1.1", "1.1.2"),
        Query("series", "1.1"),
    ]
    assert world.dropped == {}


async def test_rows_of_other_studies_and_series_are_dropped_and_counted() -> None:
    """A PACS that ignores what the path says, or rows that do not say where they belong."""
    elsewhere = [
        row("p1", "1.2", "1.1.1", "1.9"),
        row("p1", None, "1.1.1", "1.9"),
        row("p1", "1.1", "1.1.2", "1.9"),
        row("p1", "1.1", "1.1.3", None),
    ]
    world = World(row("p1", "1.1", "1.1.1", "1.1.1.1"), *elsewhere, filters=False)
    assert uids(
        await world.studies.instances(OWN_ROWS, "1.1", "1.1.1", OLDEST), "SOPInstanceUID"
    ) == ["1.1.1.1"]
    assert world.dropped == {"instances_row": 3}
    assert uids(await world.studies.series(OWN_ROWS, "1.1", OLDEST), "SeriesInstanceUID") == [
        "1.1.1",
        "1.1.2",
        "1.1.3",
    ]
    assert world.dropped == {"instances_row": 3, "series_row": 2}


async def test_one_uid_for_studies_of_two_people_shows_each_their_own() -> None:
    """Both ask for the same study; what is kept are rows, never a permission, and for each patient
    apart.
    """
    world = World(row("p1", "1.1", "1.1.1", "1.1.1.1"), row("p2", "1.1", "1.1.2", "1.1.2.1"))
    for _ in range(2):
        assert uids(await world.studies.series(OWN_ROWS, "1.1", OLDEST), "SeriesInstanceUID") == [
            "1.1.1"
        ]
        assert uids(
            await world.studies.series(rows_of(P2), "1.1", OLDEST), "SeriesInstanceUID"
        ) == ["1.1.2"]
        assert await world.studies.series(rows_of(PatientIdentifier("p3")), "1.1", OLDEST) == []
        assert await world.studies.series(rows_of(), "1.1", OLDEST) == []
    assert await world.studies.instances(OWN_ROWS, "1.1", "1.1.2", OLDEST) == []
    assert len(world.pacs.asked) == 5


@pytest.mark.parametrize(
    ("owners", "found"), [(["p1"], 2), (["p2"], 1), (["p1", "p2"], 1), ([], 1), ([None], 1)]
)
async def test_rows_without_a_patient_are_the_studys(owners: list[str | None], found: int) -> None:
    """A PACS that leaves PatientID out below the study: then every study of that UID must be the
    patient's.
    """
    world = World(row(None, "1.1", "1.1.1"), row("p1", "1.1", "1.1.2"))
    world.pacs.rows_of_level["studies"] = [row(owner, "1.1") for owner in owners]
    assert len(await world.studies.series(OWN_ROWS, "1.1", OLDEST)) == found


@pytest.mark.parametrize(
    ("owners", "own"), [(["p1"], ["1.1.1", "1.1.2"]), (["p1", "p2"], ["1.1.2"]), ([], ["1.1.2"])]
)
@pytest.mark.parametrize("other", ["p2", "P1", "p1 2"])
async def test_a_row_without_a_patient_lets_no_other_pass(
    owners: list[str], own: list[str], other: str
) -> None:
    """Each row speaks for itself: one that names somebody else is somebody else's."""
    world = World(row(None, "1.1", "1.1.1"), row("p1", "1.1", "1.1.2"), row(other, "1.1", "1.1.3"))
    world.pacs.rows_of_level["studies"] = [row(owner, "1.1") for owner in owners]
    assert uids(await world.studies.series(OWN_ROWS, "1.1", OLDEST), "SeriesInstanceUID") == own


NAMES = st.sampled_from([None, "p1", "p2", "", " p1 ", "P1"])


@given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=3))
async def test_each_row_is_decided_on_alone(
    names: list[str | None], owners: list[str | None]
) -> None:
    """What is found of all rows together is what is found of each of them alone."""
    rows = [row(name, "1.1", f"1.1.{number}") for number, name in enumerate(names)]

    async def found(*some: Any) -> list[str | None]:
        world = World(*some)
        world.pacs.rows_of_level["studies"] = [row(owner, "1.1") for owner in owners]
        return uids(await world.studies.series(OWN_ROWS, "1.1", OLDEST), "SeriesInstanceUID")

    assert await found(*rows) == [uid for one in rows for uid in await found(one)]


async def test_details_are_asked_for_by_few_at_once() -> None:
    """A Bundle of 500 studies must not be 500 simultaneous queries."""
    world = World(
        *(row("p1", f"1.{number}", f"1.{number}.1") for number in range(40)), concurrency=3
    )
    found = await asyncio.gather(
        *(world.studies.series(OWN_ROWS, f"1.{number}", OLDEST) for number in range(40))
    )
    assert [len(rows) for rows in found] == [1] * 40
    assert world.pacs.most_at_once == 3


async def test_what_is_kept_is_bounded() -> None:
    world = World(max_entries=10)
    for number in range(50):
        await world.of(PatientIdentifier(f"p{number}"))
        await world.studies.series(OWN_ROWS, f"1.{number}", OLDEST)
    assert len(world.studies._listings) <= 10


async def test_closing_ends_what_is_under_way() -> None:
    world = World()
    world.pacs.gate.clear()
    waiting = [asyncio.create_task(world.of(P1)), asyncio.create_task(world.of(P2))]
    await settle()
    assert world.pacs.at_once == 2
    await world.studies.close()
    assert world.pacs.at_once == 0
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_nobody_takes_the_places_of_all() -> None:
    """One patient's many studies wait in their own line; another's series comes between."""
    world = World(
        *(row("p1", f"1.{number}", f"1.{number}.1") for number in range(40)),
        row("p2", "2.1", "2.1.1"),
    )
    world.pacs.gate.clear()
    many = [
        asyncio.create_task(world.studies.series(OWN_ROWS, f"1.{number}", OLDEST))
        for number in range(40)
    ]
    await settle()
    other = asyncio.create_task(world.studies.series(rows_of(P2), "2.1", OLDEST))
    await settle()
    assert [query.study for query, _ in world.pacs.asked][-1] == "2.1"
    assert len(world.pacs.asked) == 5
    world.pacs.gate.set()
    assert len(await other) == 1
    await asyncio.gather(*many)


async def test_an_answer_is_as_old_as_the_oldest_of_it() -> None:
    """What is remembered of a series may be older than the list: a sync must begin there."""
    moments = iter(datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 20))
    world = World(row("p1", "1.1", "1.1.1"), now=lambda: next(moments))
    await world.studies.series(OWN_ROWS, "1.1", OLDEST)
    listing = await world.studies.of_patient(OWN_ROWS, fresh=True)
    oldest = AsOf(listing.asked)
    await world.studies.series(OWN_ROWS, "1.1", oldest)
    assert oldest.moment.day == 1 < listing.asked.day

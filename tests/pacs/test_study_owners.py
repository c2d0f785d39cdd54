"""The owners of all studies of a list, in as few questions as the archive lets us (SIA-42)."""

import asyncio
from typing import Any

import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered
from sidecar.pacs.client import Parameters
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.study_owners import AT_ONCE, AT_ONCE_FOR_ALL, NO_LISTS_SECONDS, StudyOwners
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row, settle

P1, P2, NOBODY = PatientIdentifier("p1"), PatientIdentifier("p2"), PatientIdentifier("")
OWN = frozenset({P1})


class Archive(FakePacs):
    """``first_only``: it takes the first UID of a list alone; ``most``: it cuts answers;
    ``refusal``: of lists.
    """

    first_only = False
    most: int | None = None
    refusal: Exception | None = None

    async def search(self, query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        """As ``FakePacs.search``."""
        wanted = dict(parameters)["StudyInstanceUID"]
        if "," in wanted and self.refusal is not None:
            self.asked.append((query, dict(parameters)))
            raise self.refusal
        rows = await super().search(query, parameters, **more)
        if self.first_only:
            rows = [
                one for one in rows if text(one, "StudyInstanceUID") == wanted.partition(",")[0]
            ]
        return rows[: self.most]


class World:
    """With a clock."""

    def __init__(self, *rows: Any, filters: bool = True) -> None:
        self.pacs = Archive(*rows, filters=filters)
        self.clock = Clock()
        self.invalidation = Invalidation()
        self.ownership = Ownership(self.pacs, clock=self.clock, invalidation=self.invalidation)
        self.owners = StudyOwners(self.pacs, self.ownership, clock=self.clock)


ROWS = [
    row("p1", "1.1"),
    row("p1", "1.2"),
    row("p2", "1.2"),
    row(None, "1.3"),
    row("p1", "1.3"),
    row("p2", "1.4"),
]
OF_EACH = {"1.1": {P1}, "1.2": {P1, P2}, "1.3": {P1, NOBODY}, "1.4": {P2}, "1.5": set()}


async def test_all_in_one_query_by_uid_alone() -> None:
    """With the PatientID in the query the second patient of a UID would never be seen."""
    world = World(*ROWS)
    listed = ["1.1", "1.2", "1.3", "1.4"]
    assert await world.owners.of(listed, OWN) == {uid: OF_EACH[uid] for uid in listed}
    ((query, parameters),) = world.pacs.asked
    assert query == Query("studies")
    assert parameters == {
        "StudyInstanceUID": "1.1,1.2,1.3,1.4",
        "includefield": "0020000D,00100020,00100021",
    }


async def test_nothing_listed_is_nothing_asked() -> None:
    world = World(*ROWS)
    assert await world.owners.of([], OWN) == {}
    assert world.pacs.asked == []


@pytest.mark.parametrize(
    "kind",
    [
        "knows no lists",
        "takes the first alone",
        "cuts",
        "refuses",
        "has no such query",
        "gives nonsense",
    ],
)
async def test_an_archive_without_lists_of_uids_is_asked_one_by_one(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And for an hour not for a list again."""
    world = World(*ROWS)
    world.pacs.uid_lists = kind != "knows no lists"
    world.pacs.first_only = kind == "takes the first alone"
    world.pacs.most = 2 if kind == "cuts" else None
    world.pacs.refusal = {
        "refuses": QueryRefused("No.", reason="no"),
        "has no such query": ResourceNotOffered.named("series"),
        "gives nonsense": BadGateway("What?", reason="query_not_json"),
    }.get(kind)
    for seconds, lists in ((0, 1), (NO_LISTS_SECONDS - 1, 1), (2, 2)):
        world.clock.now += seconds
        world.invalidation.invalidate()
        assert await world.owners.of(["1.1", "1.2", "1.3"], OWN) == {
            uid: OF_EACH[uid] for uid in ("1.1", "1.2", "1.3")
        }
        assert sum("," in asked["StudyInstanceUID"] for _, asked in world.pacs.asked) == lists
    assert [one.levelname for one in caplog.records] == ["WARNING"] * 2
    assert "1.1" not in caplog.text


async def test_a_study_that_is_gone_speaks_against_no_lists() -> None:
    """It went between two questions. What of the list is not known for certain is asked one by one,
    once.
    """
    world = World(*ROWS)
    listed = ["1.1", "1.2", "1.5"]
    for lists in (1, 2):
        assert await world.owners.of(listed, OWN) == {uid: OF_EACH[uid] for uid in listed}
        assert sum("," in asked["StudyInstanceUID"] for _, asked in world.pacs.asked) == lists


async def test_rows_that_were_not_asked_for_say_nothing() -> None:
    """Also those whose UID only begins so."""
    world = World(
        row("p1", "1.1"), row("p1", "1.2"), row("p2", "1.20"), row("p2", None), filters=False
    )
    assert await world.owners.of(["1.1", "1.2"], OWN) == {"1.1": {P1}, "1.2": {P1}}


@pytest.mark.parametrize(
    "uid",
    [
        "1.*",
        "1.?",
        "1.1,1.2",
        "1.1\\1.2",
        "x",
        "",
        "1" * 129,
        "１.１",
        ".",
        "..",
        "1..2",
        "1.",
        ".1",
    ],
)
async def test_what_cannot_be_asked_for_is_nobodys(uid: str) -> None:
    """An archive may hold anything for a UID: nothing with a meaning in a query goes into one."""
    world = World(*ROWS)
    assert await world.owners.of([uid], OWN) == {uid: set()}
    assert world.pacs.asked == []


@pytest.mark.parametrize("uid", ["1.2.0113.5", "7", "1." + "2" * 126])
async def test_a_uid_that_breaks_the_standard_can_be_asked_for(uid: str) -> None:
    world = World(row("p1", uid), row("p2", "1.2.113.5"))
    assert await world.owners.of([uid], OWN) == {uid: {P1}}


@pytest.mark.parametrize("dialect", ["generic", "orthanc"])
async def test_many_in_queries_of_bounded_length_and_number_at_once(dialect: str) -> None:
    uids = [
        f"1.2.826.0.1.3680043.8.498.12345678901234567890123456789012.{number}"
        for number in range(1_000)
    ]
    world = World(*(row("p1", uid) for uid in uids), row("p2", uids[321]))
    world.pacs.dialect = DIALECTS[dialect]
    most = world.pacs.dialect.uid_list
    world.pacs.gate.clear()
    lists = [asyncio.create_task(world.owners.of(uids, OWN)) for _ in range(3)]
    await settle()
    assert world.pacs.most_at_once == AT_ONCE_FOR_ALL
    world.pacs.gate.set()
    for one in lists:
        found = await one
        assert [uid for uid, owners in found.items() if owners != {P1}] == [uids[321]]
    assert world.pacs.most_at_once == AT_ONCE_FOR_ALL
    lengths = [len(asked["StudyInstanceUID"]) for _, asked in world.pacs.asked]
    assert max(lengths) <= most
    assert len(lengths) <= 3 * (1_000 * 64 / (most - 64) + 1)


@pytest.mark.parametrize("uid_lists", [True, False])
async def test_one_list_takes_only_some_of_the_places(uid_lists: bool) -> None:
    uids = [f"1.2.{number}.{'9' * 50}" for number in range(300)]
    world = World(*(row("p1", uid) for uid in uids))
    world.pacs.uid_lists = uid_lists
    assert len(await world.owners.of(uids, OWN)) == 300
    assert world.pacs.most_at_once == AT_ONCE


@pytest.mark.parametrize("uids", [["1.1"], ["1.1", "1.2"]])
async def test_an_archive_that_fails_has_no_owners(uids: list[str]) -> None:
    """A list of which nobody knows whose it is must not be shown."""
    world = World(*ROWS)
    world.pacs.failure = Unavailable("Not now.", reason="down")
    with pytest.raises(Unavailable):
        await world.owners.of(uids, OWN)
    world.pacs.failure = BadGateway("What?", reason="query_not_json")
    with pytest.raises(BadGateway):
        await world.owners.of(uids, OWN)


async def test_a_read_does_not_rest_on_what_a_list_knows_better() -> None:
    """Owners are remembered for reads; a list that sees another one ends that, and no list begins
    it.
    """
    world = World(row("p1", "1.1"), row("p1", "1.2"))
    assert await world.ownership.owners("1.1", OWN) == {P1}
    world.pacs.rows.append(row("p2", "1.1"))
    assert await world.ownership.owners("1.1", OWN) == {P1}
    await world.owners.of(["1.1", "1.2"], OWN)
    asked = len(world.pacs.asked)
    assert await world.ownership.owners("1.1", OWN) == {P1, P2}
    assert await world.ownership.owners("1.2", OWN) == {P1}
    assert len(world.pacs.asked) == asked + 2

"""Series that show whose their studies are: one query for both, where an archive's studies all have
series (SIA-25, SIA-42).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.facts import PatientIdentifier
from sidecar.common.errors import BadGateway, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import Row, text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import QueryRefused, ResourceNotOffered, UnknownTexts
from sidecar.pacs.client import Parameters
from sidecar.pacs.dialects import DIALECTS
from sidecar.pacs.ownership import Ownership
from sidecar.pacs.studies import AsOf, Studies
from sidecar.pacs.study_owners import NO_LISTS_SECONDS
from tests.common.peer import Clock
from tests.pacs.fake import FakePacs, row
from tests.permits import rows_of

P1, P2 = PatientIdentifier("p1"), PatientIdentifier("p2")
UIDS = ("1.1", "1.2", "1.3")

Answer = Callable[[list[Row]], list[Row]]


class Archive(FakePacs):
    """Answers a query for series by StudyInstanceUIDs as ``by_uids`` says."""

    by_uids: Answer = staticmethod(lambda rows: rows)

    async def search(self, query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        """As ``FakePacs.search``."""
        rows = await super().search(query, parameters, **more)
        return self.by_uids(rows) if is_by_uids(query, dict(parameters)) else rows


def is_by_uids(query: Query, parameters: Mapping[str, str]) -> bool:
    """Whether series are asked for by StudyInstanceUIDs, and not by a path."""
    return query == Query("series") and "StudyInstanceUID" in parameters


class World:
    """An archive with studies of three patients, each with the series of it."""

    def __init__(self, series: list[Row], dialect: str = "orthanc", uid_list: int = 6_000) -> None:
        self.pacs = Archive()
        self.pacs.dialect = replace(DIALECTS[dialect], uid_list=uid_list)
        self.pacs.rows_of_level = {"studies": studies_of(series), "series": series}
        self.clock = Clock()
        self.dropped: list[str] = []
        invalidation = Invalidation()
        self.studies = Studies(
            self.pacs,
            Ownership(self.pacs, clock=self.clock, invalidation=invalidation),
            with_series=True,
            clock=self.clock,
            drop=self.dropped.append,
            invalidation=invalidation,
        )

    async def listed(self, *known_as: PatientIdentifier) -> tuple[dict[str, set[str]], set[str]]:
        """Of each study in the list its series; and the studies that are shared."""
        listing = await self.studies.of_patient(rows_of(*known_as))
        uids = [text(one, "StudyInstanceUID") or "" for one in listing.rows]
        oldest = AsOf(datetime.max.replace(tzinfo=UTC))
        below = await self.studies.series_of(rows_of(*known_as), uids, listing, oldest)
        series = {uid: {text(one, "SeriesInstanceUID") or "" for one in below[uid]} for uid in uids}
        return series, set(listing.shared)

    @property
    def asked(self) -> list[str]:
        """What was asked for, in order: a level, and by what."""
        return [
            f"{query.level} {'below ' + query.study if query.study else by(parameters)}"
            for query, parameters in self.pacs.asked
        ]


def by(parameters: Mapping[str, str]) -> str:
    """What a query matches by."""
    return parameters.get("StudyInstanceUID") or parameters["PatientID"]


def studies_of(series: list[Row]) -> list[Row]:
    """A row for each study of a patient, with the number of its series."""
    counts: dict[tuple[str | None, ...], int] = {}
    for one in series:
        names = ("PatientID", "StudyInstanceUID", "IssuerOfPatientID")
        key = tuple(text(one, name) for name in names)
        counts[key] = counts.get(key, 0) + 1
    return [
        row(patient, study, issuer=issuer, NumberOfStudyRelatedSeries=count)
        for (patient, study, issuer), count in counts.items()
    ]


OWN: list[Row] = [row("p1", uid, f"{uid}.{number}") for uid in UIDS for number in (1, 2)]
ALL_OWN = {uid: {f"{uid}.1", f"{uid}.2"} for uid in UIDS}


async def test_one_query_brings_the_series_and_shows_the_owners() -> None:
    """It names no patient: with a PatientID nobody else would ever be in its answer."""
    world = World([*OWN, row("p2", "1.9", "1.9.1")])
    assert await world.listed(P1) == (ALL_OWN, set())
    assert world.asked == ["studies p1", "series 1.1,1.2,1.3"]
    assert "PatientID" not in world.pacs.asked[1][1]


async def test_who_has_no_studies_costs_one_query() -> None:
    world = World(OWN)
    assert await world.listed(P2) == ({}, set())
    assert world.asked == ["studies p2"]


@pytest.mark.parametrize("other", ["p2", None, "P1", "p11", "p\ufffd1"])
async def test_a_study_with_a_row_of_anybody_else_is_asked_for_by_itself(other: str | None) -> None:
    """Only that one; and nobody says that the archive gave what was not asked for."""
    world = World([*OWN, row(other, "1.2", "1.2.9")])
    assert await world.listed(P1) == ({uid: ALL_OWN[uid] for uid in ("1.1", "1.3")}, {"1.2"})
    assert world.asked == ["studies p1", "series 1.1,1.2,1.3", "studies 1.2"]
    assert world.dropped == []


async def test_an_issuer_is_compared() -> None:
    """Of a patient who is known by it, a row without it may be somebody else's."""
    known = PatientIdentifier("p1", "A")
    own = [row("p1", uid, f"{uid}.1", issuer="A") for uid in UIDS]
    for issuer in ("B", None):
        world = World([*own, row("p1", "1.2", "1.2.9", issuer=issuer)])
        assert await world.listed(known) == ({"1.1": {"1.1.1"}, "1.3": {"1.3.1"}}, {"1.2"})


async def test_two_identifiers_of_one_patient_may_have_one_study() -> None:
    world = World([*OWN, row("p2", "1.2", "1.2.9")])
    series, shared = await world.listed(P1, P2)
    assert (sorted(series), shared) == (list(UIDS), set())
    assert series["1.2"] == {"1.2.1", "1.2.2", "1.2.9"}


def failing(failure: Exception) -> Answer:
    """An archive that fails each query for series by UIDs."""

    def fail(rows: list[Row]) -> list[Row]:
        raise failure

    return fail


NOT_WHOLE: dict[str, Answer] = {
    "nothing": lambda rows: [],
    "without a study": lambda rows: [one for one in rows if text(one, "StudyInstanceUID") != "1.3"],
    "without a series": lambda rows: rows[:-1],
    "a study that was not asked for": lambda rows: [*rows, row("p1", "1.4", "1.4.1")],
    "a UID that begins so": lambda rows: [*rows, row("p2", "1.20", "1.20.1")],
    "a UID that cannot be read": lambda rows: [*rows, row("p2", "1.�", "1.1.9")],
    "a row without study": lambda rows: [*rows, row("p1", None, "1.1.9")],
    "a row without series": lambda rows: [*rows, row("p1", "1.1")],
    "a full page": lambda rows: rows * 400,
    "no lists": failing(QueryRefused("No.", reason="no")),
    "no such query": failing(ResourceNotOffered.named("series")),
    "nonsense": failing(BadGateway("What?", reason="query_not_json")),
    "too much": failing(BadGateway("Much.", reason="query_too_many_results")),
    "texts that lack characters": failing(UnknownTexts("What?", reason="query_character_set")),
}


@pytest.mark.parametrize("kind", NOT_WHOLE)
@pytest.mark.parametrize("shared", [True, False])
async def test_what_may_not_be_whole_shows_no_owner(kind: str, shared: bool) -> None:
    """Then owners and series are asked for by themselves."""
    other = [row("p2", "1.2", "1.2.9")] if shared else []
    world = World([*other, *OWN])
    world.pacs.by_uids = NOT_WHOLE[kind]
    left = {uid: ALL_OWN[uid] for uid in UIDS if not shared or uid != "1.2"}
    assert await world.listed(P1) == (left, {"1.2"} if shared else set())
    assert world.asked[:2] == ["studies p1", "series 1.1,1.2,1.3"]
    assert sorted(world.asked[2:]) == ["series p1", "studies 1.1,1.2,1.3"]


async def test_what_another_query_asks_for_counts_as_not_asked_for() -> None:
    """An archive that heeds no UIDs would show each series once for each query."""
    world = World(OWN, uid_list=8)
    world.pacs.by_uids = lambda rows: list(OWN)
    assert await world.listed(P1) == (ALL_OWN, set())
    assert world.asked[:3] == ["studies p1", "series 1.1,1.2", "series 1.3"]
    assert sorted(world.asked[3:]) == ["series p1", "studies 1.1,1.2", "studies 1.3"]


async def test_a_study_whose_row_has_no_number_of_series_has_one() -> None:
    world = World(OWN)
    world.pacs.rows_of_level["studies"] = [row("p1", uid) for uid in UIDS]
    world.pacs.by_uids = NOT_WHOLE["without a study"]
    assert await world.listed(P1) == (ALL_OWN, set())
    assert sorted(world.asked[2:]) == ["series p1", "studies 1.1,1.2,1.3"]


async def test_an_archive_without_lists_of_uids_is_tried_once_an_hour() -> None:
    world = World([*OWN, row("p2", "1.2", "1.2.9")])
    world.pacs.uid_lists = False
    for seconds, tries in ((0, 1), (NO_LISTS_SECONDS - 1, 1), (60, 2)):
        world.clock.now += seconds
        assert await world.listed(P1) == ({uid: ALL_OWN[uid] for uid in ("1.1", "1.3")}, {"1.2"})
        assert world.asked.count("series 1.1,1.2,1.3") == tries


async def test_a_uid_that_cannot_be_asked_for_is_in_no_query_and_no_list() -> None:
    world = World([*OWN, row("p1", "1.*", "1.7.1")])
    assert await world.listed(P1) == (ALL_OWN, set())
    assert world.asked == ["studies p1", "series 1.1,1.2,1.3"]


async def test_what_has_come_is_not_asked_for_again() -> None:
    """A list in which each query is slow comes at last (SIA-23)."""
    world = World(OWN, uid_list=4)
    late = {"1.2", "1.3"}
    search = world.pacs.search

    async def slow(query: Query, parameters: Parameters, **more: Any) -> list[Any]:
        asked = dict(parameters).get("StudyInstanceUID")
        if asked in late:
            for _ in range(20):  # The others come first.
                await asyncio.sleep(0)
            late.discard(asked)
            raise Unavailable("Later.", reason="pacs_warming", retry_after=8)
        return await search(query, parameters, **more)

    world.pacs.search = slow  # type: ignore[method-assign]
    while late:
        with pytest.raises(Unavailable):
            await world.listed(P1)
    assert await world.listed(P1) == (ALL_OWN, set())
    assert sorted(world.asked) == ["series 1.1", "series 1.2", "series 1.3", "studies p1"]


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "orthanc"])
async def test_where_a_study_may_have_no_series_owners_are_a_query_of_their_own(
    dialect: str,
) -> None:
    world = World(OWN, dialect)
    assert await world.listed(P1) == (ALL_OWN, set())
    assert sorted(world.asked) == ["series p1", "studies 1.1,1.2,1.3", "studies p1"]


PATIENTS = st.sampled_from(["p1", "p2", "p3", None])
FILED = st.tuples(PATIENTS, st.sampled_from(UIDS), st.sampled_from([None, "A", "B"]))


@given(
    filed=st.lists(FILED, max_size=12),
    known=st.sampled_from([(P1,), (P1, P2), (PatientIdentifier("p1", "A"),)]),
    uid_list=st.sampled_from([4, 8, 6_000]),
)
def test_whatever_is_filed_the_list_is_the_same(
    filed: list[tuple[str | None, str, str | None]],
    known: tuple[PatientIdentifier, ...],
    uid_list: int,
) -> None:
    """As with the queries that ask for owners by themselves."""
    series: list[Row] = [
        row(patient, study, f"{study}.{number}", issuer=issuer)
        for number, (patient, study, issuer) in enumerate(filed)
    ]
    once, apart = (
        asyncio.run(World(series, dialect, uid_list).listed(*known))
        for dialect in ("orthanc", "generic")
    )
    assert once == apart

"""Rows that are cached between two pages: decided anew, bounded and forgotten."""

import pytest

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import CompactRow, Row
from sidecar.dicomweb.paths import Query
from sidecar.web import query_pages
from sidecar.web.query_pages import (
    CACHED_SECONDS,
    CACHED_STARTS,
    QueryKey,
    QueryPages,
    RowSource,
    key_bytes,
)
from tests.common.peer import Clock
from tests.fakes.ehr import PATIENT
from tests.web.paged_queries import KEY, P1, TOTAL, Rows, numbers, own


async def test_rows_that_are_cached_are_decided_anew() -> None:
    rows, pages = Rows(pages=False), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=10)
    rows.hidden = {"1.2.15"}
    assert 15 not in numbers(await pages.page(KEY, rows.source, offset=10, limit=10))
    assert rows.asked == [(0, None), (0, None)]


async def test_the_first_page_is_never_of_cached_rows() -> None:
    """A viewer that is loaded anew shows what has come."""
    rows, pages = Rows(pages=False), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=TOTAL)
    rows.rows.insert(0, CompactRow(own(99)))
    assert numbers(await pages.page(KEY, rows.source, offset=0, limit=2)) == [99, 0]


async def test_rows_that_are_too_many_to_be_cached_are_read_for_each_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, size = Rows(pages=False), key_bytes(KEY)
    for cached in rows.rows:
        assert isinstance(cached, CompactRow)
        size += cached.size
    for limit, queries in ((size, 1), (size - 1, 2)):
        monkeypatch.setattr(query_pages, "CACHED_BYTES", limit)
        rows.asked.clear()
        pages = QueryPages(Invalidation())
        for offset in (0, 10):
            assert numbers(await pages.page(KEY, rows.source, offset=offset, limit=10)) == list(
                range(offset, offset + 10)
            )
        assert len(rows.asked) == queries


async def test_queries_without_rows_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills the memory by queries that find nothing."""
    monkeypatch.setattr(query_pages, "CACHED_BYTES", 50_000)
    rows, pages = Rows(0, pages=False), QueryPages(Invalidation())
    for number in range(100):
        parameters = (("StudyDescription", f"{number:04}" * 1_000),)
        key = QueryKey("hash", PATIENT, P1, Query("studies"), parameters)
        await pages.page(key, rows.source, offset=0, limit=1)
    assert len(pages._rows) <= 3


async def test_rows_are_cached_for_a_time_alone() -> None:
    clock = Clock()
    rows, pages = Rows(pages=False), QueryPages(Invalidation(), clock)
    for seconds, queries in ((0, 1), (CACHED_SECONDS - 1, 1), (1, 2)):
        clock.now += seconds
        await pages.page(KEY, rows.source, offset=10, limit=10)
        assert len(rows.asked) == queries


@pytest.mark.parametrize(
    "other",
    [
        QueryKey("another token", PATIENT, P1, Query("studies"), ()),
        QueryKey("hash", "p2", P1, Query("studies"), ()),
        QueryKey("hash", PATIENT, P1 | {PatientIdentifier("p2")}, Query("studies"), ()),
        QueryKey("hash", PATIENT, P1, Query("series"), ()),
        QueryKey("hash", PATIENT, P1, Query("studies"), (("00080060", "CT"),)),
    ],
)
async def test_cached_rows_are_of_one_query_of_one_caller(other: QueryKey) -> None:
    rows, pages = Rows(pages=False), QueryPages(Invalidation())
    for key in (KEY, other):
        await pages.page(key, rows.source, offset=10, limit=10)
    assert len(rows.asked) == 2


@pytest.mark.parametrize("forget", ["all", PATIENT, "somebody else"])
async def test_where_pages_begin_is_forgotten_with_the_rest(forget: str) -> None:
    rows, invalidation = Rows(), Invalidation()
    pages = QueryPages(invalidation)
    await pages.page(KEY, rows.source, offset=0, limit=10)
    invalidation.archive_changed(None if forget == "all" else {forget})
    await pages.page(KEY, rows.source, offset=10, limit=10)
    assert rows.asked[-1] == ((9, 11) if forget == "somebody else" else (0, 20))


@pytest.mark.parametrize(("study", "queries"), [("1.2", 2), ("1.3", 1)])
async def test_rows_below_a_study_are_forgotten_with_it(study: str, queries: int) -> None:
    rows, invalidation = Rows(pages=False), Invalidation()
    pages, key = (
        QueryPages(invalidation),
        QueryKey("hash", PATIENT, P1, Query("series", study="1.2"), ()),
    )
    await pages.page(key, rows.source, offset=10, limit=10)
    invalidation.forget_study(study)
    await pages.page(key, rows.source, offset=10, limit=10)
    assert len(rows.asked) == queries


async def test_what_was_read_before_the_forgetting_is_not_cached() -> None:
    rows, invalidation = Rows(), Invalidation()
    pages = QueryPages(invalidation)
    read = rows.source.read

    async def read_and_forget(offset: int, limit: int | None) -> tuple[int, list[Row]]:
        page = await read(offset, limit)
        invalidation.invalidate()
        return page

    late = RowSource(
        read_and_forget, rows.source.decide, rows.source.decide, takes_limit=True, takes_offset=True
    )
    await pages.page(KEY, late, offset=0, limit=10)
    await pages.page(KEY, rows.source, offset=10, limit=10)
    assert rows.asked == [(0, 10), (0, 20)]


async def test_the_places_of_one_query_are_bounded() -> None:
    rows, pages = Rows(2 * CACHED_STARTS), QueryPages(Invalidation())
    for offset in range(2 * CACHED_STARTS):
        await pages.page(KEY, rows.source, offset=offset, limit=1)
    assert len(pages._starts.peek(KEY) or {}) == CACHED_STARTS
    assert rows.asked[-1] == (2 * CACHED_STARTS - 2, 2)

"""Pages of a client's QIDO-RS query: each row once, each asked of the archive once (PS3.18
8.3.4.4).
"""

import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.access.facts import PatientIdentifier
from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import CompactRow, Row, text
from sidecar.dicomweb import query as matching
from sidecar.dicomweb.paths import Query
from sidecar.web import query_pages
from sidecar.web.query_pages import (
    CACHED_SECONDS,
    CACHED_STARTS,
    QueryKey,
    QueryPages,
    RowPage,
    RowSource,
    key_bytes,
)
from tests.common.peer import Clock
from tests.fakes.archive import answering
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.pacs.fake import row

TOTAL, LIMIT = 60, 7
PAGES = TOTAL // LIMIT + 2
OF_THE_LIST = "PatientID,IssuerOfPatientID,StudyInstanceUID,SpecificCharacterSet"
RULE = {
    "name": "none",
    "effect": "exclude",
    "study": {"StudyDescription": ["hidden"]},
    "unknown": "ignored",
}


def own(number: int, patient: str | None = PATIENT, **more: Any) -> dict[str, Any]:
    """A study's row."""
    return row(patient, f"1.2.{number}", **more)


class Archive:
    """Pages its study rows, more or less, and adds up the rows that pages of the patient's list ask
    for.

    ``honours``: of ``limit`` and ``offset``; ``most``: rows that it answers at once, with a Warning
    for the others.
    """

    def __init__(
        self, *rows: dict[str, Any], honours: str = "limit offset", most: int = 1_000
    ) -> None:
        self.rows = list(rows)
        self.honours = honours
        self.most = most
        self.asked: list[tuple[int, int]] = []

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/series") and request.path.startswith("/rs/studies/"):
            return await self._series(request)
        if request.path != "/rs/studies":
            return web.Response(status=404)
        query = request.query
        limit, offset = int(query["limit"]), int(query.get("offset", 0))
        found = self.rows
        if "StudyInstanceUID" in query:  # Whose studies these are.
            wanted = query["StudyInstanceUID"].split(",")
            found = [one for one in found if text(one, "StudyInstanceUID") in wanted]
        elif query["includefield"].startswith(OF_THE_LIST):  # Not for the patient's view.
            self.asked.append((limit, offset))
        start = offset if "offset" in self.honours else 0
        page = (
            found[start : start + min(limit, self.most)]
            if "limit" in self.honours
            else found[start:]
        )
        left = len(found) - start - len(page)
        headers = {
            "Warning": f'299 pacs "There are {left} additional results that can be requested"'
        }
        if not page:
            return web.Response(status=204)
        return web.json_response(
            page,
            headers=headers if self.most <= len(page) and left else {},
            content_type="application/dicom+json",
        )

    async def _series(self, request: web.Request) -> web.Response:
        study = request.path.split("/")[3]
        series = (
            [row(PATIENT, study, f"{study}.1")] if request.query.get("offset", "0") == "0" else []
        )
        return web.json_response(series, content_type="application/dicom+json")


async def walk(archive: Archive, **changes: dict[str, Any]) -> tuple[list[str], int]:
    """Return the UIDs of all pages, up to an empty one, and how many rows the archive was asked
    for.
    """
    async with (
        sidecar_between(ScriptedEhr(), archive, **changes) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        uids: list[str] = []
        while True:
            path = f"{url}/wado-rs/studies?limit={LIMIT}&offset={len(uids)}"
            async with client.get(path, headers=HEADERS) as answer:
                assert answer.status == 200
                page = await answer.json(content_type=None)
            if not page:
                return uids, sum(limit for limit, _ in archive.asked)
            assert len(page) <= LIMIT
            uids += [text(one, "StudyInstanceUID") or "" for one in page]


HIDDEN = {"access": {"rules": [RULE]}}
FOREIGN = [
    own(number, "somebody else" if number in (3, 30, 59) else PATIENT) for number in range(TOTAL)
]
SHARED = [own(number) for number in range(TOTAL)] + [own(number, "another") for number in (5, 40)]
DESCRIBED = [
    own(number, StudyDescription="hidden" if number in (0, 8) else "shown")
    for number in range(TOTAL)
]
ALL = [own(number) for number in range(TOTAL)]
ONE_AT_LEAST = 1 + LIMIT
WHOLE = 500
"""Rows that one request for a whole list asks for; this list is one such page."""

WALKS: dict[str, tuple[Archive, dict[str, Any], set[int], int]] = {
    "the archive pages": (Archive(*ALL), {}, set(), TOTAL + PAGES * ONE_AT_LEAST),
    "it cuts and says so": (Archive(*ALL, most=3), {}, set(), 3 * (TOTAL + PAGES * ONE_AT_LEAST)),
    "it ignores limit and offset": (
        Archive(*ALL, honours=""),
        {},
        set(),
        LIMIT + ONE_AT_LEAST + WHOLE,
    ),
    "it ignores limit": (Archive(*ALL, honours="offset"), {}, set(), TOTAL + PAGES * ONE_AT_LEAST),
    "others' rows come": (Archive(*FOREIGN), {}, {3, 30, 59}, LIMIT + WHOLE),
    "UIDs that are shared": (Archive(*SHARED), {}, {5, 40}, LIMIT + WHOLE),
    "a rule hides some": (Archive(*DESCRIBED), HIDDEN, {0, 8}, WHOLE),
}


@pytest.mark.parametrize("case", WALKS)
async def test_all_rows_come_once_and_are_asked_for_once(case: str) -> None:
    """Rows asked for grow as the list does, not as its square."""
    archive, changes, left_out, most = WALKS[case]
    uids, asked = await walk(archive, **changes)
    assert uids == [f"1.2.{number}" for number in range(TOTAL) if number not in left_out]
    assert asked <= most
    # A whole list is read once.
    assert sum(limit == WHOLE for limit, _ in archive.asked) == (most >= WHOLE)


async def test_a_limit_above_ours_is_cut_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """PS3.18 8.3.4.4.1: the client is told that there is more than it asked for and got."""
    monkeypatch.setattr(matching, "MAXIMUM_LIMIT", 50)
    text_of_warning = (
        '299 smart-imaging-sidecar "There are additional results that can be requested"'
    )
    async with (
        sidecar_between(ScriptedEhr(), Archive(*ALL)) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        for limit, offset, warnings in (
            (50, 0, []),
            (51, 0, [text_of_warning]),
            (51, 10, []),
            (51, 9, [text_of_warning]),
        ):
            async with client.get(
                f"{url}/wado-rs/studies?limit={limit}&offset={offset}", headers=HEADERS
            ) as answer:
                assert len(await answer.json(content_type=None)) == 50
                assert answer.headers.getall("Warning", []) == warnings


P1 = frozenset({PatientIdentifier(PATIENT)})
KEY = QueryKey("hash", PATIENT, P1, Query("studies"), ())
INSTANCES = QueryKey("hash", PATIENT, P1, Query("instances"), ())


class Rows:
    """Rows of an archive, and what is asked of it; ``hidden``: those that may not be seen now."""

    def __init__(self, total: int = TOTAL, *, pages: bool = True) -> None:
        self.rows: list[Row] = [CompactRow(own(number)) for number in range(total)]
        self.hidden: set[str] = set()
        self.asked: list[tuple[int, int | None]] = []
        self.source = RowSource(
            self._read, self._decide, self._decide, takes_limit=pages, takes_offset=pages
        )

    async def _read(self, offset: int, limit: int | None) -> tuple[int, list[Row]]:
        self.asked.append((offset, limit))
        found = self.rows[offset : None if limit is None else offset + limit]
        return len(found), list(found)

    async def _decide(self, rows: list[Row]) -> list[tuple[Row, Row]]:
        return [(one, one) for one in rows if text(one, "StudyInstanceUID") not in self.hidden]


def numbers(page: RowPage) -> list[int]:
    return [int((text(one, "StudyInstanceUID") or "").rpartition(".")[2]) for one in page.rows]


async def test_two_replicas_that_share_a_client_read_each_row_once_each() -> None:
    rows, replicas = Rows(), (QueryPages(Invalidation()), QueryPages(Invalidation()))
    found: list[int] = []
    for at in range(0, TOTAL, 10):
        found += numbers(await replicas[at // 10 % 2].page(KEY, rows.source, offset=at, limit=10))
    assert found == list(range(TOTAL))
    assert sum(limit or 0 for _, limit in rows.asked) <= 2 * (TOTAL + 6)


async def test_a_page_that_is_asked_for_again_or_from_the_middle() -> None:
    """Rows before it are not read again where it is known that all of them were seen."""
    rows, pages = Rows(), QueryPages(Invalidation())
    for offset in (0, 10, 20, 10, 20, 25, 55):
        found = await pages.page(KEY, rows.source, offset=offset, limit=10)
        assert numbers(found) == list(range(offset, min(offset + 10, TOTAL)))
    assert rows.asked == [(0, 10), (9, 11), (19, 11), (9, 11), (19, 11), (19, 16), (34, 31)]


async def test_a_list_that_changed_is_read_anew() -> None:
    """The row before the page is another one than it was."""
    rows, pages = Rows(), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=10)
    rows.rows.pop(3)
    found = await pages.page(KEY, rows.source, offset=10, limit=10)
    assert numbers(found) == list(range(11, 21))
    assert rows.asked == [(0, 10), (9, 11), (0, None)]


async def test_rows_without_a_uid_say_nothing_of_the_order() -> None:
    """Then all rows before a page are read again."""
    rows, pages = Rows(), QueryPages(Invalidation())
    for offset in (0, 10):
        await pages.page(INSTANCES, rows.source, offset=offset, limit=10)
    assert rows.asked == [(0, 10), (0, 20)]


async def test_the_row_before_that_may_not_be_seen_any_more() -> None:
    """The archive's list is the same, and the client's is not: no row of the page is left out for
    it.
    """
    rows, pages = Rows(), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=10)
    rows.hidden = {"1.2.9"}
    assert numbers(await pages.page(KEY, rows.source, offset=9, limit=10)) == list(range(10, 20))


async def test_rows_that_are_cached_are_decided_anew() -> None:
    rows, pages = Rows(pages=False), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=10)
    rows.hidden = {"1.2.15"}
    assert 15 not in numbers(await pages.page(KEY, rows.source, offset=10, limit=10))
    assert rows.asked == [(0, None), (0, None)]


class Series(Archive):
    """Answers with all series of its one study, whatever limit and offset are; counts how often."""

    lists = 0

    async def _series(self, request: web.Request) -> web.Response:
        self.lists += 1
        study, patient = (
            text(self.rows[0], keyword) for keyword in ("StudyInstanceUID", "PatientID")
        )
        found = [row(patient, study, f"{study}.{number}") for number in range(9)]
        return web.json_response(found, content_type="application/dicom+json")


@pytest.mark.parametrize("changes", [{}, HIDDEN])
async def test_cached_rows_of_a_study_that_was_moved_are_not_shown(changes: dict[str, Any]) -> None:
    """The study's owners are remembered for longer, as rows say whose they are: these said it
    before.
    """
    archive = Series(own(1))
    async with (
        sidecar_between(ScriptedEhr(), archive, **changes) as (url, _),
        aiohttp.ClientSession() as client,
    ):

        async def page(offset: int) -> int:
            path = f"{url}/wado-rs/studies/1.2.1/series?limit=1&offset={offset}"
            async with client.get(path, headers=HEADERS) as answer:
                assert "1.2.1.8" not in await answer.text()
                return answer.status

        assert [await page(offset) for offset in range(5)] == [200] * 5
        lists = archive.lists
        assert await page(5) == 200
        assert archive.lists == lists  # It was cached.
        archive.rows = [own(1, "somebody else")]
        assert await page(6) == 404


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
    for one in rows.rows:
        assert isinstance(one, CompactRow)
        size += one.size
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
        found = await read(offset, limit)
        invalidation.invalidate()
        return found

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

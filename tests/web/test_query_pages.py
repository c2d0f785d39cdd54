"""Pages of a client's QIDO-RS query: each row once, each asked of the archive once (PS3.18
8.3.4.4).
"""

import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.common.invalidation import Invalidation
from sidecar.dicom.json_model import text
from sidecar.dicomweb import query as matching
from sidecar.dicomweb.paths import Query
from sidecar.web.query_pages import (
    QueryKey,
    QueryPages,
)
from tests.fakes.archive import answering
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.pacs.fake import row
from tests.web.paged_queries import KEY, LIMIT, P1, TOTAL, Rows, numbers, own

PAGES = TOTAL // LIMIT + 2
OF_THE_LIST = "PatientID,IssuerOfPatientID,StudyInstanceUID,SpecificCharacterSet"
RULE = {
    "name": "none",
    "effect": "exclude",
    "study": {"StudyDescription": ["hidden"]},
    "unknown": "ignored",
}


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
        rows = self.rows
        if "StudyInstanceUID" in query:  # Whose studies these are.
            wanted = query["StudyInstanceUID"].split(",")
            rows = [matching for matching in rows if text(matching, "StudyInstanceUID") in wanted]
        elif query["includefield"].startswith(OF_THE_LIST):  # Not for the patient's view.
            self.asked.append((limit, offset))
        start = offset if "offset" in self.honours else 0
        page = (
            rows[start : start + min(limit, self.most)] if "limit" in self.honours else rows[start:]
        )
        left = len(rows) - start - len(page)
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
            uids += [text(study_row, "StudyInstanceUID") or "" for study_row in page]


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


INSTANCES = QueryKey("hash", PATIENT, P1, Query("instances"), ())


async def test_two_replicas_that_share_a_client_read_each_row_once_each() -> None:
    rows, replicas = Rows(), (QueryPages(Invalidation()), QueryPages(Invalidation()))
    returned: list[int] = []
    for at in range(0, TOTAL, 10):
        returned += numbers(
            await replicas[at // 10 % 2].page(KEY, rows.source, offset=at, limit=10)
        )
    assert returned == list(range(TOTAL))
    assert sum(limit or 0 for _, limit in rows.asked) <= 2 * (TOTAL + 6)


async def test_a_page_that_is_asked_for_again_or_from_the_middle() -> None:
    """Rows before it are not read again where it is known that all of them were seen."""
    rows, pages = Rows(), QueryPages(Invalidation())
    for offset in (0, 10, 20, 10, 20, 25, 55):
        page = await pages.page(KEY, rows.source, offset=offset, limit=10)
        assert numbers(page) == list(range(offset, min(offset + 10, TOTAL)))
    assert rows.asked == [(0, 10), (9, 11), (19, 11), (9, 11), (19, 11), (19, 16), (34, 31)]


async def test_a_list_that_changed_is_read_anew() -> None:
    """The row before the page is another one than it was."""
    rows, pages = Rows(), QueryPages(Invalidation())
    await pages.page(KEY, rows.source, offset=0, limit=10)
    rows.rows.pop(3)
    page = await pages.page(KEY, rows.source, offset=10, limit=10)
    assert numbers(page) == list(range(11, 21))
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

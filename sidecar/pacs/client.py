"""The PACS's QIDO-RS searches, with paging (PS3.18 10.6, 8.3.4.4). Retrievals: ``retrieve``."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence

import aiohttp
from yarl import URL

from sidecar.access.permits import RowPermit
from sidecar.common.errors import BadGateway
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.dicom.character_sets import is_utf8
from sidecar.dicom.json_model import Row, text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import (
    UNUSABLE,
    QueryRefused,
    ResourceNotOffered,
    UnknownTexts,
    failed,
    refused,
    unusable,
)
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import Dialect
from sidecar.pacs.json_type import JsonType
from sidecar.pacs.query_rows import SEARCH_BYTES, Budget, Identity, RowReader

log = logging.getLogger(__name__)

Parameters = Sequence[tuple[str, str]]

_MISCELLANEOUS_WARNING = re.compile(r"\b299\b")


class SearchResult:
    """The rows of a whole search, as ``DeferredRequests`` wants what it opens."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def close(self) -> None:
        """Nothing is held."""


class PacsClient:
    """The PACS's DICOMweb service at ``root`` (no trailing slash).

    ``observe(kind, status, seconds)`` takes ``query``, each request's HTTP status or failure, and
    its seconds. A search has at most ``maximum_results`` rows. ``patience``: how long it may take
    before the client is told to come back (SIA-23); each of its pages then has ``warm_seconds``.
    Without it ``timeout_seconds`` is the end.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        root: str,
        dialect: Dialect,
        *,
        timeout_seconds: float,
        authorization: str | None = None,
        maximum_results: int = 20_000,
        deferred: DeferredRequests[SearchResult] | None = None,
        warm_seconds: float = 600,
        observe: Callable[[str, str, float], None] = lambda kind, status, seconds: None,
    ) -> None:
        self.root = root
        self.dialect = dialect
        self._session = session
        self._timeout_seconds = timeout_seconds
        self._maximum_results = maximum_results
        self._deferred = deferred
        self._page_seconds = timeout_seconds if deferred is None else warm_seconds
        self._observe = observe
        self._json_type = JsonType()
        self._headers = request_headers(authorization)

    async def search(
        self,
        query: Query,
        parameters: Parameters,
        *,
        permit: RowPermit,
        limit: int | None = None,
        offset: int = 0,
        fresh: bool = False,
        is_own: Callable[[Sequence[Row]], bool] = lambda rows: True,
    ) -> list[Row]:
        """Return the rows of a QIDO-RS search from ``offset``, at most ``limit`` or all there are.

        Pages on while the PACS has more (a full page, or dcm4chee's Warning 299). Raises
        ``Unavailable``, ``GatewayTimeout`` or ``BadGateway``: half a list is never returned as a
        whole one. A search that takes longer than ``pacs.patience_seconds`` goes on; the same one, asked again
        for the same patient, gets its rows (SIA-23), unless something was forgotten meanwhile.
        ``permit``: for whom it is asked, where no PatientID says it. ``fresh``: what the archive
        says now is wanted, never such rows; then ``timeout_seconds`` are the end.
        ``is_own(rows)``: whether a page's rows are all the patient's. Others cost as many requests
        as a query which the archive first refuses (SIA-45).
        """

        async def start(note: Callable[[], None] = lambda: None) -> SearchResult:
            return SearchResult(await self._search(query, parameters, limit, offset, note, is_own))

        if self._deferred is None:
            return (await start()).rows
        if fresh:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return (await start()).rows
            except TimeoutError:
                raise failed("timeout") from None
        named = [value for name, value in parameters if name == "PatientID"]
        known_as = frozenset() if named else permit.known_as
        owner = min(named or [known.patient_id for known in known_as], default=query.study)
        key = (known_as, query, tuple(parameters), limit, offset)
        try:
            # What was asked for by UID may change with any patient.
            found = await self._deferred.open(key, start, owner=owner, patient_ids=named or None)
        except TimeoutError:
            raise failed("timeout") from None
        return found.rows

    async def _search(
        self,
        query: Query,
        parameters: Parameters,
        limit: int | None,
        offset: int,
        note: Callable[[], None],
        is_own: Callable[[Sequence[Row]], bool],
    ) -> list[Row]:
        rows: list[Row] = []
        seen: set[Identity] = set()
        most = self._maximum_results + 1
        wanted = most if limit is None else min(limit, most)
        budget = Budget(self._maximum_results)
        while len(rows) < wanted:
            left, size = wanted - len(rows), self.dialect.page_size
            # A client's page comes with the row before it: no request for one row.
            if left <= size + 1:
                size = left
            page, more = await self._page(
                query,
                parameters,
                size,
                offset + len(rows),
                seconds=self._page_seconds,
                budget=budget,
                is_own=is_own,
            )
            if page.rows and page.identities <= seen:
                log.error("the PACS does not page: it answers the same rows for any offset")
                raise unusable("query_paging")
            note()
            budget = page.left
            rows += page.rows
            seen |= page.identities
            if not page.rows or (len(page.rows) != size and not more):
                break
        return rows[:wanted]

    async def _page(
        self,
        query: Query,
        parameters: Parameters,
        limit: int,
        offset: int,
        *,
        seconds: float,
        budget: Budget,
        is_own: Callable[[Sequence[Row]], bool] = lambda rows: True,
    ) -> tuple[RowReader, bool]:
        paging = (
            [("limit", str(limit)), ("offset", str(offset))] if offset else [("limit", str(limit))]
        )
        order = self.dialect.order(query.level)
        # Orthanc 1.10: 400 where it would have to write ISO 2022, or a character set that it does
        # not know.
        without = [*self.dialect.one_includefield(parameters, character_set=False), *order, *paging]
        asked = [*self.dialect.one_includefield(parameters, character_set=True), *order, *paging]
        try:
            found = await self._read_page(query, asked, seconds, budget)
        except QueryRefused:
            page, more = await self._read_page(query, without, seconds, budget)
            if self.dialect.converts_text and not all(map(is_utf8, page.rows)):
                log.error(
                    "Orthanc cannot give these texts whole: set its DefaultEncoding to Utf8 (docs/orthanc.md)",
                    extra={"reason": "query_character_set"},
                )
                raise UnknownTexts(UNUSABLE, reason="query_character_set") from None
            return page, more
        if self.dialect.converts_text and not is_own(found[0].rows):
            await self._read_page(query, without, seconds, budget)
        return found

    async def _read_page(
        self, query: Query, parameters: Parameters, seconds: float, budget: Budget
    ) -> tuple[RowReader, bool]:
        """Return the rows of one request, and whether the PACS says that there are more."""
        url = URL(query.url(self.root) + "?" + self.dialect.query(parameters), encoded=True)
        # Limits hold for the search as a whole; a reader is for one answer: a request may have to
        # be sent twice.
        answer, page = await self._ask(
            url,
            query.level,
            seconds,
            lambda: RowReader(query.level, budget, converts_text=self.dialect.converts_text),
        )
        if answer.status == 200:
            try:
                await page.end()
            except FetchFailed as failure:
                raise failed(failure.reason) from None
        if page.damaged:
            log.warning(
                "rows of the PACS have values that are no JSON", extra={"rows": page.damaged}
            )
        return page, any(map(_has_more, answer.headers.getall("Warning", ())))

    async def _ask(
        self, url: URL, level: str, seconds: float, reader: Callable[[], RowReader]
    ) -> tuple[FetchedResponse, RowReader]:
        accept = self._json_type.accept
        answer, page = await self._fetch_rows(url, seconds, reader, accept)
        if other := self._json_type.instead(accept, answer.status):
            answer, page = await self._fetch_rows(url, seconds, reader, other)
            self._json_type.learn(other, answer.status)
        return self._usable(answer, level), page

    async def _fetch_rows(
        self, url: URL, seconds: float, reader: Callable[[], RowReader], accept: str
    ) -> tuple[FetchedResponse, RowReader]:
        started = time.perf_counter()
        status = "failed"
        try:
            for attempt in (1, 2):
                page = reader()
                try:
                    answer = await fetch(
                        self._session,
                        "GET",
                        url,
                        limit_bytes=SEARCH_BYTES,
                        timeout_seconds=seconds,
                        headers={**self._headers, "Accept": accept},
                        name="pacs query",
                        take=page.feed,
                    )
                except FetchFailed as failure:
                    # A pooled connection may just have been closed by the PACS (Orthanc: after 1
                    # s): once more.
                    if failure.reason == "unreachable" and attempt == 1:
                        continue
                    raise
                status = str(answer.status)
                break
        except FetchFailed as failure:
            # What cannot be used came with a 200; the rest are failures of the request.
            status = "200" if failure.reason.startswith("query_") else failure.reason
            raise failed(failure.reason, failure.detail) from None
        finally:
            self._observe("query", status, time.perf_counter() - started)
        return answer, page

    @staticmethod
    def _usable(answer: FetchedResponse, level: str) -> FetchedResponse:
        """Return the answer to a query at ``level``. Raises the ``Problem`` that its status is."""
        if answer.status == 400:
            raise QueryRefused(
                "The image archive cannot answer this search.", reason="pacs_query_refused"
            )
        if answer.status == 413:
            # dcm4chee's queryMaxNumberOfResults, counted before its pages: paging does not help.
            log.error("the PACS refuses a query that has more results than it gives")
            raise BadGateway(
                "The search has more results than the image archive gives; narrow it, for instance by date.",
                reason="pacs_status",
            )
        if answer.status in (404, 405, 501):
            log.error(
                "the PACS does not have such a query",
                extra={"upstream_status": answer.status, "detail": level},
            )
            if level == "studies":  # Every archive has them: its address is wrong.
                raise unusable("pacs_status").because(f"status {answer.status}")
            raise ResourceNotOffered.named(level).because(f"status {answer.status}")
        if answer.status not in (200, 204):
            raise refused(answer.status, answer.headers.get("Retry-After"))
        return answer

    async def ping(self) -> None:
        """Raise a ``Problem`` unless the PACS answers a query."""
        nobody = (("StudyInstanceUID", "0.0"),)
        await self._page(
            Query("studies"),
            nobody,
            1,
            0,
            seconds=self._timeout_seconds,
            budget=Budget(self._maximum_results),
        )

    async def character_set(self) -> str | None:
        """Return the character set that a row names when it is not asked for.

        Raises a ``Problem``.
        """
        budget = Budget(self._maximum_results)
        page, _ = await self._read_page(
            Query("studies"), [("limit", "1")], self._timeout_seconds, budget
        )
        return next((text(row, "SpecificCharacterSet") for row in page.rows), None)

    async def peek(
        self, name: str, *, accept: str = "application/json", limit_bytes: int = 65_536
    ) -> FetchedResponse | None:
        """Return what the PACS answers at ``name`` below its root, ``None`` unless that is a 200; nothing is raised."""
        url = URL(f"{self.root}/{name}", encoded=True)
        try:
            answer = await fetch(
                self._session,
                "GET",
                url,
                limit_bytes=limit_bytes,
                timeout_seconds=self._timeout_seconds,
                headers={**self._headers, "Accept": accept},
                name="pacs look",
            )
        except FetchFailed:
            return None
        return answer if answer.status == 200 else None


def request_headers(authorization: str | None) -> dict[str, str]:
    """Return the header lines of every request.

    ``authorization``: the header's value, ``None``: none.
    """
    # Orthanc spends 22 ms instead of 2 on an instance when gzip is asked for: bytes travel as they
    # are stored.
    headers = {"Accept-Encoding": "identity"}
    return headers if authorization is None else headers | {"Authorization": authorization}


def _has_more(warning: str) -> bool:
    """Whether a Warning header says that the PACS has more rows (PS3.18 8.3.4.4): 299 and "additional results"."""
    code = _MISCELLANEOUS_WARNING.search(warning)
    return code is not None and "additional results" in warning[code.end() :].lower()

"""Search the PACS with QIDO-RS, page by page (PS3.18 10.6, 8.3.4.4)."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import partial

import aiohttp
from yarl import URL

from sidecar.access.permits import RowPermit
from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.dicom.character_sets import is_utf8
from sidecar.dicom.json_model import Row, text
from sidecar.dicomweb.paths import Query
from sidecar.dicomweb.upstream_errors import (
    UNUSABLE,
    QueryRefused,
    UnknownTexts,
    failed,
    unusable,
)
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import Dialect, JsonType
from sidecar.pacs.query_rows import SEARCH_BYTES, Budget, Identity, RowReader, check_status

log = logging.getLogger(__name__)

Parameters = Sequence[tuple[str, str]]

_MISCELLANEOUS_WARNING = re.compile(r"\b299\b")


class PacsClient:
    """Search the PACS's DICOMweb service at ``root`` (no trailing slash).

    ``observe(kind, status, seconds)`` takes ``query``, each request's HTTP status or failure, and
    its seconds. A search has at most ``maximum_results`` rows. ``deferred``: how long a search may
    take before its client gets 503 (SIA-23); each of its pages then has ``warm_seconds``. Without
    it ``timeout_seconds`` is the end of each page.
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
        deferred: DeferredRequests[list[Row]] | None = None,
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
        whole one. A search that takes longer than ``limits.defer_after_seconds`` goes on. The same
        one, repeated for the same patient, gets its rows (SIA-23), unless they were forgotten
        meanwhile.

        ``permit``: for whom it is asked, where no PatientID in the query says it.
        ``fresh``: ask the archive now, within ``timeout_seconds``. ``is_own(rows)``: whether all
        rows of a page are the patient's. Rows of others cost as many requests as a query which the
        archive first refuses (SIA-45).
        """
        start = partial(self._search, query, parameters, limit, offset, is_own)
        named = [value for name, value in parameters if name == "PatientID"]
        known_as = frozenset() if named else permit.known_as
        owner = min(named or [known.patient_id for known in known_as], default=query.study)
        try:
            if self._deferred is None:
                return await start()
            if fresh:
                async with asyncio.timeout(self._timeout_seconds):
                    return await start()
            return await self._deferred.open(
                (known_as, query, tuple(parameters), limit, offset),
                start,
                owner=owner,
                patient_ids=named or None,  # What is asked for by UID may change with any patient.
            )
        except TimeoutError:
            raise failed("timeout") from None

    async def _search(
        self,
        query: Query,
        parameters: Parameters,
        limit: int | None,
        offset: int,
        is_own: Callable[[Sequence[Row]], bool],
        note: Callable[[], None] = lambda: None,
    ) -> list[Row]:
        """Return all rows; ``note()`` is called after each page."""
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
            page, has_more = await self._page(
                query, parameters, size, offset + len(rows), self._page_seconds, budget, is_own
            )
            if page.rows and page.identities <= seen:
                log.error("the PACS does not page: it answers the same rows for any offset")
                raise unusable("query_paging")
            note()
            budget = page.left
            rows += page.rows
            seen |= page.identities
            if not page.rows or (len(page.rows) != size and not has_more):
                break
        return rows[:wanted]

    async def _page(
        self,
        query: Query,
        parameters: Parameters,
        limit: int,
        offset: int,
        seconds: float,
        budget: Budget,
        is_own: Callable[[Sequence[Row]], bool] = lambda rows: True,
    ) -> tuple[RowReader, bool]:
        """Return one page, and whether the PACS reports more rows."""
        paging = [("limit", str(limit)), *([("offset", str(offset))] if offset else [])]
        without, asked = (
            [
                *self.dialect.one_includefield(parameters, character_set=character_set),
                *self.dialect.order(query.level),
                *paging,
            ]
            for character_set in (False, True)
        )
        try:
            page = await self._read_page(query, asked, seconds, budget)
        except QueryRefused:
            # Orthanc 1.10: 400 where it would have to write ISO 2022, or a character set that it
            # does not know.
            page = await self._read_page(query, without, seconds, budget)
            if self.dialect.converts_text and not all(map(is_utf8, page[0].rows)):
                log.error(
                    "Orthanc cannot give these texts whole: set its DefaultEncoding to Utf8 "
                    "(docs/orthanc.md)",
                    extra={"reason": "query_character_set"},
                )
                raise UnknownTexts(UNUSABLE, reason="query_character_set") from None
            return page
        if self.dialect.converts_text and not is_own(page[0].rows):
            await self._read_page(query, without, seconds, budget)
        return page

    async def _read_page(
        self, query: Query, parameters: Parameters, seconds: float, budget: Budget
    ) -> tuple[RowReader, bool]:
        """Return the rows of one request, and whether the PACS reports more rows."""
        url = URL(query.url(self.root) + "?" + self.dialect.query(parameters), encoded=True)
        # The budget is that of the search. A request that is sent twice needs a second reader.
        reader = partial(RowReader, query.level, budget, converts_text=self.dialect.converts_text)
        accept = self._json_type.accept
        answer, page = await self._fetch_rows(url, seconds, reader, accept)
        if other := self._json_type.instead(accept, answer.status):
            answer, page = await self._fetch_rows(url, seconds, reader, other)
            self._json_type.learn(other, answer.status)
        check_status(answer, query.level)
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
                    # The PACS may just have closed a pooled connection (Orthanc: after 1 s).
                    if failure.reason == "unreachable" and attempt == 1:
                        continue
                    raise
                status = str(answer.status)
                break
        except FetchFailed as failure:
            # Rows that cannot be used came with a 200; the rest are failures of the request.
            status = "200" if failure.reason.startswith("query_") else failure.reason
            raise failed(failure.reason, failure.detail) from None
        finally:
            self._observe("query", status, time.perf_counter() - started)
        return answer, page

    async def ping(self) -> None:
        """Raise a ``Problem`` unless the PACS answers a query."""
        nobody = (("StudyInstanceUID", "0.0"),)
        budget = Budget(self._maximum_results)
        await self._page(Query("studies"), nobody, 1, 0, self._timeout_seconds, budget)

    async def character_set(self) -> str | None:
        """Return the SpecificCharacterSet of a row where it is not asked for.

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
        """Return the PACS's answer at ``name`` below its root, ``None`` unless it is a 200."""
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
    """Return the header lines of every request; ``authorization``: the value of that header."""
    # Bytes travel as they are stored: Orthanc needs 22 ms instead of 2 for an instance with gzip.
    headers = {"Accept-Encoding": "identity"}
    return headers if authorization is None else headers | {"Authorization": authorization}


def _has_more(warning: str) -> bool:
    """Return whether a Warning header reports more rows (PS3.18 8.3.4.4).

    Its code is 299, and its text has "additional results".
    """
    code = _MISCELLANEOUS_WARNING.search(warning)
    return code is not None and "additional results" in warning[code.end() :].lower()

"""Open WADO-RS retrievals of the PACS (PS3.18 10.4)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from sidecar.access.permits import HeaderPermit, StudyPermit
from sidecar.common.fetch import FetchedResponse, why_unreachable
from sidecar.common.memory import HeapTrimmer
from sidecar.common.spans import KIND, STATUS, span, trace_headers
from sidecar.dicomweb.paths import Kind, Retrieval
from sidecar.dicomweb.upstream_errors import failed
from sidecar.pacs.client import Parameters, request_headers
from sidecar.pacs.deferred_requests import DeferredRequests
from sidecar.pacs.dialects import Dialect, JsonType
from sidecar.pacs.head_requests import HeadRequests
from sidecar.pacs.response import Upstream


class RetrieveClient:
    """Retrieve from the PACS's DICOMweb service at ``root`` (no trailing slash).

    ``session``: one for retrievals, so that long ones take no connection from the queries that
    every request needs. ``observe(kind, status, seconds)`` takes each request's kind, HTTP status
    or failure, and seconds to the first byte. ``deferred``: how long the first byte may take before
    the client gets 503 (SIA-44); without it ``timeout_seconds`` is the end.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        root: str,
        dialect: Dialect,
        *,
        timeout_seconds: float,
        authorization: str | None = None,
        deferred: DeferredRequests[Upstream] | None = None,
        observe: Callable[[str, str, float], None] = lambda kind, status, seconds: None,
    ) -> None:
        self._root = root
        self._dialect = dialect
        self._session = session
        self._timeout_seconds = timeout_seconds
        # No total: a large study takes as long as it takes. ``connect`` has the wait for a free
        # connection, too.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=timeout_seconds, sock_connect=timeout_seconds
        )
        self._deferred = deferred
        self._observe = observe
        self._head_requests = HeadRequests(session, dialect, observe)
        self._json_type = JsonType()
        self._heap = HeapTrimmer()
        self._headers = request_headers(authorization)

    async def open(
        self,
        permit: StudyPermit | HeaderPermit,
        retrieval: Retrieval,
        *,
        accept: str,
        parameters: Parameters = (),
        conditions: Mapping[str, str] = MappingProxyType({}),
        expected: int | None = None,
    ) -> Upstream:
        """Open a retrieval that ``permit`` covers; its head and first bytes have come then.

        ``conditions``: header lines of conditional and range requests, checked already.
        ``expected``: how many instances the archive counted just before; ``Upstream.expected`` is
        that of the request that was sent to the PACS, which may be an earlier one.

        Leaving its block closes the connection unless the body was read to its end. Raises
        ``Unavailable`` (503, also when the PACS takes longer than ``limits.defer_after_seconds``:
        SIA-44), ``GatewayTimeout``, ``BadGateway``, and ``ValueError`` for a wrong permit.
        """
        url, headers = self._request(permit, retrieval, accept, parameters, conditions)
        start = partial(self._start, url, retrieval.kind.value, headers, expected)
        try:
            if self._deferred is not None:
                return await self._deferred.open(
                    (permit.patient, permit.known_as, url, *sorted(headers.items())),
                    lambda note: start(),
                    owner=permit.patient,
                    patient_ids={known.patient_id for known in permit.known_as},
                )
            async with asyncio.timeout(self._timeout_seconds):
                return await start()
        except TimeoutError:
            raise failed("timeout") from None

    async def head(
        self,
        permit: StudyPermit,
        retrieval: Retrieval,
        *,
        accept: str,
        parameters: Parameters,
        conditions: Mapping[str, str],
    ) -> FetchedResponse | None:
        """Return the head of what ``open`` would open, ``None`` if the PACS has no good HEAD.

        Raises ``ValueError`` for a wrong permit.
        """
        url, headers = self._request(permit, retrieval, accept, parameters, conditions)
        return await self._head_requests.ask(url, retrieval.kind.value, headers)

    def _request(
        self,
        permit: StudyPermit | HeaderPermit,
        retrieval: Retrieval,
        accept: str,
        parameters: Parameters,
        conditions: Mapping[str, str],
    ) -> tuple[URL, dict[str, str]]:
        """Return URL and header lines. Raises ``ValueError`` unless ``permit`` covers it."""
        if isinstance(permit, HeaderPermit):
            has_header = retrieval.kind in (Kind.INSTANCE, Kind.METADATA)
            permitted = has_header and permit.part.covers(retrieval.part)
        else:
            permitted = permit.part == retrieval.part
        if not permitted:
            raise ValueError("the permit is for something else")
        url = retrieval.url(self._root, bulkdata=self._dialect.bulkdata)
        if parameters:
            # Orthanc undoes no percent-encoding in rendering parameters either.
            url += "?" + urlencode(parameters, safe=",")
        return URL(url, encoded=True), {**self._headers, "Accept": accept, **conditions}

    async def _start(
        self, url: URL, kind: str, headers: dict[str, str], expected: int | None
    ) -> Upstream:
        # Not in the key that repeated requests share: each has its own trace.
        with span("pacs " + kind, "client") as step:
            step.set("http.request.method", "GET")
            step.set(KIND, kind)
            headers = headers | trace_headers()
            if kind == Kind.METADATA:
                upstream = await self._begin_metadata(url, headers)
            else:
                upstream = await self._begin(url, kind, headers)
            upstream.expected = expected
            step.set(STATUS, upstream.status)
            return upstream

    async def _begin_metadata(self, url: URL, headers: dict[str, str]) -> Upstream:
        accept = self._json_type.accept
        upstream = await self._begin(url, Kind.METADATA, headers | {"Accept": accept})
        if other := self._json_type.instead(accept, upstream.status):
            upstream.close()
            upstream = await self._begin(url, Kind.METADATA, headers | {"Accept": other})
            self._json_type.learn(other, upstream.status)
        return upstream

    async def _begin(self, url: URL, kind: str, headers: dict[str, str]) -> Upstream:
        started = time.perf_counter()
        status = "timeout"
        try:
            # aiohttp asks again if the PACS has just closed a pooled connection (Orthanc: 1 s).
            response = await self._session.get(
                url, headers=headers, timeout=self._timeout, allow_redirects=False
            )
            upstream = Upstream(response, idle_seconds=self._timeout_seconds, heap=self._heap)
            status = str(upstream.status)
            try:
                await upstream.begin()
            except BaseException:
                upstream.close()
                raise
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            status = "unreachable"
            raise failed("unreachable", why_unreachable(error)) from None
        finally:
            self._observe(kind, status, time.perf_counter() - started)
        return upstream

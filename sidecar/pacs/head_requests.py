"""Ask the PACS with HEAD for the head of a retrieval, without its body (RFC 9110 9.3.2).

Not every archive supports HEAD: Orthanc 1.10 answers each one with 404. So a GET follows unless the
answer is a good one.
"""

import time
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import hdrs
from yarl import URL

from sidecar.common.fetch import FetchedResponse, FetchFailed, fetch
from sidecar.pacs.dialects import Dialect

HEAD_SECONDS = 5
"""Longest wait in seconds for the answer to a HEAD; then the resource is asked for by GET."""
NOT_ANSWERED_SECONDS = 3_600
"""Time in seconds without HEAD after the first one got no good answer."""


class HeadRequests:
    """Send HEAD requests while the PACS answers them.

    ``observe(kind, status, seconds)``: as for ``RetrieveClient``. ``clock``: monotonic, in seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        dialect: Dialect,
        observe: Callable[[str, str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._dialect = dialect
        self._observe = observe
        self._clock = clock
        self._answered = False
        self._not_until = float("-inf")

    async def ask(self, url: URL, kind: str, headers: Mapping[str, str]) -> FetchedResponse | None:
        """Return the head of the answer to a GET, ``None`` if only a GET shows it."""
        if not self._dialect.answers_head or self._clock() < self._not_until:
            return None
        started, status, answer = self._clock(), "failed", None
        try:
            answer = await fetch(
                self._session,
                "HEAD",
                url,
                limit_bytes=0,
                timeout_seconds=HEAD_SECONDS,
                headers=headers,
                name="pacs head",
            )
            status = str(answer.status)
        except FetchFailed as failure:
            status = failure.reason
        finally:
            self._observe(kind, status, self._clock() - started)
        if answer is not None and _is_good(answer):
            self._answered = True
            return answer
        if not self._answered and status != "unreachable":  # Unreachable by GET, too.
            self._not_until = self._clock() + NOT_ANSWERED_SECONDS
        return None


def _is_good(answer: FetchedResponse) -> bool:
    """Return whether the answer is about the resource.

    Some servers write the length of the empty body that they send.
    """
    if answer.status not in (200, 206):
        return answer.status == 304
    return (
        bool(answer.headers.get(hdrs.CONTENT_TYPE))
        and answer.headers.get(hdrs.CONTENT_LENGTH) != "0"
    )

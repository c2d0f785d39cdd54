"""HEAD requests to the PACS: what a retrieval would bring, without the work of making it (RFC 9110 9.3.2).

Not every archive has them: Orthanc 1.10 answers each HEAD with 404, whatever there is. So nothing
but a good answer counts; everything else is for a GET to say.
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
"""Time in seconds for which a PACS whose first HEAD got no good answer, or none, is not asked by HEAD."""


class HeadRequests:
    """Send HEAD requests, as long as the PACS answers them.

    ``observe(kind, status, seconds)`` takes each one, as for ``RetrieveClient``. ``clock``:
    monotonic, in seconds.
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
        """Return the head of what a GET would bring.

        ``None``: the archive does not give it, for whatever reason.
        """
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
        if not self._answered and status != "unreachable":  # That says nothing of HEADs.
            self._not_until = self._clock() + NOT_ANSWERED_SECONDS
        return None


def _is_good(answer: FetchedResponse) -> bool:
    """Whether the answer is about the resource: some servers write the length of the empty body that they send."""
    if answer.status not in (200, 206):
        return answer.status == 304
    return (
        bool(answer.headers.get(hdrs.CONTENT_TYPE))
        and answer.headers.get(hdrs.CONTENT_LENGTH) != "0"
    )

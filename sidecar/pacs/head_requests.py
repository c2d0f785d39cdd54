"""HEAD requests to the PACS: what a retrieval would bring, without the work of making it (RFC 9110 9.3.2).

Not every archive has them: Orthanc 1.10 answers each HEAD with 404, whatever there is. So nothing but a good answer
counts; everything else is for a GET to say.
"""

import time
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import hdrs
from yarl import URL

from sidecar.common.fetch import Answer, FetchFailed, fetch
from sidecar.pacs.dialects import Dialect

HEAD_SECONDS = 5
"""Longest wait in seconds for the answer to a HEAD; then the resource is asked for by GET."""
NOT_ANSWERED_SECONDS = 3_600
"""Seconds for which a PACS whose first HEAD got no good answer is not asked so again."""


class HeadRequests:
    """Send HEAD requests, as long as the PACS answers them.

    ``observe(kind, status, seconds)`` takes each one, as for ``RetrieveClient``. ``clock``: monotonic, in seconds.
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

    async def ask(self, url: URL, kind: str, headers: Mapping[str, str]) -> Answer | None:
        """Return the head of what a GET would bring; ``None``: the archive does not give it, for whatever reason."""
        if not self._dialect.answers_head or self._clock() < self._not_until:
            return None
        started, status = self._clock(), "failed"
        try:
            answer = await fetch(
                self._session, "HEAD", url, limit_bytes=0, timeout_seconds=HEAD_SECONDS, headers=headers,
                name="pacs head",
            )  # fmt: skip
            status = str(answer.status)
        except FetchFailed as failure:
            status = failure.reason
            return None
        finally:
            self._observe(kind, status, self._clock() - started)
        if answer.status == 304 or (answer.status in (200, 206) and _is_of_resource(answer)):
            self._answered = True
            return answer
        if not self._answered:
            self._not_until = self._clock() + NOT_ANSWERED_SECONDS
        return None


def _is_of_resource(answer: Answer) -> bool:
    """Whether the answer is about the resource: some servers write the length of the empty body that they send."""
    return bool(answer.headers.get(hdrs.CONTENT_TYPE)) and answer.headers.get(hdrs.CONTENT_LENGTH) != "0"

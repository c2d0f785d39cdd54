"""Reading one resource at the EHR with our own credentials (SIA-17)."""

from typing import Protocol

import aiohttp

from sidecar.common.fetch import FetchedResponse, fetch

LIMIT_BYTES = 1_048_576


class Credentials(Protocol):
    """Our own access token at the EHR (``ehr.credentials``)."""

    async def token(self) -> str | None:
        """Return a live token, ``None`` when the EHR wants none."""

    def forget(self) -> None:
        """The token was refused: do not use it again."""


async def read_resource(
    session: aiohttp.ClientSession,
    url: str,
    credentials: Credentials,
    *,
    timeout_seconds: float,
    limit_bytes: int = LIMIT_BYTES,
) -> FetchedResponse:
    """Return the answer to ``GET url``, whatever its status. Raises ``FetchFailed``.

    After a 401 it is asked once more with a new token: ours may have been revoked before its time.
    """
    answer = await _read(session, url, credentials, timeout_seconds, limit_bytes)
    if answer.status == 401:
        credentials.forget()
        answer = await _read(session, url, credentials, timeout_seconds, limit_bytes)
    return answer


async def _read(
    session: aiohttp.ClientSession,
    url: str,
    credentials: Credentials,
    timeout_seconds: float,
    limit_bytes: int,
) -> FetchedResponse:
    headers = {"Accept": "application/fhir+json"}
    token = await credentials.token()
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await fetch(
        session,
        "GET",
        url,
        limit_bytes=limit_bytes,
        timeout_seconds=timeout_seconds,
        headers=headers,
        name="ehr read",
    )

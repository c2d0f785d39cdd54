"""Read one resource at the EHR with our own credentials (SIA-17)."""

from typing import Protocol

import aiohttp

from sidecar.common.fetch import FetchedResponse, fetch

LIMIT_BYTES = 1_048_576


class Credentials(Protocol):
    """Our own access token at the EHR (``tokens.credentials``)."""

    async def token(self) -> str | None:
        """Return a valid token, ``None`` when the EHR needs none."""

    def forget(self) -> None:
        """Forget the token, which was refused."""


async def read_resource(
    session: aiohttp.ClientSession,
    url: str,
    credentials: Credentials,
    *,
    timeout_seconds: float,
    limit_bytes: int = LIMIT_BYTES,
) -> FetchedResponse:
    """Return the answer to ``GET url``, whatever its status. Raises ``FetchFailed``.

    After a 401 it is requested once more with a new token: the old one may have been revoked.
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

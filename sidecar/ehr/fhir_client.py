"""Read resources at the EHR with our own credentials (SIA-17)."""

from dataclasses import dataclass

import aiohttp

from sidecar.common.fetch import FetchedResponse, fetch
from sidecar.ehr.credentials import Credentials

LIMIT_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class FhirClient:
    """Read resources of the EHR at ``url`` (no trailing slash) with our own credentials."""

    session: aiohttp.ClientSession
    url: str
    credentials: Credentials
    timeout_seconds: float

    async def read(self, reference: str, *, limit_bytes: int = LIMIT_BYTES) -> FetchedResponse:
        """Return the answer to ``GET`` of ``Patient/<id>``, whatever its status.

        After a 401 it is requested once more with a new token: the old one may have been revoked.
        Raises ``FetchFailed``.
        """
        answer = await self._read(reference, limit_bytes)
        if answer.status == 401:
            self.credentials.forget()
            answer = await self._read(reference, limit_bytes)
        return answer

    async def _read(self, reference: str, limit_bytes: int) -> FetchedResponse:
        headers = {"Accept": "application/fhir+json"}
        token = await self.credentials.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await fetch(
            self.session,
            "GET",
            f"{self.url}/{reference}",
            limit_bytes=limit_bytes,
            timeout_seconds=self.timeout_seconds,
            headers=headers,
            name="ehr read",
        )

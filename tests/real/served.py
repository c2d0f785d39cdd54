"""A sidecar before a real Orthanc."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.fakes.ehr import ScriptedEhr, active
from tests.real.orthanc import Orthanc


class Served:
    """An Orthanc, as ``sidecar_between`` wants a PACS."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc = orthanc

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yields the DICOMweb root."""
        yield self._orthanc.dicomweb_url


class Client:
    """Asks a sidecar as the app of a patient."""

    def __init__(self, url: str, us: aiohttp.ClientSession) -> None:
        self.url = url
        self._us = us

    async def get(self, path: str, accept: str = "*/*") -> tuple[int, bytes, dict[str, str]]:
        """Status, body, and those headers that do not differ by request."""
        async with self._us.get(self.url + path, headers={"Accept": accept}) as answer:
            varying = ("date", "x-request-id")
            headers = {
                name: value for name, value in answer.headers.items() if name.lower() not in varying
            }
            return answer.status, await answer.read(), headers

    async def rows(self, path: str) -> list[str]:
        """The StudyInstanceUIDs of a QIDO-RS answer."""
        status, body, _ = await self.get(path)
        assert status == 200
        return sorted({row["0020000D"]["Value"][0] for row in json.loads(body)})

    async def bundle(self, path: str) -> dict[str, Any]:
        """A FHIR answer."""
        status, body, _ = await self.get(path)
        assert status == 200
        return dict(json.loads(body))


def ehr(patient: str) -> ScriptedEhr:
    """Its tokens are for this patient."""
    return ScriptedEhr(active(patient))

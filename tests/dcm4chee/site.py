"""A site with dcm4chee: an EHR that knows several patients, the archive, and the sidecar between
them, in one loop.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.bootstrap.build import Sidecar, build
from sidecar.server.listener import listen
from tests.dcm4chee.archive import create_dcm4chee
from tests.dcm4chee.behaviour import ROOT, Behaviour
from tests.fakes.ehr import ScriptedEhr, active, patient
from tests.fakes.site import PUBLIC_URL, site_settings

ARCHIVE_HOST = "localhost"
"""Unlike the EHR's, which may stand in what the client gets."""
SYSTEM_A, SYSTEM_B = "http://a.example.org/mrn", "http://b.example.org/mrn"
"""Two hospitals that number their patients each by itself."""

STORED = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}

Identifiers = Mapping[str, Sequence[tuple[str, str]]]
"""FHIR Patient id -> (system, value) of each identifier."""


@dataclass
class Site:
    """The running site: ``url`` of the sidecar, ``port`` of the archive."""

    url: str
    port: int
    behaviour: Behaviour
    sidecar: Sidecar
    client: aiohttp.ClientSession

    async def get(
        self, patient: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Ask for a path of the sidecar as an app of this patient;
        the answer and its whole body.
        """
        sent = {"Authorization": f"Bearer {token_of(patient)}", **(headers or {})}
        async with self.client.get(self.url + path, headers=sent) as response:
            return response, await response.read()

    async def get_to_break(
        self, patient: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, bytes, bool]:
        """The same of an answer that may break off: with what came of it, and whether it came
        whole.
        """
        sent, came = (
            {"Authorization": f"Bearer {token_of(patient)}", **(headers or {})},
            bytearray(),
        )
        async with self.client.get(self.url + path, headers=sent) as response:
            try:
                async for chunk in response.content.iter_any():
                    came += chunk
            except (aiohttp.ClientPayloadError, aiohttp.ClientOSError):
                return response, bytes(came), False
            return response, bytes(came), True

    async def json(self, patient: str, path: str) -> Any:
        """The JSON of a 200."""
        response, body = await self.get(patient, path)
        assert response.status == 200, body
        return await response.json(content_type=None)

    async def studies(self, patient: str) -> list[str]:
        """The StudyInstanceUIDs of the patient's ImagingStudy search, by all its pages."""
        found: list[str] = []
        path: str | None = f"/fhir/ImagingStudy?patient={patient}"
        while path is not None:
            bundle = await self.json(patient, path)
            found += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
            following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
            path = following[0].removeprefix(PUBLIC_URL) if following else None
        return found


def token_of(patient: str) -> str:
    """The access token of an app that was launched with this patient."""
    return f"token-of-{patient}"


def _ehr(patients: Identifiers) -> ScriptedEhr:
    return ScriptedEhr(
        answer=lambda token: active(token.removeprefix("token-of-")),
        patients={number: patient(number, *listed) for number, listed in patients.items()},
    )


@contextlib.asynccontextmanager
async def site_with(
    folder: Path,
    behaviour: Behaviour,
    patients: Identifiers,
    /,
    *,
    issuers: Mapping[str, str | None] | None = None,
    **changes: dict[str, Any],
) -> AsyncIterator[Site]:
    """Run a site over the files of ``folder``. ``issuers``: identifier system -> IssuerOfPatientID
    as configured.

    ``changes`` override settings by section.
    """
    systems = {SYSTEM_A: None} if issuers is None else issuers
    async with (
        listen(_ehr(patients).app(), "127.0.0.1", 0) as ehr_port,
        listen(create_dcm4chee(folder, behaviour), "127.0.0.1", 0) as port,
    ):
        dcm4chee: dict[str, dict[str, Any]] = {
            "patients": {
                "mapping": "ehr",
                "identifiers": [
                    {"system": system} | ({"issuer": issuer} if issuer else {})
                    for system, issuer in systems.items()
                ],
            },
            "pacs": {"dialect": "dcm4chee"},
        }
        pacs_url = f"http://{ARCHIVE_HOST}:{port}{ROOT}"
        async with (
            build(site_settings(ehr_port, pacs_url, dcm4chee, changes)) as sidecar,
            listen(sidecar.public, "127.0.0.1", 0) as sidecar_port,
            aiohttp.ClientSession() as client,
        ):
            yield Site(f"http://127.0.0.1:{sidecar_port}", port, behaviour, sidecar, client)

"""What patients of an Orthanc get through a sidecar, in every form."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.fakes.site import sidecar_between
from tests.real.character_sets import PATIENTS, ehr_of
from tests.real.orthanc import Orthanc
from tests.real.served import Served

MULTIPART = "multipart/related"
AT_ONCE = 6


class Client:
    """What patients of an Orthanc get through a sidecar."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(self, patient: int, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """The status and body of an answer; 0 for one that was broken off."""
        headers = {"Authorization": f"Bearer token-{patient}", "Accept": accept}
        async with self._turns:
            try:
                async with self._session.get(self.url + path, headers=headers) as response:
                    return response.status, await response.read()
            except aiohttp.ClientPayloadError:
                return 0, b""

    async def status(self, patient: int, path: str, accept: str = "*/*") -> int:
        """The status alone."""
        return (await self.get(patient, path, accept))[0]

    async def listed(self, patient: int) -> set[str]:
        """The studies that QIDO-RS and FHIR list, which are the same ones; none where they are
        refused.
        """
        status, body = await self.get(patient, "/wado-rs/studies")
        fhir_status, bundle = await self.get(patient, "/fhir/ImagingStudy?_count=200")
        assert fhir_status == status
        if status != 200:
            assert status == 502
            return set()
        rows = {row["0020000D"]["Value"][0] for row in json.loads(body)}
        assert {entry["resource"]["id"] for entry in json.loads(bundle).get("entry", ())} == rows
        return rows


@asynccontextmanager
async def sidecar(
    orthanc: Orthanc, numbers: Sequence[str], **sections: dict[str, Any]
) -> AsyncIterator[Client]:
    """A sidecar before this Orthanc, for the patients with these numbers."""
    changes: dict[str, dict[str, Any]] = {
        "patients": PATIENTS,
        "pacs": {"dialect": "orthanc"},
        **sections,
    }
    changes["server"] = {"public_url": "http://sidecar.example.org", "wado_uri": True}
    async with (
        sidecar_between(ehr_of(numbers), Served(orthanc), **changes) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        yield Client(url, session)


def load(orthanc: Orthanc, files: Sequence[bytes]) -> None:
    """Store them."""
    for data in files:
        orthanc.load(data)


def places(orthanc: Orthanc) -> dict[str, tuple[str, str]]:
    """The series and instance of each study, by its UID; UIDs need no character set."""
    rows = orthanc.get_json("/dicom-web/instances")
    return {
        row["0020000D"]["Value"][0]: (row["0020000E"]["Value"][0], row["00080018"]["Value"][0])
        for row in rows
    }


# What each form is asked with, and the status when it is the patient's own. This Orthanc draws
# instances alone, and has neither thumbnails nor pixel data of their own, nor bulk data of more
# than an instance.
FORMS: dict[str, tuple[str, str, set[int]]] = {
    "study": ("/wado-rs/studies/{0}", MULTIPART, {200}),
    "series": ("/wado-rs/studies/{0}/series/{1}", MULTIPART, {200}),
    "instance": ("/wado-rs/studies/{0}/series/{1}/instances/{2}", "application/dicom", {200}),
    "study metadata": ("/wado-rs/studies/{0}/metadata", "application/dicom+json", {200}),
    "series metadata": (
        "/wado-rs/studies/{0}/series/{1}/metadata",
        "application/dicom+json",
        {200},
    ),
    "instance metadata": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/metadata",
        "application/dicom+json",
        {200},
    ),
    "frames": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/frames/1", MULTIPART, {200}),
    "rendered": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/rendered", "image/png", {200}),
    "rendered frame": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/frames/1/rendered",
        "image/png",
        {200},
    ),
    "rendered series": ("/wado-rs/studies/{0}/series/{1}/rendered", "image/png", {200, 404, 406}),
    "rendered study": ("/wado-rs/studies/{0}/rendered", "image/png", {200, 404, 406}),
    "thumbnail": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/thumbnail",
        "image/png",
        {200, 404, 406},
    ),
    "bulk data": ("/wado-rs/studies/{0}/series/{1}/instances/{2}/bulkdata/7FE00010", "*/*", {200}),
    "pixel data": (
        "/wado-rs/studies/{0}/series/{1}/instances/{2}/pixeldata",
        "*/*",
        {200, 404, 406},
    ),
    "WADO-URI": (
        "/wado-uri?requestType=WADO&studyUID={0}&seriesUID={1}&objectUID={2}",
        "image/png",
        {200},
    ),
    "WADO-URI instance": (
        (
            "/wado-uri?requestType=WADO&studyUID={0}&seriesUID={1}&objectUID={2}"
            "&contentType=application/dicom"
        ),
        "*/*",
        {200},
    ),
    "QIDO-RS series": ("/wado-rs/studies/{0}/series", "*/*", {200}),
    "QIDO-RS instances": ("/wado-rs/studies/{0}/series/{1}/instances", "*/*", {200}),
    "FHIR read": ("/fhir/ImagingStudy/{0}", "*/*", {200}),
}

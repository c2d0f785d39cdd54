"""A real Orthanc's /changes: what arrives or goes is seen although lists are remembered
(SIA-25).
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, build_opener

import aiohttp
import pytest

from tests.data import ct_study
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Served
from tests.waiting import wait_until_async

POLL = 0.2


def store(
    orthanc: Orthanc, directory: Path, study: int, instances: int = 1, patient: str = PATIENT
) -> None:
    """Load a study with so many instances."""
    for path in ct_study(
        directory,
        instances=instances,
        patient_id=patient,
        study_instance_uid=f"1.2.826.0.1.3680043.8.498.5.{study}",
        rows=8,
        columns=8,
    ):
        orthanc.load(path)


def delete(orthanc: Orthanc, study: int) -> None:
    """Delete that study."""
    (identifier,) = [
        one["ID"]
        for one in orthanc.get_json("/studies?expand")
        if one["MainDicomTags"]["StudyInstanceUID"].endswith(f".{study}")
    ]
    build_opener().open(Request(f"{orthanc.url}/studies/{identifier}", method="DELETE")).close()


@pytest.fixture
def orthanc() -> Iterator[Orthanc]:
    require_orthanc()
    with Orthanc() as running:
        yield running


@pytest.mark.orthanc
async def test_what_arrives_and_what_goes_is_seen(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(orthanc, tmp_path / "a", 1)
    monkeypatch.setattr("sidecar.bootstrap.pacs.CHANGES_SECONDS", POLL)
    pacs = {"dialect": "orthanc", "changes_url": orthanc.url}
    limits = {"search_cache_seconds": 600}
    async with (
        sidecar_between(ScriptedEhr(), Served(orthanc), pacs=pacs, limits=limits) as (url, _),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):

        async def counts() -> list[int]:
            async with session.get(f"{url}/fhir/ImagingStudy") as response:
                assert response.status == 200
                bundle = await response.json()
            return sorted(
                entry["resource"]["numberOfInstances"] for entry in bundle.get("entry", ())
            )

        async def become(wanted: list[int]) -> None:
            await wait_until_async(f"{wanted}", counts, lambda found: found == wanted)

        await become([1])
        await asyncio.to_thread(store, orthanc, tmp_path / "b", 2, 2)
        await become([1, 2])
        await asyncio.to_thread(delete, orthanc, 1)
        await become([2])

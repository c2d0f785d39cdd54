"""A real Orthanc that gets another patient's study under a UID that is known: nothing of it is
shown (SIA-42).
"""

import asyncio
from pathlib import Path

import aiohttp
import pydicom
import pytest
from pydicom.uid import UID

from tests.data import ct_study
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.site import sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.served import Served
from tests.waiting import wait_until_async

STUDY = "1.2.826.0.1.3680043.8.498.5.77"
FOREIGN_SERIES, FOREIGN_INSTANCE = "1.2.3.4.5.9", "1.2.3.4.5.9.1"
ACCEPT = {"rendered": "image/png", "frames/1": 'multipart/related; type="application/octet-stream"'}

pytestmark = pytest.mark.orthanc


def put(orthanc: Orthanc, directory: Path, patient: str, *, foreign: bool) -> tuple[str, str]:
    """Store an image; return the UIDs of its series and itself."""
    (file,) = ct_study(
        directory, instances=1, patient_id=patient, study_instance_uid=STUDY, rows=8, columns=8
    )
    image = pydicom.dcmread(file)
    if foreign:
        image.SeriesInstanceUID, image.SOPInstanceUID = UID(FOREIGN_SERIES), UID(FOREIGN_INSTANCE)
        image.file_meta.MediaStorageSOPInstanceUID = UID(FOREIGN_INSTANCE)
        image.save_as(file)
    orthanc.load(file)
    return str(image.SeriesInstanceUID), str(image.SOPInstanceUID)


@pytest.mark.parametrize("followed", [True, False])
async def test_a_clash_after_the_owners_were_asked_for(
    tmp_path: Path, followed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the owners are remembered, and whether or not /changes tells of it."""
    require_orthanc()
    with Orthanc() as orthanc:
        series, instance = put(orthanc, tmp_path / "own", PATIENT, foreign=False)
        monkeypatch.setattr("sidecar.bootstrap.pacs.CHANGES_SECONDS", 0.2)
        pacs = {"dialect": "orthanc"} | ({"changes_url": orthanc.url} if followed else {})
        async with (
            sidecar_between(ScriptedEhr(), Served(orthanc), pacs=pacs) as (url, sidecar),
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as us,
        ):
            study = f"{url}/wado-rs/studies/{STUDY}"

            async def status(path: str, accept: str = "*/*") -> int:
                async with us.get(study + path, headers={"Accept": accept}) as answer:
                    return answer.status

            own = f"/series/{series}/instances/{instance}"
            assert await status(own + "/rendered", "image/png") == 200
            # Orthanc 1.10 has it for instances alone.
            assert await status("/rendered", "image/png") in (200, 404, 406)
            last = sidecar.changes._last if sidecar.changes else None
            await asyncio.to_thread(put, orthanc, tmp_path / "other", "somebody-else", foreign=True)
            if (changes := sidecar.changes) is not None:
                await wait_until_async(
                    "the changes", lambda: changes._last, lambda seen: seen not in (None, last)
                )
            foreign = f"/series/{FOREIGN_SERIES}/instances/{FOREIGN_INSTANCE}"
            for kind, accept in ACCEPT.items():
                assert await status(f"{foreign}/{kind}", accept) == 404
            for path in (
                foreign,
                f"/series/{FOREIGN_SERIES}",
                f"/series/{FOREIGN_SERIES}/metadata",
            ):
                assert await status(path) == 404
            # Of which of the two, nobody could tell.
            assert await status("/rendered", "image/png") == 404
            assert await status("/thumbnail", "image/png") == 404

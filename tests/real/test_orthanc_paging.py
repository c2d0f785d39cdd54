"""Pages of a QIDO-RS query in front of a real Orthanc: its offset is passed on, and its order is
the same each time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.data import ct_study
from tests.fakes.archive import STUDY
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.real.orthanc import Orthanc, require_orthanc

TOTAL = 24


class Archive:
    """A running Orthanc, as ``sidecar_between`` wants it."""

    def __init__(self, orthanc: Orthanc) -> None:
        self.orthanc = orthanc

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yields the DICOMweb root."""
        yield self.orthanc.dicomweb_url


@pytest.mark.orthanc
@pytest.mark.parametrize("limit", [1, 5, 24, 50])
async def test_all_instances_come_once_and_are_asked_for_once(tmp_path: Path, limit: int) -> None:
    """A page costs its own rows, the row before it and no more, wherever it is."""
    require_orthanc()
    with Orthanc() as orthanc:
        made = ct_study(
            tmp_path,
            instances=TOTAL,
            patient_id=PATIENT,
            study_instance_uid=STUDY,
            rows=16,
            columns=16,
        )
        for path in made:
            await asyncio.to_thread(orthanc.load, path)
        async with (
            sidecar_between(ScriptedEhr(), Archive(orthanc), pacs={"dialect": "orthanc"}) as (
                url,
                sidecar,
            ),
            aiohttp.ClientSession() as client,
        ):
            asked: list[int] = []
            read = sidecar.pacs._read_page

            async def read_page(query: Any, parameters: Any, *others: Any) -> Any:
                if query.level == "instances":
                    asked.append(int(dict(parameters)["limit"]))
                return await read(query, parameters, *others)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sidecar.pacs, "_read_page", read_page)
                found: list[str] = []
                while True:
                    address = (
                        f"{url}/wado-rs/studies/{STUDY}/instances?limit={limit}&offset={len(found)}"
                    )
                    async with client.get(address, headers=HEADERS) as answer:
                        assert answer.status == 200
                        rows = await answer.json(content_type=None)
                    if not rows:
                        break
                    found += [one["00080018"]["Value"][0] for one in rows]
    assert len(found) == len(set(found)) == TOTAL
    pages = TOTAL // limit + 1
    assert sum(asked) <= (pages + 1) * (limit + 1)

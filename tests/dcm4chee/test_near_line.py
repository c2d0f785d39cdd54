"""A study on tape: the first byte comes late. The client is told to come back, and then gets it (SIA-44)."""

import asyncio
from pathlib import Path

from tests.dcm4chee.behaviour import Behaviour
from tests.dcm4chee.site import STORED, SYSTEM_A, site_with
from tests.dcm4chee.studies import LARGE, MANY, MRN
from tests.journey.multipart import parts_of


async def test_a_near_line_study(many: Path) -> None:
    behaviour = Behaviour(near_line={LARGE: 1.0})
    patients = {"alice": [(SYSTEM_A, MRN)]}
    async with site_with(many, behaviour, patients, pacs={"patience_seconds": 0.2}) as site:
        (row,) = await site.json("alice", f"/wado-rs/studies?StudyInstanceUID={LARGE}")
        assert row["00080056"]["Value"] == ["NEARLINE"]
        statuses = []
        while True:
            response, body = await site.get("alice", f"/wado-rs/studies/{LARGE}", STORED)
            statuses.append(response.status)
            if response.status != 503:
                break
            assert int(response.headers["Retry-After"]) >= 1
            assert b"OperationOutcome" in body
            await asyncio.sleep(0.1)
        assert statuses[-1] == 200
        assert len(statuses) >= 3
        assert len(parts_of(response.headers["Content-Type"], body)) == 20
        retrievals = [one for one in behaviour.asked if one.target.endswith(f"/studies/{LARGE}")]
        assert len(retrievals) == 1
        # Meanwhile others are served.
        assert (await site.get("alice", f"/wado-rs/studies/{MANY[0]}", STORED))[0].status == 200

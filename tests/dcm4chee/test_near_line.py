"""A study on tape: the first byte comes late. The client is told to come back, and then gets it
(SIA-44).
"""

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson

from tests.dcm4chee.behaviour import Behaviour
from tests.dcm4chee.site import STORED, SYSTEM_A, Site, site_with
from tests.dcm4chee.studies import LARGE, MANY, MRN
from tests.journey.multipart import parts_of
from tests.waiting import wait_until_async


async def test_a_near_line_study(many: Path) -> None:
    behaviour = Behaviour(near_line={LARGE: 2.0})
    patients = {"alice": [(SYSTEM_A, MRN)]}
    async with site_with(many, behaviour, patients, limits={"defer_after_seconds": 0.2}) as site:
        _, _, body = await _repeated(site, f"/wado-rs/studies?StudyInstanceUID={LARGE}")
        (row,) = orjson.loads(body)
        assert row["00080056"]["Value"] == ["NEARLINE"]
        statuses, response, body = await _repeated(site, f"/wado-rs/studies/{LARGE}", STORED)
        assert statuses[0] == 503
        assert len(parts_of(response.headers["Content-Type"], body)) == 20
        retrievals = [one for one in behaviour.asked if one.target.endswith(f"/studies/{LARGE}")]
        assert len(retrievals) == 1
        # Meanwhile others are served.
        await _repeated(site, f"/wado-rs/studies/{MANY[0]}", STORED)


async def _repeated(
    site: Site, path: str, headers: Mapping[str, str] | None = None
) -> tuple[list[int], aiohttp.ClientResponse, bytes]:
    """Ask as a client does that is told to come back: a busy machine may make anything take longer
    than the patience.

    Returns all statuses, and the answer that came in the end.
    """
    statuses: list[int] = []

    async def ask() -> tuple[aiohttp.ClientResponse, bytes]:
        response, body = await site.get("alice", path, headers)
        statuses.append(response.status)
        if response.status == 503:
            assert int(response.headers["Retry-After"]) >= 1
            assert b"OperationOutcome" in body
        return response, body

    response, body = await wait_until_async(path, ask, lambda answer: answer[0].status != 503)
    assert response.status == 200, body
    return statuses, response, body

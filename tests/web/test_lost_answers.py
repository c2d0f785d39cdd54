"""One answer of the archive that never comes, while the archive is well: its patient is served
again soon (SIA-23).
"""

import asyncio
from dataclasses import dataclass

import aiohttp
import pytest

from tests.fakes.archive import STUDY, ScriptedPacs
from tests.fakes.ehr import PATIENT, ScriptedEhr
from tests.fakes.retrievals import MULTIPART, PATH, WHOLE
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import wait_until_async

FHIR = f"/fhir/ImagingStudy?patient={PATIENT}"
READ = f"/fhir/ImagingStudy/{STUDY}"


@dataclass
class Losing(ScriptedPacs):
    """An archive that never answers its query number ``lost``; all others at once."""

    lost: int = 0
    queries: int = 0

    def _rows(self, target: str, writer: asyncio.StreamWriter) -> None:
        self.queries += 1
        if self.queries - 1 != self.lost:
            super()._rows(target, writer)


async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\n" + MULTIPART + b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE
    )


class Losses:
    """Retrievals: the first one's answer never comes."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.asked > 1:
            await whole(reader, writer)
        else:
            await reader.read()


async def in_the_end(pacs: ScriptedPacs, path: str) -> int:
    """Repeat the request while it is a 503 or a 504, as its answer says; return the status after
    that.
    """
    settings = {"defer_after_seconds": 0.2, "deferred_seconds": 86_400}
    async with (
        sidecar_between(ScriptedEhr(), pacs, limits=settings) as (url, sidecar),
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for patience in (sidecar.retrievals._deferred, sidecar.pacs._deferred):
            assert patience is not None
            patience._silence_seconds = 0  # What outlasts the patience has been silent.

        async def status() -> int:
            async with client.get(url + path) as response:
                await response.read()
                return response.status

        return await wait_until_async("an answer", status, lambda status: status not in (503, 504))


# What is asked for freshly is not among them: that is a 504 after limits.pacs_timeout_seconds, and
# kept for nobody.
@pytest.mark.parametrize(
    ("path", "lost"),
    [
        *((FHIR, lost) for lost in range(4)),
        *((READ, lost) for lost in range(5)),
        (PATH, 0),
        (PATH, 1),
    ],
)
async def test_a_lost_query_does_not_shut_its_patient(path: str, lost: int) -> None:
    pacs = Losing(whole, lost=lost)
    assert await in_the_end(pacs, path) == 200


async def test_a_lost_retrieval_does_not_either() -> None:
    losses = Losses()
    assert await in_the_end(ScriptedPacs(losses, inside=PATIENT), PATH) == 200
    assert losses.asked == 2

"""What was decided before a wait, for a place or for the archive, is decided again before it is
answered (SIA-42).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from sidecar.authorization.limits import RequestLimits
from sidecar.bootstrap.build import Sidecar
from tests.fair_queues import waiting_count
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.site import HEADERS, sidecar_between
from tests.waiting import wait_until_async

FRAMES = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/frames/"
HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b'Content-Type: multipart/related; type="application/octet-stream"; boundary=abc\r\n'
)


@dataclass
class World:
    """An archive that answers frame 1 when it is let, each frame with the number of whose it is."""

    pacs: ScriptedPacs
    sidecar: Sidecar
    client: aiohttp.ClientSession
    url: str
    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def frame(self, number: int) -> tuple[int, bytes]:
        """The answer for one frame."""
        async with self.client.get(f"{self.url}{FRAMES}{number}", headers=HEADERS) as answer:
            return answer.status, await answer.read()

    async def asked(self, number: int) -> "asyncio.Task[tuple[int, bytes]]":
        """Ask for a frame, which the archive has then been asked for."""
        asking = asyncio.create_task(self.frame(number))
        await wait_until_async("the archive to be asked", lambda: self.has_asked(number))
        return asking

    def has_asked(self, number: int) -> bool:
        """Whether the archive was asked for it."""
        return any(one.endswith(f"/frames/{number}") for one in self.pacs.requests)

    def correct(self) -> None:
        """File the study for somebody else."""
        self.pacs.patient_id = self.pacs.inside = "somebody-else"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A sidecar before it."""

    async def retrieve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if pacs.requests[-1].endswith("/frames/1"):
            await made.let.wait()
        body = (
            b"--abc\r\nContent-Type: application/octet-stream\r\n\r\n%b\r\n--abc--\r\n"
            % pacs.patient_id.encode()
        )
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    pacs = ScriptedPacs(retrieve)
    async with (
        sidecar_between(ScriptedEhr(), pacs) as (url, sidecar),
        aiohttp.ClientSession() as client,
    ):
        made = World(pacs, sidecar, client, url)
        yield made


async def test_a_frame_whose_study_was_forgotten_while_it_waited_for_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = RequestLimits(transfers=2, transfers_of_app=1, connections=100)
    monkeypatch.setattr("sidecar.bootstrap.build.RequestLimits", lambda **_: made)
    async with world() as one:
        first = await one.asked(1)
        second = asyncio.create_task(one.frame(2))
        await wait_until_async("the second to wait", lambda: waiting_count(made.transfers))
        one.correct()
        one.sidecar.invalidation.forget_study(STUDY)
        one.let.set()
        await first
        status, body = await second
        assert (status, b"somebody-else" in body) == (404, False)


async def test_a_frame_whose_study_was_forgotten_while_the_archive_opened_it() -> None:
    async with world() as one:
        first = await one.asked(1)
        one.correct()
        one.sidecar.invalidation.forget_study(STUDY)
        one.let.set()
        status, body = await first
        assert (status, b"somebody-else" in body) == (404, False)


@pytest.mark.parametrize(
    ("waited", "status"), [(0, 404), (10_000, 200)], ids=["for long", "for a moment"]
)
async def test_a_frame_of_which_nobody_noticed_a_correction(
    waited: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for long is decided on anew; owners are as old as those of a frame may be."""
    monkeypatch.setattr("sidecar.web.dicomweb_handlers.DECIDED_SECONDS", waited)
    monkeypatch.setattr("sidecar.authorization.authorizer.UNNAMED_SECONDS", 0)
    async with world() as one:
        first = await one.asked(1)
        one.correct()
        one.let.set()
        assert (await first)[0] == status


async def test_a_token_that_is_no_good_any_more_when_the_archive_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.web.dicomweb_handlers.DECIDED_SECONDS", 0)
    async with world() as one:
        first = await one.asked(1)

        async def inactive(_: str) -> None:
            """The authorization server has revoked it."""

        monkeypatch.setattr(one.sidecar.tokens.cache, "validate", inactive)
        one.let.set()
        assert (await first)[0] == 401

"""What a slow archive was opened for one patient is given to nobody else, whatever was corrected
meanwhile (SIA-42).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from sidecar.server.listener import listen
from tests.fakes.archive import INSTANCE, SERIES, STUDY, ScriptedPacs
from tests.fakes.ehr import ScriptedEhr, active, patient
from tests.fakes.site import sidecar_between
from tests.waiting import wait_until_async

FRAMES = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/frames/1"
SLOW = {"defer_after_seconds": 0.3}
MAPPING = {"mapping": "ehr", "identifiers": [{"system": "urn:mrn"}], "client": {"method": "none"}}
A, B = "patient-a", "patient-b"


class Tape:
    """An archive with one study, now of A: ``slow`` frames wait for ``ready``; their pixels say
    whose they are.
    """

    def __init__(self) -> None:
        self.pacs = ScriptedPacs(self._retrieve, patient_id=A, inside=A)
        self.ready, self.slow = asyncio.Event(), True
        self.asked = self.left = 0

    async def _retrieve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        pixels = self.pacs.patient_id.encode()
        if self.slow:
            ready, gone = (
                asyncio.ensure_future(self.ready.wait()),
                asyncio.ensure_future(reader.read()),
            )
            await asyncio.wait((ready, gone), return_when=asyncio.FIRST_COMPLETED)
            self.left += gone.done()
            for one in (ready, gone):
                one.cancel()
        body = (
            b"--abc\r\nContent-Type: application/octet-stream\r\n\r\n" + pixels + b"\r\n--abc--\r\n"
        )
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/related; "
            b'type="application/octet-stream"; boundary=abc\r\nContent-Length: %d\r\n\r\n'
            % len(body)
            + body
        )

    def filed_for_b(self) -> None:
        """Delete the study and file it for B, under the same UIDs; nothing is slow any more."""
        self.pacs.patient_id = self.pacs.inside = B
        self.slow = False


def two_patients() -> ScriptedEhr:
    """Return an EHR whose tokens are the ids of their patients, A and B."""
    numbers = {name: patient(name, ("urn:mrn", name)) for name in (A, B)}
    return ScriptedEhr(answer=active, patients=numbers)


@dataclass
class App:
    """Asks for the frames, and for everything to be forgotten."""

    url: str
    admin: str
    client: aiohttp.ClientSession

    async def frames_of(self, patient: str) -> tuple[int, bytes]:
        """Status and body, with a token for ``patient``."""
        async with self.client.get(
            self.url + FRAMES, headers={"Authorization": f"Bearer {patient}"}
        ) as response:
            return response.status, await response.read()

    async def warm(self, tape: "Tape", patient: str) -> None:
        """Ask until the archive is at it: on a busy machine its queries may be slow, too."""
        while tape.asked == 0:
            assert (await self.frames_of(patient))[0] == 503

    async def answer_for(self, patient: str) -> tuple[int, bytes]:
        """Status and body, in the end."""
        async with asyncio.timeout(60):
            while (answer := await self.frames_of(patient))[0] == 503:
                pass
        return answer

    async def invalidate(self) -> None:
        """As an operator does."""
        async with self.client.post(self.admin + "/admin/invalidate") as response:
            assert response.status == 204


@asynccontextmanager
async def app_of(
    tape: Tape, ehr: ScriptedEhr | None = None, /, **changes: dict[str, Any]
) -> AsyncIterator[App]:
    async with (
        sidecar_between(ehr or two_patients(), tape.pacs, **{"limits": SLOW} | changes) as (
            url,
            sidecar,
        ),
        listen(sidecar.admin, "127.0.0.1", 0) as admin,
        aiohttp.ClientSession() as client,
    ):
        yield App(url, f"http://127.0.0.1:{admin}", client)


@pytest.mark.parametrize(
    "invalidated", [False, True], ids=["nothing is forgotten", "everything is forgotten"]
)
@pytest.mark.parametrize("arrived", [False, True], ids=["still slow", "opened"])
async def test_what_was_warmed_for_one_is_not_given_to_another(
    invalidated: bool, arrived: bool
) -> None:
    """A's frames were slow; then the study is filed for B, who gets B's pixels and never A's."""
    tape = Tape()
    async with app_of(tape) as app:
        await app.warm(tape, A)
        if arrived:
            tape.ready.set()
        tape.filed_for_b()
        if invalidated:
            await app.invalidate()
        status, body = await app.answer_for(B)
        assert status == 200
        assert b"\r\n\r\n" + B.encode() in body
        assert A.encode() not in body
    assert tape.asked == 2


async def test_what_is_warming_ends_when_it_is_forgotten() -> None:
    """The archive is let go at once, and A's retry is decided on what the archive says now."""
    tape = Tape()
    async with app_of(tape) as app:
        await app.warm(tape, A)
        tape.filed_for_b()
        await app.invalidate()
        await wait_until_async("the archive's connection to close", lambda: tape.left == 1)
        assert (await app.answer_for(A))[0] == 404
    assert tape.asked == 1


async def test_a_retrieval_that_waits_while_everything_is_forgotten_is_decided_again() -> None:
    """Frames carry no patient inside: the archive may open them after the correction."""
    tape = Tape()
    async with app_of(tape, limits={"defer_after_seconds": 60}) as app:
        waiting = asyncio.create_task(app.frames_of(A))
        await wait_until_async("the archive to be asked", lambda: tape.asked == 1)
        tape.filed_for_b()
        await app.invalidate()
        tape.ready.set()
        assert (await waiting)[0] == 404


async def test_what_was_warmed_before_the_identifiers_changed_is_not_given() -> None:
    """The EHR corrects A's numbers: what was opened for the old ones is not for whom A is now."""
    tape, ehr = Tape(), two_patients()
    async with app_of(
        tape, ehr, patients=MAPPING, limits=SLOW | {"patient_cache_seconds": 0.01}
    ) as app:
        await app.warm(tape, A)
        ehr.patients[A] = patient(A, ("urn:mrn", "another-number"))
        tape.ready.set()
        tape.pacs.patient_id = tape.pacs.inside = "another-number"
        tape.slow = False
        status, body = await app.answer_for(A)
        assert (status, A.encode() in body) == (200, False)
    assert tape.asked == 2


async def test_a_retrieval_during_whose_wait_the_identifiers_changed_is_to_be_repeated() -> None:
    """What the archive sends is compared with the identifiers on which it was decided: those are
    not his any more.
    """
    tape, ehr = Tape(), two_patients()
    async with app_of(tape, ehr, patients=MAPPING, limits={"defer_after_seconds": 60}) as app:
        waiting = asyncio.create_task(app.frames_of(A))
        await wait_until_async("the archive to be asked", lambda: tape.asked == 1)
        ehr.patients[A] = patient(A, ("urn:mrn", A), ("urn:mrn", "another-number"))
        await app.invalidate()
        tape.ready.set()
        status, body = await waiting
        assert (status, b"repeat the request" in body) == (503, True)
        assert (await app.answer_for(A))[0] == 200

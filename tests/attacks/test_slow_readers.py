"""One patient's apps that read a trickle, or nothing: they take neither all places nor all memory
from others.
"""

import asyncio
import contextlib
import functools
import socket
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from aiohttp import web

from sidecar.authorization import limits
from sidecar.authorization.limits import RequestLimits
from sidecar.web import middleware, transfer_timeout
from sidecar.web.transfer_timeout import ClientRate
from tests.attacks.large import LargeArchive, row, sidecar_before, study
from tests.authorization.limited import apps, bearer, remembering
from tests.dicom_instances import dataset, encoded
from tests.fair_queues import held_count, waiting_count
from tests.fakes.archive import answering
from tests.fakes.ehr import PATIENT
from tests.fakes.site import sidecar_between
from tests.waiting import wait_until_async

APPS = ["a", "b", "c", "d"]
PATIENT_OF = {"1.2.840.1": PATIENT, "1.2.840.2": "p2"}
MULTIPART = 'multipart/related; type="application/dicom"; boundary=abc'


@functools.cache
def large(uid: str) -> bytes:
    """Return the answer to a retrieval of the study's instance: 16 MB."""
    made = dataset(**names_of(uid), EncapsulatedDocument=b"\0" * 2**24)
    head = b"--abc\r\nContent-Type: application/dicom\r\n\r\n"
    return head + encoded(made) + b"\r\n--abc--\r\n"


def names_of(uid: str) -> dict[str, str]:
    return {
        "PatientID": PATIENT_OF[uid],
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": uid + ".1",
        "SOPInstanceUID": uid + ".1.1",
    }


class TwoPatients:
    """An archive with a study of one large instance for each of two patients."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve; yields the DICOMweb root."""
        return answering(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        named = request.path + request.query.get("StudyInstanceUID", "")
        uid = next((uid for uid in PATIENT_OF if uid in named), "1.2.840.1")
        if request.path.endswith(("/studies", "/series", "/instances")):
            return web.Response(
                body=orjson.dumps([row(**names_of(uid))]), content_type="application/dicom+json"
            )
        return web.Response(body=large(uid), headers={"Content-Type": MULTIPART})


class Reader:
    """A client with small buffers that reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._reading: asyncio.Future[bytes] | None = None
        self.is_reset = False

    async def read(self, most: int = 1) -> None:
        """Read so many bytes if they have come."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._reader.read(most))
        await asyncio.sleep(0)
        if self._reading.done():
            self.is_reset = self.is_reset or self._reading.exception() is not None
            self._reading = None

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._writer.close()


async def ask(stack: contextlib.AsyncExitStack, url: str, path: str, app: str) -> Reader:
    """Send a request and read nothing of its answer."""
    where = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (where.hostname, where.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1_024)
    headers = {**bearer(app), "Host": "x"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    client = Reader(reader, writer)
    stack.callback(client.close)
    return client


def instance(uid: str) -> str:
    return f"/wado-rs/studies/{uid}/series/{uid}.1/instances/{uid}.1.1"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[RequestLimits]:
    """The sidecar's limits, once it is built."""
    found: list[RequestLimits] = []
    monkeypatch.setattr("sidecar.bootstrap.build.RequestLimits", remembering(found))
    return found


async def test_a_trickle_does_not_hold_all_transfers(
    made: list[RequestLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four apps ask for 64 images and read a byte now and then: another patient is served, and then
    the fifth app.
    """
    monkeypatch.setattr(transfer_timeout, "WINDOW_SECONDS", 1)
    measured, all_have_asked = ClientRate.is_too_slow, asyncio.Event()
    monkeypatch.setattr(
        ClientRate, "is_too_slow", lambda rate: all_have_asked.is_set() and measured(rate)
    )
    async with (
        contextlib.AsyncExitStack() as stack,
        sidecar_between(apps(), TwoPatients()) as (url, _),
        aiohttp.ClientSession() as client,
    ):
        slow = [
            await ask(stack, url, instance("1.2.840.1"), app) for app in APPS for _ in range(16)
        ]
        queue = made[0].transfers
        await wait_until_async(
            "all of them",
            lambda: (held_count(queue), waiting_count(queue)),
            lambda seen: sum(seen) == 64,
        )
        assert (held_count(queue), waiting_count(queue)) == (32, 32)

        async with client.get(url + instance("1.2.840.2"), headers=bearer("x", "p2")) as other:
            assert other.status == 200
            assert len(await other.read()) > 2**24

        async def trickle() -> bool:
            for one in slow:
                await one.read()
            return fifth.done()

        all_have_asked.set()
        fifth = asyncio.create_task(client.get(url + instance("1.2.840.1"), headers=bearer("e")))
        # While the others are read it is not: from its first byte on nobody is slow.
        fifth.add_done_callback(lambda _: all_have_asked.clear())
        await wait_until_async("the fifth app's turn", trickle)
        async with await fifth as served:
            assert served.status == 200
            assert len(await served.read()) > 2**24
        all_have_asked.set()

        async def rest() -> bool:
            for one in slow:
                await one.read(2**14)
            return any(one.is_reset for one in slow)

        await wait_until_async("that a slow one is reset", rest)


async def test_a_slow_client_keeps_a_place_that_nobody_else_could_use(
    made: list[RequestLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_timeout, "WINDOW_SECONDS", 0.1)
    measured, looks = ClientRate.is_too_slow, 0

    def is_too_slow(rate: ClientRate) -> bool:
        nonlocal looks
        found = measured(rate)
        looks += found
        return found

    monkeypatch.setattr(ClientRate, "is_too_slow", is_too_slow)
    async with (
        contextlib.AsyncExitStack() as stack,
        sidecar_between(apps(), TwoPatients()) as (url, _),
    ):
        for _ in range(2):
            await ask(stack, url, instance("1.2.840.1"), "a")
        await wait_until_async("that both were seen to be too slow", lambda: looks >= 6)
        assert held_count(made[0].transfers) == 2


async def test_lists_that_are_not_read_do_not_fill_the_memory(
    made: list[RequestLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One patient asks 200 times for a list of 8 MB and reads none: a few are in memory, and others
    are served.
    """
    monkeypatch.setattr(limits, "WAIT_SECONDS", 600)
    rows = [study(number, StudyDescription="x" * 8_000) for number in range(1_000)]
    archive = LargeArchive({"studies": orjson.dumps(rows)})
    async with (
        contextlib.AsyncExitStack() as stack,
        sidecar_before(archive, apps()) as sidecar,
        aiohttp.ClientSession() as client,
    ):
        slow = [
            await ask(stack, sidecar.url, path, APPS[number % 4])
            for number in range(100)
            for path in ("/wado-rs/studies", f"/fhir/ImagingStudy?patient={PATIENT}&_count=500")
        ]
        queue = made[0].searches
        await wait_until_async(
            "all of them",
            lambda: (held_count(queue), waiting_count(queue)),
            lambda seen: sum(seen) == 200,
        )
        assert held_count(queue) == 6

        async with client.get(
            sidecar.url + "/fhir/ImagingStudy", headers=bearer("x", "p2")
        ) as other:
            assert (other.status, (await other.json(content_type=None))["total"]) == (200, 0)
        for one in slow[6:]:
            one.close()
        await wait_until_async(
            "that they have left", lambda: waiting_count(queue), lambda seen: seen == 0
        )
        assert held_count(queue) == 6
        for one in slow[:6]:
            one.close()
        await wait_until_async("no place held", lambda: held_count(queue), lambda seen: seen == 0)


async def test_a_list_that_is_not_read_in_time_gives_its_place_back(
    made: list[RequestLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(middleware, "LEAST_BYTES_PER_SECOND", 2**40)
    rows = [study(number, StudyDescription="x" * 8_000) for number in range(2_500)]
    async with (
        contextlib.AsyncExitStack() as stack,
        sidecar_before(LargeArchive({"studies": orjson.dumps(rows)}), apps()) as sidecar,
    ):
        slow = await ask(stack, sidecar.url, "/wado-rs/studies", "a")
        queue = made[0].searches
        await wait_until_async("its place", lambda: held_count(queue), lambda seen: seen == 1)
        await wait_until_async("its end", lambda: held_count(queue), lambda seen: seen == 0)

        async def rest() -> bool:
            await slow.read(2**20)
            return slow.is_reset

        await wait_until_async("the reset", rest)

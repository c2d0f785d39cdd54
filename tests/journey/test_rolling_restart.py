"""A rolling restart under load: behind a balancer that follows ``/readyz``, no download breaks, no
request fails.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests
from aiohttp import web

from tests.background import Background
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fakes.retrievals import WHOLE
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

ACCEPT = 'multipart/related; type="application/dicom"'
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def archive() -> web.Application:
    """One study, which takes most of a second to send."""

    row = {
        "00100020": {"vr": "LO", "Value": [PATIENT]},
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "00201208": {"vr": "IS", "Value": [WHOLE.count(b"Content-Type: application/dicom")]},
    }

    async def study(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": f"{ACCEPT}; boundary=abc"})
        await response.prepare(request)
        for start in range(0, len(WHOLE), 20_000):
            await response.write(WHOLE[start : start + 20_000])
            await asyncio.sleep(0.03)
        return response

    return RowArchive(row, filters=False, retrieve=study).app()


class Balancer:
    """Passes connections on to those that are ready, in turn, as kube-proxy does; looks at them
    every 100 ms.
    """

    def __init__(self) -> None:
        self.members: list[SidecarProcess] = []
        self.ready: list[int] = []
        self._turn = 0

    async def run(self, server_started: "asyncio.Future[int]") -> None:
        async with (
            await asyncio.start_server(self._pass_on, "127.0.0.1", 0) as server,
            aiohttp.ClientSession() as asks,
        ):
            server_started.set_result(server.sockets[0].getsockname()[1])
            while True:
                self.ready = [
                    one.port for one in list(self.members) if await self._is_ready(asks, one)
                ]
                await asyncio.sleep(0.1)

    @staticmethod
    async def _is_ready(session: aiohttp.ClientSession, one: SidecarProcess) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(one.admin + "/readyz") as answer:
                return answer.status == 200
        return False

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        port = self.ready[self._turn % len(self.ready)]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        except OSError:
            writer.transport.abort()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()


class Load:
    """Clients that never stop; ``seen`` counts what became of their requests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.seen: Counter[str] = Counter()
        paths = [f"/wado-rs/studies/{STUDY}"] * 6 + [f"/fhir/ImagingStudy?patient={PATIENT}"] * 2
        self._threads = [threading.Thread(target=self._ask, args=[path]) for path in paths]

    def _ask(self, path: str) -> None:
        while not self._over.is_set():
            try:
                headers = (
                    AUTHORIZED if path.startswith("/fhir") else AUTHORIZED | {"Accept": ACCEPT}
                )
                answer = requests.get(self._url + path, headers=headers, timeout=60)
            except requests.RequestException as failure:
                self.seen[type(failure).__name__] += 1
                continue
            whole = path.startswith("/fhir") or answer.content == WHOLE
            self.seen[f"{path[1:5]} {answer.status_code}{'' if whole else ' not whole'}"] += 1
            time.sleep(0.02)

    def wait_for_more(self, studies: int = 6) -> None:
        """Wait until so many more retrievals have ended."""
        due = self.seen["wado 200"] + studies
        wait_until("more retrievals", self.seen.copy, lambda seen: seen["wado 200"] >= due)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Background, dict[str, object]]]:
    with Background() as background:
        ehr, pacs = background.serve(ScriptedEhr().app()), background.serve(archive())
        yield (
            background,
            {
                "ehr": {"fhir_url": f"http://127.0.0.1:{ehr}/fhir"},
                "tokens": {"client": {"method": "none"}},
                "pacs": {"url": f"http://127.0.0.1:{pacs}/rs"},
                "fhir": {"detail": "study"},
            },
        )


@pytest.mark.exhaustive
def test_no_download_breaks_and_no_request_fails(
    parts: tuple[Background, dict[str, object]], tmp_path: Path
) -> None:
    """Each of two replicas is replaced, twice; each is told to end when the balancer sends it
    nothing any more.
    """
    background, configuration = parts
    balancer = Balancer()

    async def begin() -> tuple[int, "asyncio.Task[None]"]:
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(balancer.run(started))
        return await started, task

    with contextlib.ExitStack() as stack:
        balancer.members = [
            stack.enter_context(SidecarProcess(tmp_path, configuration)) for _ in range(2)
        ]
        port, task = background.run(begin())
        wait_until("two that are ready", lambda: len(balancer.ready), lambda count: count == 2)
        with Load(f"http://127.0.0.1:{port}") as load:
            load.wait_for_more()
            for _ in range(4):
                new = stack.enter_context(SidecarProcess(tmp_path, configuration))
                balancer.members.append(new)
                wait_until(
                    "three that are ready", lambda: len(balancer.ready), lambda count: count == 3
                )
                old = balancer.members.pop(0)
                wait_until(
                    "two that are ready", lambda: len(balancer.ready), lambda count: count == 2
                )
                load.wait_for_more()  # preStop: nothing is sent to it any more.
                assert old.stop() == 0
                assert '"draining"' in old.log
            load.wait_for_more()
        background.call(task.cancel)
    assert set(load.seen) == {"wado 200", "fhir 200"}, load.seen
    assert load.seen["wado 200"] > 30


def test_even_without_a_warning_no_download_breaks(
    parts: tuple[Background, dict[str, object]], tmp_path: Path
) -> None:
    """SIGTERM in the middle of transfers: they go on to their end; new connections are refused,
    that is all.
    """
    _, configuration = parts
    with SidecarProcess(tmp_path, configuration) as sidecar, Load(sidecar.url) as load:
        load.wait_for_more()
        assert sidecar.stop() == 0
    whole = load.seen["wado 200"]
    assert whole >= 6
    assert set(load.seen) <= {"wado 200", "fhir 200", "ConnectionError"}, load.seen

"""Reload upon reload under load: no connection refused, no transfer broken, nothing left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
import yaml
from aiohttp import web

from tests.background import Background
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN
from tests.fakes.process_site import Site
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ROW = row(
    PatientID=PATIENT, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE
)
DRAWN = f"/wado-rs/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/rendered"
LARGE = b"\xff\xd8" + bytes(2**21) + b"\xff\xd9"
PIECE, PIECES, PIECE_SECONDS = bytes(1_000), 60, 0.05


async def retrieve(request: web.Request) -> web.StreamResponse:
    """Return an instance; drawn: a large one at once, or one that takes seconds."""
    if not request.path.endswith("/rendered"):
        made = dataset(
            PatientID=PATIENT,
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=SERIES,
            SOPInstanceUID=INSTANCE,
        )
        return web.Response(body=encoded(made), content_type="application/dicom")
    if "quality" in request.query:
        return web.Response(body=LARGE, content_type="image/jpeg")
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    await response.prepare(request)
    await response.write(b"\xff\xd8")
    for _ in range(PIECES):
        await response.write(PIECE)
        await asyncio.sleep(PIECE_SECONDS)
    await response.write(b"\xff\xd9")
    return response


class Clients:
    """Clients of several kinds, each in a thread, and what became of their requests."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._sidecar = sidecar
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []
        self._over = threading.Event()
        self._session = requests.Session()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Send requests while the block runs, and wait for the last answers."""
        kinds = (self.search, self.search, self.keep_alive, self.transfer, self.slow, self.old)
        threads = [threading.Thread(target=self._repeat, args=[kind]) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._session.close()

    def _repeat(self, kind: Callable[[], bool]) -> None:
        while not self._over.is_set():
            try:
                outcome = "whole" if kind() else "wrong"
            except (requests.RequestException, OSError) as error:
                outcome = "broken"
                self.failures.append(f"{kind.__name__}: {error!r}")
            self.seen[f"{kind.__name__} {outcome}"] += 1

    def search(self) -> bool:
        """Search, each time on a connection of its own."""
        return _found(requests.get(self._search, headers=HEADERS, timeout=60)) == 1

    def keep_alive(self) -> bool:
        """Search on a connection that stays open."""
        return _found(self._session.get(self._search, headers=HEADERS, timeout=60)) == 1

    def transfer(self) -> bool:
        """Retrieve what takes seconds."""
        answer = requests.get(self._sidecar.url + DRAWN, headers=HEADERS, timeout=60)
        return answer.content.endswith(PIECE + b"\xff\xd9")

    def old(self) -> bool:
        """Retrieve what takes seconds by HTTP/1.0, whose end is that of the connection."""
        body = b"".join(self._raw(DRAWN, "1.0", 2**16, seconds=0))
        return body.endswith(PIECE + b"\xff\xd9")

    def slow(self) -> bool:
        """Take seconds to read what is there at once."""
        parts = list(self._raw(DRAWN + "?quality=90", "1.1", 2**15, seconds=0.03))
        return b"".join(parts).partition(b"\r\n\r\n")[2].startswith(LARGE)

    @property
    def _search(self) -> str:
        return f"{self._sidecar.fhir}/ImagingStudy?patient={PATIENT}"

    def _raw(self, path: str, version: str, size: int, *, seconds: float) -> Iterator[bytes]:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
            client.settimeout(60)
            client.connect(("127.0.0.1", self._sidecar.port))
            lines = (
                f"GET {path} HTTP/{version}",
                "Host: here",
                f"Authorization: Bearer {TOKEN}",
                "Connection: close",
            )
            client.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            pause = threading.Event()
            while part := client.recv(size):
                yield part
                pause.wait(seconds)


def _found(answer: requests.Response) -> int:
    total: int = answer.json()["total"]
    return total


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    with Background() as background:
        site = Site(background, tmp_path)
        archive = RowArchive(ROW, filters=False, retrieve=retrieve)
        site.configuration |= {
            "pacs": {"url": f"http://127.0.0.1:{background.serve(archive.app())}/rs"},
            "audit": {"sink": "none"},
            "fhir": {
                "detail": "study",
                "catalog": {"store": "sqlite", "file": str(tmp_path / "catalog")},
            },
        }
        with SidecarProcess(tmp_path, site.configuration) as made:
            wait_until("its start", lambda: made.log, lambda log: '"serving"' in log)
            yield made


def with_workers(sidecar: SidecarProcess, workers: int) -> None:
    """Write the configuration with another number of workers."""
    document = yaml.safe_load(sidecar.file.read_text())
    document["server"]["workers"] = workers
    new = sidecar.file.with_suffix(".new")
    new.write_text(yaml.safe_dump(document))
    new.replace(sidecar.file)


def reload_often(sidecar: SidecarProcess, count: int) -> Iterator[int]:
    """Reload, each time with another number of workers, as soon as the last has ended.

    Now and then the signal comes twice. Yields the bytes of the supervisor after each reload.
    """
    supervisor = psutil.Process(sidecar.process_id)
    for number in range(count):
        before = sidecar.log.count('"reloaded"')
        with_workers(sidecar, (2, 4, 1)[number % 3])
        for _ in range(2 if number % 5 == 4 else 1):
            os.kill(sidecar.process_id, signal.SIGHUP)
        wait_until(
            "a reload",
            lambda: sidecar.log.count('"reloaded"'),
            before.__lt__,
            explain=lambda: sidecar.log,
        )
        yield supervisor.memory_info().rss


@pytest.mark.parametrize("reloads", [5, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_reloads_break_and_leave_nothing(sidecar: SidecarProcess, reloads: int) -> None:
    supervisor = psutil.Process(sidecar.process_id)
    clients = Clients(sidecar)
    with clients.running():
        files = supervisor.num_fds()
        sizes = list(reload_often(sidecar, reloads))
    assert clients.failures == []
    assert not [outcome for outcome in clients.seen if not outcome.endswith(" whole")]
    assert len(clients.seen) == len({"search", "keep_alive", "transfer", "slow", "old"})
    assert sizes[-1] - sizes[0] < 2**20
    workers = yaml.safe_load(sidecar.file.read_text())["server"]["workers"]
    wait_until("the end of the others", sidecar.workers, lambda found: len(found) == workers)
    # A channel for each worker; there was one.
    wait_until("their channels' end", supervisor.num_fds, (files - 1 + workers).__eq__)
    active = "smart_imaging_streams_active"
    wait_until("the transfers' end", lambda: sidecar.metric(active), (0.0).__eq__)
    assert sidecar.stop() == 0

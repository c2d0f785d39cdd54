"""``serve`` as a process: what the supervisor imports, what breaks when a worker is killed."""

import asyncio
import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import requests
from aiohttp import web

from tests.background import Background
from tests.command import serving
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN
from tests.fakes.process_site import Site
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
UIDS = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": INSTANCE}
ROW = row(PatientID=PATIENT, **UIDS)
SUPERVISOR_BYTES = 25 * 2**20
COMPILED = (
    "_pydantic_core",
    "_hashlib",
    "_http_parser",
    "_http_writer",
    "pydicom",
    "uvloop",
    "_ssl",
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Background() as background:
        made = Site(background, tmp_path)
        made.configuration |= {
            "audit": {"sink": "none"},
            "server": {"workers": 2},
            "fhir": {
                "detail": "study",
                "catalog": {"store": "sqlite", "file": str(tmp_path / "c")},
            },
        }
        yield made


def test_the_supervisor_is_small(site: Site, tmp_path: Path) -> None:
    """It imports none of what its workers do."""
    process = SidecarProcess(tmp_path, site.configuration)
    # A measurement of coverage would be in it, too.
    alone = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
    one = {"SIDECAR_SERVER__WORKERS": "1"}
    with serving(tmp_path, process.file, changes=alone | one, imports=True) as running:
        supervisor = psutil.Process(running.process.pid)
        mapped = " ".join(one.path for one in supervisor.memory_maps())
        assert not [name for name in COMPILED if name in mapped]
        assert supervisor.memory_info().rss < SUPERVISOR_BYTES
        (worker,) = supervisor.children()
        assert "_http_parser" in " ".join(one.path for one in worker.memory_maps())
        assert running.end() == 0


def _has_another(before: list[int], now: list[int]) -> bool:
    return not set(now) <= set(before)


def test_a_killed_worker_breaks_its_own_requests_alone(site: Site, tmp_path: Path) -> None:
    """Connections that wait, and those of the other worker, are answered."""
    seen: Counter[str] = Counter()
    over = threading.Event()
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        url = f"{sidecar.fhir}/ImagingStudy?patient={PATIENT}"

        def load() -> None:
            while not over.is_set():
                try:
                    seen[str(requests.get(url, headers=HEADERS, timeout=60).status_code)] += 1
                except requests.ConnectionError:
                    seen["broken"] += 1

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until("all workers", lambda: sidecar.log, lambda log: '"serving"' in log)
        for _ in range(3):
            before, answered = sidecar.workers(), seen["200"]
            os.kill(before[0], signal.SIGKILL)
            wait_until("another worker", sidecar.workers, partial(_has_another, before))
            wait_until("more answers", lambda: seen["200"], (answered + 20).__lt__)
        over.set()
        for thread in threads:
            thread.join()
        # Each kill breaks at most what its four clients had under way.
        assert seen["broken"] <= 3 * 4
        assert set(seen) <= {"200", "broken"}
        assert sidecar.stop() == 0


def test_after_a_kill_of_the_supervisor_the_next_one_serves_at_once(
    site: Site, tmp_path: Path
) -> None:
    """Though a worker of the killed one still goes on with a transfer, which comes whole."""
    going_on = threading.Event()

    async def retrieve(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/rendered"):
            made = dataset(PatientID=PATIENT, **UIDS)
            return web.Response(body=encoded(made), content_type="application/dicom")
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        await response.write(b"\xff\xd8")
        await asyncio.to_thread(going_on.wait)
        await response.write(b"\xff\xd9")
        return response

    archive = site.background.serve(RowArchive(ROW, filters=False, retrieve=retrieve).app())
    site.configuration["pacs"] = {"url": f"http://127.0.0.1:{archive}/rs"}
    first = SidecarProcess(tmp_path, site.configuration)
    with first:
        drawn = f"{first.url}/wado-rs/studies/{STUDY}/rendered"
        transfer = requests.get(drawn, headers=HEADERS, stream=True, timeout=60)
        assert transfer.status_code == 200
        os.kill(first.process_id, signal.SIGKILL)
        second = first.again()
        with second:
            wait_until("its start", lambda: second.log, lambda log: '"serving"' in log)
            site.ask(second, 1)
            going_on.set()
            assert transfer.content.endswith(b"\xff\xd9")
            assert second.stop() == 0


def test_each_request_that_was_answered_has_its_event_whatever_is_killed(
    site: Site, tmp_path: Path
) -> None:
    """Workers are killed under load, then the supervisor; another one delivers the rest."""
    audit = Site(site.background, tmp_path)
    audit.configuration |= {key: site.configuration[key] for key in ("server", "fhir")}
    answered: list[str] = []
    over = threading.Event()
    first = SidecarProcess(tmp_path, audit.configuration)
    with first:

        def load() -> None:
            while not over.is_set():
                with contextlib.suppress(requests.ConnectionError):
                    answered.extend(audit.ask(first, 1))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until("all workers", lambda: first.log, lambda log: '"serving"' in log)
        for _ in range(3):
            before, count = first.workers(), len(answered)
            os.kill(before[0], signal.SIGKILL)
            wait_until("another worker", first.workers, partial(_has_another, before))
            wait_until("more answers", lambda: len(answered), (count + 20).__lt__)
        first.kill()
        over.set()
        for thread in threads:
            thread.join()
    with first.again() as second:
        wait_until("all events", audit.told, lambda told: set(answered) <= set(told))
        assert second.stop() == 0

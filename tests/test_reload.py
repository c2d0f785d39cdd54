"""SIGHUP: a new configuration takes over on the same sockets; a bad one leaves the old; no transfer
breaks.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from aiohttp import web

from tests.audit.fhir_repository import FhirRepository
from tests.background import Background
from tests.dicom_instances import dataset, encoded
from tests.fakes.archive import INSTANCE, SERIES, STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


ROW = row(
    PatientID=PATIENT,
    StudyInstanceUID=STUDY,
    SeriesInstanceUID=SERIES,
    SOPInstanceUID=INSTANCE,
    ModalitiesInStudy="CT",
)


def archive(slow: threading.Event) -> web.Application:
    """One study of the patient; a retrieval sends a piece at a time until ``slow`` is set."""

    async def retrieve(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/rendered"):
            made = dataset(
                PatientID=PATIENT,
                StudyInstanceUID=STUDY,
                SeriesInstanceUID=SERIES,
                SOPInstanceUID=INSTANCE,
            )
            return web.Response(body=encoded(made), content_type="application/dicom")
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        await response.write(b"\xff\xd8")
        while not slow.is_set():
            await response.write(b"x" * 1_000)
            await asyncio.sleep(0.05)
        await response.write(b"\xff\xd9")
        return response

    return RowArchive(ROW, filters=False, retrieve=retrieve).app()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[SidecarProcess, dict[str, Any], threading.Event]]:
    """A real process with this configuration, which a test may write anew."""
    slow = threading.Event()
    with Background() as background:
        ehr, pacs = background.serve(ScriptedEhr().app()), background.serve(archive(slow))
        document = {
            "ehr": {"fhir_url": f"http://127.0.0.1:{ehr}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": f"http://127.0.0.1:{pacs}/rs"},
            "fhir": {"detail": "study"},
        }
        with SidecarProcess(tmp_path, document) as sidecar:
            yield sidecar, yaml.safe_load(sidecar.file.read_text()), slow
            slow.set()


def write(sidecar: SidecarProcess, document: dict[str, Any]) -> None:
    """The new file, in one step, as editors and Kubernetes do it."""
    new = sidecar.file.with_suffix(".new")
    new.write_text(yaml.safe_dump(document))
    shutil.move(new, sidecar.file)


def reload(sidecar: SidecarProcess, says: str) -> None:
    """SIGHUP, and wait for what it says."""
    before = sidecar.log.count(says)
    os.kill(sidecar.process_id, signal.SIGHUP)
    wait_for(sidecar, says, before)


def wait_for(sidecar: SidecarProcess, says: str, before: int) -> None:
    """Until the log says it once more."""
    wait_until(
        says,
        lambda: sidecar.log.count(says),
        lambda count: count > before,
        explain=lambda: sidecar.log,
    )


def total(sidecar: SidecarProcess) -> int:
    """How many studies are found."""
    answer = requests.get(sidecar.fhir + "/ImagingStudy", headers=HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["total"]
    return found


HIDING = {"rules": [{"name": "r", "effect": "exclude", "study": {"ModalitiesInStudy": ["CT"]}}]}


def test_a_new_rule_is_in_force_and_running_transfers_end_well(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event],
) -> None:
    sidecar, document, slow = world
    assert total(sidecar) == 1
    running = requests.get(
        f"{sidecar.url}/wado-rs/studies/{STUDY}/rendered", headers=HEADERS, stream=True, timeout=60
    )
    assert running.status_code == 200
    stop, failures = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            try:
                requests.get(sidecar.fhir + "/metadata", timeout=60).raise_for_status()
            except requests.RequestException as error:
                failures.append(repr(error))

    others = [threading.Thread(target=load) for _ in range(4)]
    for one in others:
        one.start()
    write(sidecar, document | {"access": HIDING})
    reload(sidecar, '"reloaded"')
    assert total(sidecar) == 0
    write(sidecar, document)
    reload(sidecar, '"reloaded"')
    assert total(sidecar) == 1
    assert sidecar.metric("smart_imaging_streams_active") == 1  # Of the generation before.
    stop.set()
    for one in others:
        one.join()
    slow.set()
    body = running.content
    assert body.startswith(b"\xff\xd8")
    assert body.endswith(b"\xff\xd9")
    assert failures == []  # Not one connection was refused or broken.
    ended = 'smart_imaging_streams_total{kind="rendered",outcome="complete"}'
    # What an old generation counts is seen: an alert may rest on it.
    wait_until(ended, lambda: sidecar.metric(ended), lambda count: count == 1)
    assert f'"port":{sidecar.port}' in sidecar.log


def test_there_and_back_again_the_newest_delivers(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event], tmp_path: Path
) -> None:
    """Folder A, B, A: what the first could not tell the third does, though a transfer of the first
    still goes on.
    """
    sidecar, document, slow = world
    repository = FhirRepository()
    with Background() as background:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/fhir{path:.*}", repository.handle)
        port = background.serve(app)

        def audit(folder: str, path: str) -> dict[str, Any]:
            there = {"url": f"http://127.0.0.1:{port}/{path}"}
            return {
                "sink": "fhir",
                "repository": there,
                "spool": {"folder": str(tmp_path / folder)},
            }

        write(sidecar, document | {"audit": audit("a", "wrong")})
        reload(sidecar, '"reloaded"')
        running = requests.get(
            f"{sidecar.url}/wado-rs/studies/{STUDY}/rendered",
            headers=HEADERS,
            stream=True,
            timeout=60,
        )
        assert running.status_code == 200
        for folder in ("b", "a"):
            write(sidecar, document | {"audit": audit(folder, "fhir")})
            reload(sidecar, '"reloaded"')
        wait_until("an event", lambda: repository.events)
        slow.set()
        assert running.content.endswith(b"\xff\xd9")


@pytest.mark.parametrize(
    "change",
    [{"acces": {}}, {"access": {"rules": [{"name": "r"}]}}, {"pacs": {"url": "nowhere"}}, None],
)
def test_a_bad_file_leaves_the_old_one_serving(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event], change: dict[str, Any] | None
) -> None:
    sidecar, document, _ = world
    if change is None:
        sidecar.file.write_text("a: b: c")
    else:
        write(sidecar, document | change)
    reload(sidecar, "the new configuration cannot be used")
    assert total(sidecar) == 1
    write(sidecar, document | {"access": HIDING})
    reload(sidecar, '"reloaded"')
    assert total(sidecar) == 0


def test_changed_files_are_seen_where_that_is_wanted(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event],
) -> None:
    sidecar, document, _ = world
    watching = document | {"server": document["server"] | {"reload_seconds": 0.1}}
    write(sidecar, watching)
    reload(sidecar, '"reloaded"')
    before = sidecar.log.count('"reloaded"')

    def write_and_look() -> int:  # Again and again: nobody says when it begins to look at the file.
        write(sidecar, watching | {"access": HIDING})
        return sidecar.log.count('"reloaded"')

    wait_until("a reload", write_and_look, lambda count: count > before)
    assert total(sidecar) == 0


def test_the_process_ends_as_before(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event],
) -> None:
    sidecar, document, slow = world
    running = requests.get(
        f"{sidecar.url}/wado-rs/studies/{STUDY}/rendered", headers=HEADERS, stream=True, timeout=60
    )
    write(sidecar, document)
    reload(sidecar, '"reloaded"')
    slow.set()
    with contextlib.closing(running):
        assert running.content.endswith(b"\xff\xd9")
    assert sidecar.stop() == 0


def test_the_end_gives_transfers_of_before_a_reload_their_time(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event],
) -> None:
    """SIGTERM soon after SIGHUP: what the old generation still sends has ``drain_seconds``, too."""
    sidecar, _, slow = world
    url = f"{sidecar.url}/wado-rs/studies/{STUDY}/rendered"
    with requests.get(url, headers=HEADERS, stream=True, timeout=60) as running:
        assert running.status_code == 200
        reload(sidecar, '"reloaded"')
        os.kill(sidecar.process_id, signal.SIGTERM)
        time.sleep(1.5)
        slow.set()
        assert running.content.endswith(b"\xff\xd9")
    assert sidecar.stop() == 0


def read_to_the_end(client: socket.socket) -> None:
    while client.recv(10_000):
        pass


def test_at_the_end_of_it_they_are_reset(
    world: tuple[SidecarProcess, dict[str, Any], threading.Event],
) -> None:
    """Also for a client of HTTP/1.0, of which a close is the regular end (SIA-43)."""
    sidecar, document, _ = world
    document["server"]["drain_seconds"] = 1
    write(sidecar, document)
    reload(sidecar, '"reloaded"')
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=60) as client:
        path = f"/wado-rs/studies/{STUDY}/rendered"
        client.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert b" 200 " in client.recv(100)
        reload(sidecar, '"reloaded"')
        os.kill(sidecar.process_id, signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)
    assert sidecar.stop() == 0
    assert '"reason":"draining"' in sidecar.log

"""The trail in a FHIR repository, of a real process: killed, reloaded, in front of one that is down
(SIA-60).
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from fhir.resources.R4B.auditevent import AuditEvent

from sidecar.audit.spool import REJECTED
from tests.background import Background
from tests.fakes.ehr import PATIENT, TOKEN
from tests.fakes.process_site import Site
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

QUEUE = "smart_imaging_audit_queue_bytes"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Background() as background:
        yield Site(background, tmp_path)


def test_a_killed_process_loses_nothing_that_was_answered(site: Site, tmp_path: Path) -> None:
    """The repository is down, the process is killed, all of it comes with the next one,
    in order.
    """
    site.repository.status = 503
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        answered = site.ask(sidecar, 120)
        sidecar.kill()
        assert sidecar.stop() == -9
    assert site.repository.events == []
    site.repository.status = None
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        site.wait_for(120)
        answered += site.ask(sidecar, 5)
        site.wait_for(125)
    assert site.told() == answered
    for event in site.repository.events:
        AuditEvent.model_validate(event)
    text = json.dumps(site.repository.events)
    assert f"/Patient/{PATIENT}" in text
    assert TOKEN not in text


def test_killed_again_and_again_while_it_delivers(site: Site, tmp_path: Path) -> None:
    """Told twice at most, under ids of ours once, and never out of order."""
    site.configuration["audit"]["repository"] |= {"interaction": "update", "batch_size": 5}
    site.repository.seconds = 0.02
    answered: list[str] = []
    for _ in range(4):
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            answered += site.ask(sidecar, 40)
            sidecar.kill()
            sidecar.stop()
    with SidecarProcess(tmp_path, site.configuration):
        site.wait_for(160)
    assert site.told() == answered


def test_a_secret_that_was_renewed_is_used(site: Site, tmp_path: Path) -> None:
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        site.ask(sidecar, 1)
        site.wait_for(1)
        site.secret.write_text("second")
        site.ask(sidecar, 1)
        site.wait_for(2)
    used = [authorization for _, _, authorization in site.repository.requests]
    assert used == ["Bearer first", "Bearer second"]


def test_a_reload_loses_and_repeats_nothing(site: Site, tmp_path: Path) -> None:
    site.repository.seconds = 0.05
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        answered = site.ask(sidecar, 30)
        os.kill(sidecar.process_id, signal.SIGHUP)
        answered += site.ask(sidecar, 60)
        site.wait_for(90)
        wait_until("the queue's end", lambda: sidecar.metric(QUEUE), lambda size: size == 0)
        assert sidecar.stop() == 0  # Nobody is left who could repeat anything.
    assert sorted(site.told()) == sorted(answered)


def test_a_reload_with_another_folder_leaves_nobody_behind(site: Site, tmp_path: Path) -> None:
    """What waits in the old one is told, or the log says where it is left."""
    for is_down, folder in ((False, "second"), (True, "third")):
        site.repository.status = 503 if is_down else None
        with SidecarProcess(tmp_path, site.configuration) as sidecar:
            site.repository.status = 503
            site.ask(sidecar, 5)
            document = yaml.safe_load(sidecar.file.read_text())
            document["audit"]["spool"]["folder"] = str(tmp_path / folder)
            sidecar.file.write_text(yaml.safe_dump(document))
            if not is_down:
                site.repository.status = None
            os.kill(sidecar.process_id, signal.SIGHUP)
            wait_until(
                "the new configuration", lambda: sidecar.log, lambda log: '"reloaded"' in log
            )
            if not is_down:
                site.wait_for(5)
                continue
            wait_until(
                "what is left", lambda: sidecar.log, lambda log: "audit events are left" in log
            )
            assert f"bytes in {site.configuration['audit']['spool']['folder']}" in sidecar.log
            wait_until(
                "the new folder's queue", lambda: sidecar.metric(QUEUE), lambda size: size == 0
            )


def test_a_full_spool_refuses_and_recovers(site: Site, tmp_path: Path) -> None:
    """``when_full: refuse``: nothing is answered that cannot be told. What was rejected takes all
    but a megabyte of the room.
    """
    spool = site.configuration["audit"]["spool"]
    spool["max_bytes"] = 2**26
    rejected = Path(spool["folder"]) / REJECTED
    rejected.parent.mkdir(parents=True, exist_ok=True)
    rejected.touch()
    os.truncate(rejected, 2**26 - 2**20)
    site.repository.status = 503
    with SidecarProcess(tmp_path, site.configuration) as sidecar:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        url = f"{sidecar.fhir}/ImagingStudy?patient={PATIENT}"
        answered = 0
        while (answer := session.get(url, timeout=60)).status_code == 200:
            answered += 1
            assert answered < 2_000
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
        wait_until(
            "the queue's size", lambda: sidecar.metric(QUEUE), lambda size: size > 0.99 * 2**20
        )
        wait_until(
            "its age",
            lambda: sidecar.metric("smart_imaging_audit_queue_age_seconds"),
            lambda age: age > 1,
        )
        site.repository.status = None
        site.wait_for(answered)
        wait_until(
            "room", lambda: session.get(url, timeout=60).status_code, lambda status: status == 200
        )
    assert answered > 200

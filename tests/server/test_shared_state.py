"""Two workers of a process: one exposition, and one forgetting."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.background import Background
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.fhir.rows import row
from tests.sidecar_process import SidecarProcess
from tests.waiting import wait_until

ROW = row(PatientID=PATIENT, StudyInstanceUID=STUDY)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[RowArchive, SidecarProcess]]:
    """An archive, and two workers in front of it."""
    archive = RowArchive(ROW, filters=False)
    with Background() as background:
        document = {
            "server": {"workers": 2},
            "ehr": {"fhir_url": f"http://127.0.0.1:{background.serve(ScriptedEhr().app())}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": f"http://127.0.0.1:{background.serve(archive.app())}/rs"},
            "fhir": {
                "detail": "study",
                "catalog": {"store": "sqlite", "file": str(tmp_path / "catalog")},
            },
            "limits": {"search_cache_seconds": 3_600},
        }
        with SidecarProcess(tmp_path, document) as sidecar:
            wait_until("all workers", lambda: sidecar.log, lambda log: '"serving"' in log)
            yield archive, sidecar


def found(sidecar: SidecarProcess) -> Counter[int]:
    """How many studies searches find, on connections of their own."""
    counted: Counter[int] = Counter()
    for _ in range(20):
        answer = requests.get(
            sidecar.fhir + "/ImagingStudy", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        counted[answer.json()["total"]] += 1
    return counted


def value(sidecar: SidecarProcess, name: str = "requests_total", **labels: str) -> float:
    """The sum of the metric over the samples with these labels."""
    exposed = requests.get(sidecar.admin + "/metrics", timeout=60).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.name == "smart_imaging_" + name and labels.items() <= sample.labels.items()
    )


def test_what_one_is_asked_to_forget_all_forget(
    world: tuple[RowArchive, SidecarProcess],
) -> None:
    archive, sidecar = world
    assert found(sidecar) == {1: 20}
    archive.rows = ()
    assert found(sidecar)[1] > 0
    assert requests.post(sidecar.admin + "/admin/invalidate", timeout=60).status_code == 204
    assert found(sidecar) == {0: 20}


def test_each_has_the_metrics_of_all_also_after_a_kill_and_a_reload(
    world: tuple[RowArchive, SidecarProcess],
) -> None:
    _, sidecar = world
    route = {"route": "imaging-study-search"}
    found(sidecar)
    assert {value(sidecar, **route) for _ in range(10)} == {20}
    os.kill(sidecar.workers()[0], signal.SIGKILL)
    wait_until(
        "a start", lambda: value(sidecar, "worker_starts_total", reason="restart"), (1.0).__eq__
    )
    assert {value(sidecar, **route) for _ in range(10)} == {20}
    os.kill(sidecar.process_id, signal.SIGHUP)
    wait_until(
        "a reload",
        lambda: value(sidecar, "configuration_reloads_total", outcome="succeeded"),
        (1.0).__eq__,
    )
    found(sidecar)
    assert {value(sidecar, **route) for _ in range(10)} == {40}
    assert value(sidecar, "worker_starts_total", reason="reload") == 2
    assert value(sidecar, "worker_starts_total", reason="start") == 2

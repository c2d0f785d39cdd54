"""Two processes with the folder that workers share: one exposition, and one forgetting."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from sidecar.common.shared_generation import FOLDER_VARIABLE
from tests.background import Background
from tests.fakes.archive import STUDY, RowArchive
from tests.fakes.ehr import PATIENT, TOKEN, ScriptedEhr
from tests.sidecar_process import SidecarProcess

ROW = {
    "00100020": {"vr": "LO", "Value": [PATIENT]},
    "0020000D": {"vr": "UI", "Value": [STUDY]},
}


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RowArchive, list[SidecarProcess]]]:
    """An archive, and two processes in front of it."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "shared"))
    archive = RowArchive(ROW, filters=False)
    with Background() as background:
        document = {
            "ehr": {"fhir_url": f"http://127.0.0.1:{background.serve(ScriptedEhr().app())}/fhir"},
            "tokens": {"client": {"method": "none"}},
            "pacs": {"url": f"http://127.0.0.1:{background.serve(archive.app())}/rs"},
            "fhir": {"detail": "study", "search_cache_seconds": 3_600},
        }
        with SidecarProcess(tmp_path, document) as one, SidecarProcess(tmp_path, document) as two:
            yield archive, [one, two]


def found(sidecar: SidecarProcess) -> int:
    """How many studies a search finds."""
    answer = requests.get(
        sidecar.fhir + "/ImagingStudy", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    total: int = answer.json()["total"]
    return total


def searches(sidecar: SidecarProcess) -> float:
    """How many of them the metrics have."""
    exposed = requests.get(sidecar.admin + "/metrics", timeout=60).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.name == "smart_imaging_requests_total"
        and sample.labels["route"] == "imaging-study-search"
    )


def test_what_one_is_asked_to_forget_the_other_forgets(
    world: tuple[RowArchive, list[SidecarProcess]],
) -> None:
    archive, sidecars = world
    assert [found(sidecar) for sidecar in sidecars] == [1, 1]
    archive.rows = ()
    assert [found(sidecar) for sidecar in sidecars] == [1, 1]
    assert requests.post(sidecars[0].admin + "/admin/invalidate", timeout=60).status_code == 204
    assert [found(sidecar) for sidecar in reversed(sidecars)] == [0, 0]


def test_each_has_the_metrics_of_both_also_after_a_kill(
    world: tuple[RowArchive, list[SidecarProcess]],
) -> None:
    one, two = world[1]
    for _ in range(3):
        found(one)
    found(two)
    assert (searches(one), searches(two)) == (4, 4)
    os.kill(two.process_id, signal.SIGKILL)
    two.stop()
    assert searches(one) == 4
    with two:
        found(two)
        assert (searches(one), searches(two)) == (5, 5)

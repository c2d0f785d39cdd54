"""The exposition of a worker: as that of a process alone, with what all workers have counted."""

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.telemetry.metrics import Metrics
from tests.prometheus.promtool import promtool
from tests.telemetry.usage import use
from tests.waiting import WAIT_SECONDS

__all__ = ["promtool"]


@pytest.fixture
def value_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shared ``Metrics`` sets is set back at the end."""
    monkeypatch.setattr(prometheus_client.values, "ValueClass", prometheus_client.values.ValueClass)


@pytest.mark.usefixtures("value_class")
def test_one_worker_exposes_what_a_process_alone_does(tmp_path: Path) -> None:
    """Family by family and sample by sample, but for the times at which counters began."""

    def samples(metrics: Metrics) -> dict[str, Any]:
        use(metrics)
        return {
            family.name: (
                family.type,
                family.documentation,
                sorted(
                    (sample.name, sorted(sample.labels.items()), sample.value)
                    for sample in family.samples
                ),
            )
            for family in text_string_to_metric_families(metrics.expose().decode())
            if not family.name.endswith("_created")
        }

    alone = samples(Metrics("1"))
    assert alone == samples(Metrics("1", tmp_path))


@pytest.mark.usefixtures("value_class")
def test_openmetrics_has_exemplars(tmp_path: Path) -> None:
    metrics = Metrics("1", tmp_path)
    metrics.request_duration.labels("search").observe(0.3, {"trace_id": "abc"})
    body, content_type = metrics.negotiate("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    (line,) = [line for line in body.decode().splitlines() if "trace_id" in line]
    assert line.startswith(
        'smart_imaging_request_duration_seconds_bucket{le="0.5",route="search"} 1.0 '
        '# {trace_id="abc"} 0.3'
    )
    assert "trace_id" not in metrics.expose().decode()


@pytest.mark.usefixtures("value_class")
def test_on_a_full_disk_a_worker_starts_and_exposes_what_others_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own counts are lost."""
    use(Metrics("1", tmp_path))

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    metrics = Metrics("1", tmp_path)
    use(metrics)
    exposed = metrics.expose()
    assert value(exposed, "requests_total", route="wado-rs") == 1
    assert value(exposed, "streams_active") == 1
    assert "the metrics of this worker are lost" in caplog.messages


def serve(folder: Path, orders: Connection) -> None:
    """Be a worker: count when told to, and expose when told to."""
    metrics = Metrics("1.2.3", folder)
    with contextlib.suppress(EOFError):
        while True:
            if orders.recv() == "use":
                use(metrics)
                orders.send(None)
            else:
                orders.send(metrics.expose())


class Processes:
    """Three workers in processes of their own."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.processes, self._ends = [], []
        for _ in range(3):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=serve, args=(folder, theirs)))
            self.processes[-1].start()
            theirs.close()
            self._ends.append(ours)

    def do(self, number: int, what: str) -> bytes:
        self._ends[number].send(what)
        assert self._ends[number].poll(WAIT_SECONDS)
        answer: bytes = self._ends[number].recv()
        return answer

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self.processes:
            process.join(WAIT_SECONDS)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.close()


def value(exposed: bytes, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposed.decode())
        for sample in family.samples
        if sample.name == "smart_imaging_" + name and labels.items() <= sample.labels.items()
    )


def test_processes_count_together_and_a_kill_loses_nothing(
    tmp_path: Path, processes: Processes
) -> None:
    for number in range(3):
        processes.do(number, "use")
    for killed, live in ((None, 3), (1, 2), (0, 1)):
        if killed is not None:
            pid = processes.processes[killed].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            processes.processes[killed].join(WAIT_SECONDS)
        exposed = processes.do(2, "expose")
        assert value(exposed, "requests_total", route="wado-rs") == 3
        assert value(exposed, "request_duration_seconds_count") == 3
        assert value(exposed, "request_duration_seconds_bucket", le="0.25") == 0
        assert value(exposed, "request_duration_seconds_bucket", le="+Inf") == 3
        assert value(exposed, "streamed_bytes_total") == 3 * 2**40
        assert value(exposed, "streams_active") == live
        assert value(exposed, "build_info", version="1.2.3") == 1
        assert b"pid=" not in exposed
        assert len(list(tmp_path.glob("*.values"))) == live


@pytest.mark.prometheus
def test_prometheus_reads_it(processes: Processes, promtool: str) -> None:
    for number in range(3):
        processes.do(number, "use")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=processes.do(0, "expose"),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_metrics_without_a_folder_are_alone_whatever_the_environment_says(tmp_path: Path) -> None:
    """prometheus_client reads it when it is imported."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from sidecar.telemetry.metrics import Metrics; print(Metrics('1').expose().decode())",
        ],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    assert value(done.stdout, "build_info", version="1") == 1
    assert list(tmp_path.iterdir()) == []

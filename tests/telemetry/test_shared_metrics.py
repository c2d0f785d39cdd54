"""The metrics of all workers as one: sums that no death loses, gauges of the living, few files."""

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from prometheus_client.parser import text_string_to_metric_families

from sidecar.telemetry import shared_values
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.shared_metrics import SharedMetrics
from sidecar.telemetry.shared_values import Key, WorkerFile
from tests.prometheus.promtool import promtool
from tests.telemetry.usage import use
from tests.waiting import WAIT_SECONDS

__all__ = ["promtool"]

COUNTER = Key("requests", "requests_total", (("route", "search"),), "")
GAUGE = Key("streams_active", "streams_active", (), "livesum")


class Worker:
    """A worker's file, and its death."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = WorkerFile(folder)

    def set(self, key: Key, value: float) -> None:
        view, index = self.file.place(key)
        view[index] = value

    def die(self) -> None:
        """Release the lock, as the kernel does for a process that ends."""
        fcntl.flock(self.file._file, fcntl.LOCK_UN)


def worker(folder: Path, counted: float = 1) -> Worker:
    made = Worker(folder)
    made.set(COUNTER, counted)
    made.set(GAUGE, counted)
    return made


def read(folder: Path) -> dict[Key, float]:
    """What all of them have, by decoded keys."""
    return {Key.decode(key): value for key, value in SharedMetrics(folder).read().items()}


def files(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def test_sums_and_gauges_of_those_that_live(tmp_path: Path) -> None:
    shared = SharedMetrics(tmp_path)
    workers = [worker(tmp_path, counted) for counted in (1, 10, 100)]
    assert read(tmp_path) == {COUNTER: 111, GAUGE: 111}
    workers[1].die()
    assert read(tmp_path) == {COUNTER: 111, GAUGE: 101}
    shared.fold()
    assert read(tmp_path) == {COUNTER: 111, GAUGE: 101}
    assert len(list(tmp_path.glob("*.values"))) == 2
    for one in (workers[0], workers[2]):
        one.die()
    shared.fold()
    assert read(tmp_path) == {COUNTER: 111}
    assert files(tmp_path) == {".json", ".lock"}


@pytest.mark.parametrize(
    ("mode", "values", "combined"),
    [
        ("livemax", [3, 1], 3),
        ("livemin", [3, 1], 1),
        ("livemin", [0, 2], 2),  # One has not set it yet.
        ("livesum", [3, 1], 4),
        ("", [3, 1], 4),
    ],
)
def test_modes(tmp_path: Path, mode: str, values: list[float], combined: float) -> None:
    key = Key("x", "x", (), mode)
    for value in values:
        Worker(tmp_path).set(key, value)
    assert read(tmp_path) == {key: combined}


def test_a_thousand_reloads_leave_a_handful_of_files(tmp_path: Path) -> None:
    shared, count = SharedMetrics(tmp_path), 1000
    for _ in range(count):
        shared.fold()
        worker(tmp_path).die()
    assert len(list(tmp_path.iterdir())) <= 3
    assert read(tmp_path) == {COUNTER: count}
    shared.fold()
    total = json.loads((tmp_path / "total.json").read_text())
    assert len(total["workers"]) == 1
    assert (tmp_path / "total.json").stat().st_size < 500


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(6))
def test_a_fold_that_is_killed_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before each thing that it does to a file: write, replace, and three removals."""
    shared, steps = SharedMetrics(tmp_path), iter(range(99))
    worker(tmp_path, 1000).die()
    shared.fold()

    def ends(do: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            if next(steps) == step:
                raise Killed
            return do(*arguments, **named)

        return instead

    for counted in (1, 10, 100):
        worker(tmp_path, counted).die()
    with monkeypatch.context() as patched:
        for name in ("write_text", "replace", "unlink"):
            patched.setattr(Path, name, ends(getattr(Path, name)))
        with contextlib.suppress(Killed):
            shared.fold()
            assert step == 5  # There are no more.
    for _ in range(2):
        assert read(tmp_path) == {COUNTER: 1111}
        worker(tmp_path, 0).die()
        SharedMetrics(tmp_path).fold()
    assert len(list(tmp_path.glob("*.values"))) == 0


def test_readers_see_each_count_once_while_others_fold(tmp_path: Path) -> None:
    """Two fold at once; a count that was seen once is never missed."""
    over, faults = threading.Event(), []

    def look() -> None:
        last = 0.0
        while not over.is_set():
            now = read(tmp_path).get(COUNTER, 0)
            if not last <= now <= 150:
                faults.append((last, now))
            last = now

    def fold() -> None:
        shared = SharedMetrics(tmp_path)
        while not over.is_set():
            shared.fold()

    threads = [threading.Thread(target=target) for target in (look, fold, fold)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            worker(tmp_path).die()
    finally:
        over.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)
    SharedMetrics(tmp_path).fold()
    assert faults == []
    assert read(tmp_path) == {COUNTER: 150}


def test_one_that_folds_at_the_same_time_does_nothing(tmp_path: Path) -> None:
    worker(tmp_path).die()
    with (tmp_path / "fold.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        SharedMetrics(tmp_path).fold()
        assert files(tmp_path) == {".values", ".lock"}
    SharedMetrics(tmp_path).fold()
    assert files(tmp_path) == {".json", ".lock"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    begin=strategies.integers(0, 400),
    torn=strategies.binary(max_size=100),
    end=strategies.none() | strategies.integers(0, 600),
)
def test_a_torn_file_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, begin: int, torn: bytes, end: int | None
) -> None:
    """Whatever stands in one file, the others count, and the entries before the fault do."""
    folder = tmp_path_factory.mktemp("shared")
    other, whole = worker(folder), Worker(folder)
    keys = [Key("x", f"x{number}", (("route", "search"),), "") for number in range(9)]
    for key in keys:
        whole.set(key, 7)
    content = whole.file.path.read_bytes()
    whole.die()
    whole.file.path.write_bytes((content[:begin] + torn + content[begin + len(torn) :])[:end])
    for _ in range(2):
        values = read(folder)
        assert values[COUNTER] == values[GAUGE] == 1
        SharedMetrics(folder).fold()
    other.die()


def test_an_entry_is_there_with_its_length(tmp_path: Path) -> None:
    """A process that is killed before that has left a key and a value that nobody reads."""
    made = worker(tmp_path)
    content = bytearray(made.file.path.read_bytes())
    entries = list(shared_values.read_values(bytes(content)))
    assert entries == [(COUNTER.encode(), 1), (GAUGE.encode(), 1)]
    content[:8] = bytes(8)
    assert list(shared_values.read_values(bytes(content))) == []


def test_many_values_take_several_segments(tmp_path: Path) -> None:
    made = Worker(tmp_path)
    keys = [Key("x", "x_total", (("route", f"{number:0>500}"),), "") for number in range(300)]
    for number, key in enumerate(keys):
        made.set(key, number)
    assert made.file.path.stat().st_size > 2 * shared_values.SEGMENT_BYTES
    expected = {key: float(number) for number, key in enumerate(keys)}
    assert read(tmp_path) == expected
    made.die()
    SharedMetrics(tmp_path).fold()
    assert read(tmp_path) == expected


def test_a_file_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_values, "MAX_FILE_BYTES", shared_values.SEGMENT_BYTES)
    made = Worker(tmp_path)
    keys = [Key("x", "x_total", (("route", f"{number:0>500}"),), "") for number in range(300)]
    for key in keys:
        made.set(key, 1)
    assert made.file.path.stat().st_size == shared_values.SEGMENT_BYTES
    assert 100 < len(read(tmp_path)) < 150
    assert "a metric is not shared by the workers" in caplog.messages


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_no_running_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = worker(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    key = Key("x", "x_total", (("route", "x" * shared_values.SEGMENT_BYTES),), "")
    made.set(key, 5)
    view, index = made.file.place(key)
    assert view[index] == 5
    assert read(tmp_path) == {COUNTER: 1, GAUGE: 1}
    assert [record.__dict__["metric"] for record in caplog.records] == ["x"]


def test_a_full_disk_ends_a_start_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        WorkerFile(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_without_room_keeps_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(tmp_path).die()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", no_room)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            SharedMetrics(tmp_path).fold()
    assert read(tmp_path) == {COUNTER: 1}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_total_that_cannot_be_read_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tmp_path / "total.json").write_text(content)
    worker(tmp_path)
    assert read(tmp_path)[COUNTER] == 1
    assert "what workers that ended have counted cannot be read" in caplog.messages


def test_a_file_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    """Between its making and its lock it is empty."""
    (tmp_path / "0123456789abcdef.values").touch()
    SharedMetrics(tmp_path).fold()
    assert read(tmp_path) == {}
    assert files(tmp_path) == {".values", ".lock"}


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

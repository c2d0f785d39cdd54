"""The files of all workers as one: sums that no death loses, gauges of the living, few files."""

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from sidecar.telemetry import shared_values
from sidecar.telemetry.shared_metrics import SharedMetrics
from sidecar.telemetry.shared_values import SampleKey, SharedValue, WorkerFile
from tests.waiting import WAIT_SECONDS

COUNTER = SampleKey("requests", "requests_total", (("route", "search"),), "")
GAUGE = SampleKey("streams_active", "streams_active", (), "livesum")


class Worker:
    """A worker's file, and its death."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = WorkerFile(folder)

    def set(self, key: SampleKey, value: float) -> None:
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


def read(folder: Path) -> dict[SampleKey, float]:
    """What all of them have, by decoded keys."""
    return {SampleKey.decode(key): value for key, value in SharedMetrics(folder).read().items()}


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
    key = SampleKey("x", "x", (), mode)
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
    keys = [SampleKey("x", f"x{number}", (("route", "search"),), "") for number in range(9)]
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


@pytest.mark.parametrize("encoded", [b"", b"{}", b'["x","x",[],1]', b'["x","x",["l"],""]', b"\xff"])
def test_what_is_no_key(encoded: bytes) -> None:
    assert SampleKey.decode(GAUGE.encode()) == GAUGE
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        SampleKey.decode(encoded)


def test_many_values_take_several_segments(tmp_path: Path) -> None:
    made = Worker(tmp_path)
    keys = [SampleKey("x", "x_total", (("route", f"{number:0>500}"),), "") for number in range(300)]
    for number, key in enumerate(keys):
        made.set(key, number)
    assert made.file.path.stat().st_size > 2 * shared_values.SEGMENT_BYTES
    expected = {key: float(number) for number, key in enumerate(keys)}
    assert read(tmp_path) == expected
    made.die()
    SharedMetrics(tmp_path).fold()
    assert read(tmp_path) == expected


def test_threads_lose_no_count_of_one_value(tmp_path: Path) -> None:
    value = SharedValue(WorkerFile(tmp_path), COUNTER)

    def count() -> None:
        for _ in range(20_000):
            value.inc(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS)
    finally:
        sys.setswitchinterval(interval)
    assert value.get() == 80_000


def test_a_file_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_values, "MAX_FILE_BYTES", shared_values.SEGMENT_BYTES)
    made = Worker(tmp_path)
    keys = [SampleKey("x", "x_total", (("route", f"{number:0>500}"),), "") for number in range(300)]
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
    key = SampleKey("x", "x_total", (("route", "x" * shared_values.SEGMENT_BYTES),), "")
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


def test_a_supervisor_can_count_without_what_a_worker_imports() -> None:
    """It has no room for that: a file of values needs the standard library alone."""
    code = (
        "import sys, sidecar.telemetry.shared_values, sidecar.common.shared_generation;"
        "print({'prometheus_client', 'aiohttp', 'pydicom', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"

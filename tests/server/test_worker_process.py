"""When a worker that has ended is started again."""

import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.server.worker_process import Generation, Worker, WorkerState

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time."""
    now = [0.0]
    monkeypatch.setattr("sidecar.server.worker_process.time.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def worker(index: int, began: float, state: WorkerState = WorkerState.SERVING) -> Worker:
    return cast("Worker", SimpleNamespace(index=index, began=began, state=state))


def generation(*workers: Worker, count: int = 2) -> Generation:
    configuration: Any = SimpleNamespace(workers=count)
    return Generation(configuration, {one.index: one for one in workers})


def test_a_worker_that_ends_again_and_again_waits_longer_each_time(clock: Clock) -> None:
    made, now, delays = generation(worker(0, 0)), 0.0, []
    for _ in range(9):
        delays.append(made.schedule(worker(0, now)))
        if delays[-1]:
            assert made.due() == []
        now += delays[-1]
        clock(now)
        assert made.due() == [0]
        assert made.due() == []
        made.workers[0] = worker(0, now)
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_worker_that_lived_long_is_started_at_once(clock: Clock) -> None:
    made = generation(worker(0, 0), worker(1, 0))
    for _ in range(3):
        made.schedule(worker(0, 0))
        made.workers[0] = worker(0, 0)
    assert made.schedule(worker(1, 0)) == 0
    clock(60)
    assert made.schedule(worker(0, 0)) == 4
    made.workers[0] = worker(0, 0)
    clock(61)
    assert made.schedule(worker(0, 0)) == 0


@pytest.mark.parametrize(
    ("states", "serves"),
    [
        ([], False),
        ([WorkerState.SERVING], False),
        ([WorkerState.SERVING, WorkerState.STARTING], False),
        ([WorkerState.SERVING, WorkerState.SERVING], True),
        ([WorkerState.SERVING, WorkerState.ENDING], False),
    ],
)
def test_a_generation_serves_when_all_do(states: list[WorkerState], serves: bool) -> None:
    workers = [worker(index, 0, state) for index, state in enumerate(states)]
    assert generation(*workers).is_serving() is serves


def test_an_end_is_a_signal() -> None:
    sent: list[int] = []
    one = cast("Any", SimpleNamespace(state=WorkerState.SERVING, signal=sent.append))
    Worker.end(one)
    assert (one.state, sent) == (WorkerState.ENDING, [signal.SIGTERM])

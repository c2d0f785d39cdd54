"""What is read of a process: its CPU, its memory, its first answer."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.processes import (
    NO_PROCESS,
    cpu_seconds,
    family,
    machine,
    memory,
    peak_memory,
    wait_for_answer,
)
from tests.sidecar_process import free_port

_WORK = """
import os, sys, time
def work():
    held = bytearray(50_000_000)
    held[::4096] = b"x" * len(held[::4096])
    while time.process_time() < 0.3: pass
    print("done", flush=True)
    sys.stdin.read()
if not os.fork(): work()
os.wait()
"""


@pytest.fixture
def parent() -> Iterator[int]:
    """A process whose one child works for 0.3 s of CPU, and keeps 50 MB."""
    with subprocess.Popen(
        [sys.executable, "-c", _WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        yield process.pid
        process.communicate()


def test_cpu_is_that_of_the_children_too(parent: int) -> None:
    assert len(family(parent)) == 2
    assert 0.3 <= cpu_seconds(parent) < 3


def test_cpu_is_finer_than_the_clock_tick(parent: int) -> None:
    """`psutil` knows hundredths of a second."""
    ticks = sum(sum(each.cpu_times()[:2]) for each in family(parent))
    assert cpu_seconds(parent) == pytest.approx(ticks, abs=0.1)
    assert cpu_seconds(parent) * 100 % 1 != 0


def test_without_a_process_there_is_no_cpu() -> None:
    assert cpu_seconds(NO_PROCESS) == 0


@pytest.mark.parametrize("kind", ["Pss", "Rss"])
def test_memory_is_that_of_the_children_too(parent: int, kind: str) -> None:
    assert 50 <= memory(parent, kind) < 150
    with peak_memory(parent) as peak:
        pass
    assert peak[0] >= 50


def test_an_answer_of_any_kind_ends_the_wait() -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        wait_for_answer(port)
        server.terminate()


def test_the_machine_is_described() -> None:
    assert all(machine().values())

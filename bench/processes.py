"""Processes that are measured: on a core of their own, by their own CPU clock and memory."""

import contextlib
import http.client
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

WAIT_SECONDS = 20
NO_PROCESS = -1
CORES = sorted(os.sched_getaffinity(0))
"""The first is for the process under test, the others are for everything else."""


@contextlib.contextmanager
def on_core_under_test() -> Iterator[None]:
    """Give what this thread starts meanwhile the first core alone, and itself the others later."""
    os.sched_setaffinity(0, CORES[:1])
    try:
        yield
    finally:
        leave_core_under_test()


def leave_core_under_test() -> None:
    """Leave the first core, with all that this thread starts from now on."""
    os.sched_setaffinity(0, CORES[1:] or CORES)


def family(process: int) -> list[psutil.Process]:
    """Return a process and its children."""
    root = psutil.Process(process)
    return [root, *root.children(recursive=True)]


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds, exact to a nanosecond, of a process and its living children."""
    if process == NO_PROCESS:
        return 0.0
    # The clock of another process (Linux: CPUCLOCK_SCHED of its id), with all its threads.
    return sum(time.clock_gettime(~each.pid << 3 | 2) for each in family(process))


def memory(process: int, kind: str = "Pss") -> float:
    """Return the megabytes (``Rss``, or ``Pss``: shared pages divided) of it and its children."""
    total = 0
    for each in family(process):
        lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(kind + ":"))
    return total * 1_024 / 1e6


@contextlib.contextmanager
def cpu_limit(processes: Sequence[int], share: float) -> Iterator[None]:
    """Let each process use this share of a CPU at most, by a control group of its own.

    Raises ``OSError`` where the groups are not ours to make.
    """
    root = Path("/sys/fs/cgroup")
    is_first_version = (root / "cpu").is_dir()
    root = root / "cpu" if is_first_version else root
    period = 10_000
    quota = str(int(period * share))
    limits = (
        {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": quota}
        if is_first_version
        else {"cpu.max": f"{quota} {period}"}
    )
    groups = [root / f"bench-{process}" for process in processes]
    try:
        for process, group in zip(processes, groups, strict=True):
            group.mkdir()
            for name, value in limits.items():
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(process))
        yield
    finally:
        for process, group in zip(processes, groups, strict=True):
            if group.is_dir():
                (root / "cgroup.procs").write_text(str(process))
                group.rmdir()


@contextlib.contextmanager
def peak_memory(process: int) -> Iterator[list[float]]:
    """Yield a list with one number: the most megabytes that it has had until now."""
    peak, done = [memory(process)], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], memory(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def wait_for_answer(port: int) -> None:
    """Return as soon as something on this loopback port answers, whatever it answers."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.002)
        else:
            return
        finally:
            connection.close()


def machine() -> dict[str, str]:
    """Return what the figures depend on: processor, cores, kernel, Python, and the load now."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line for line in text.splitlines() if line.startswith("model name")), ":")
    return {
        "processor": model.partition(":")[2].strip(),
        "cores": str(len(CORES)),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }

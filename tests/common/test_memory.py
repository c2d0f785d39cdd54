"""Freed memory serves the next chunk, unless the environment is set; little garbage collection."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sidecar.common import memory
from sidecar.common.memory import HeapTrimmer, keep_freed_memory
from tests.waiting import wait_until_async

FAULTS = """
import resource, sys
from sidecar.common.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    del [bytes(256_000) + b"x" for _ in range(5)][:]
use()
before = pages()
for _ in range(50):
    use()
print(pages() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_the_same_pages_are_used_again() -> None:
    """Else each of them is fetched and cleared by the kernel, for each chunk anew."""
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, how], capture_output=True, check=True
            ).stdout
        )
        for how in ("keep", "leave")
    }
    assert faults["keep"] < 500
    assert faults["leave"] > 5 * faults["keep"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "1000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=9")],
)
def test_the_environment_decides(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert keep_freed_memory() is False


def test_another_c_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False


def test_what_is_imported_is_not_collected_again_and_again() -> None:
    """The command imports everything before it serves, and has the collector pass over it."""
    code = "import asyncio, gc, sidecar.server.worker; from sidecar.common import event_loop;"
    code += " event_loop.serve(lambda stop: asyncio.sleep(0));"
    shown = subprocess.run(
        [sys.executable, "-c", code + "print(gc.get_freeze_count(), len(gc.get_objects()))"],
        capture_output=True,
        check=True,
    )
    frozen, left = map(int, shown.stdout.split())
    assert frozen > 20 * left


@pytest.mark.parametrize(
    ("users", "comes_back", "trims"),
    [
        (HeapTrimmer.MANY, False, 1),
        (HeapTrimmer.MANY - 1, False, 0),
        (HeapTrimmer.MANY, True, 0),
    ],
)
async def test_what_many_have_left_is_given_back_when_it_is_quiet(
    users: int, comes_back: bool, trims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[None] = []
    monkeypatch.setattr(memory, "trim", lambda: done.append(None))
    monkeypatch.setattr(HeapTrimmer, "QUIET_SECONDS", 0.01)
    trimmer = HeapTrimmer()
    for _ in range(2):  # Again when many have come again.
        done.clear()
        with contextlib.ExitStack() as stack:
            for _ in range(users):
                stack.enter_context(used(trimmer))
        with used(trimmer) if comes_back else contextlib.nullcontext():
            timer = trimmer._timer
            await wait_until_async("the quiet", lambda: trimmer._timer is None)
            assert (timer is not None) == (users >= HeapTrimmer.MANY)
            await asyncio.get_running_loop().run_in_executor(None, bool)
            await wait_until_async("the memory", lambda: len(done), trims.__eq__)
    with used(trimmer):
        pass


@contextlib.contextmanager
def used(trimmer: HeapTrimmer) -> Iterator[None]:
    """Be one of its users while the block runs."""
    trimmer.enter()
    try:
        yield
    finally:
        trimmer.leave()


GIVEN_BACK = """
from sidecar.common.memory import keep_freed_memory, trim
keep_freed_memory()
def pages():
    return int(open("/proc/self/statm").read().split()[1])
long, short = [], []
for _ in range(400):
    long.append(bytearray(2**17))
    short.append(bytes(3_000))
del long[:]
before = pages()
trim()
print((before - pages()) * 4096 // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_memory_between_what_is_in_use_is_given_back() -> None:
    shown = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, check=True)
    assert int(shown.stdout) > 40

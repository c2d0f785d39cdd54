"""Freed memory serves the next chunk, unless the environment is set; little garbage collection."""

import subprocess
import sys

import pytest

from sidecar.common.memory import keep_freed_memory

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

"""Settings of the C library's allocator and of the garbage collector, for less CPU time.

A stream frees and takes the same megabyte again and again. If it is returned to the kernel each
time, clearing its pages takes a third of a stream's CPU time.
"""

import asyncio
import contextlib
import ctypes
import gc
import os

# malloc.h of glibc; mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
MMAP_BYTES = 4 * 2**20
"""Size in bytes from which freed blocks are returned to the kernel at once."""
TRIM_BYTES = 32 * 2**20
"""Limit in bytes of free memory at the heap's end that is not returned."""


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory. Return whether it does (glibc only).

    ``MALLOC_…`` in the environment takes precedence.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):  # Another C library.
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES))


class HeapTrimmer:
    """Return freed memory to the kernel some seconds after the last of ``MANY`` users has left.

    Slow clients leave it in pieces all over the heap, where the C library keeps it.
    """

    MANY = 32
    QUIET_SECONDS = 2.0

    def __init__(self) -> None:
        self._users = self._most = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> None:
        """Count a user."""
        self._users += 1
        self._most = max(self._most, self._users)

    def leave(self) -> None:
        """Count a user less."""
        self._users -= 1
        if not self._users and self._most >= self.MANY and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.QUIET_SECONDS, self._trim_if_idle, loop)

    def _trim_if_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._users:
            self._most = 0
            loop.run_in_executor(None, trim)  # 0.1 s for each gigabyte.


def trim() -> None:
    """Return freed memory to the kernel (glibc only)."""
    with contextlib.suppress(AttributeError, TypeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_imported() -> None:
    """Exclude the objects that exist now from garbage collection. Call it after all imports.

    Otherwise each full collection goes through them (100,000), while all requests wait.
    """
    gc.freeze()
    gc.enable()

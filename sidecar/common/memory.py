"""How the process keeps its memory: what is freed for a while, what was imported for good.

A stream frees and takes the same megabyte again and again. Given back each time, every page of it
is fetched and cleared anew by the kernel, a third of a stream's CPU time.
"""

import ctypes
import gc
import os

# malloc.h of glibc; mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
MMAP_BYTES = 4 * 2**20
"""Blocks from here on are given back at once."""
TRIM_BYTES = 32 * 2**20
"""So much free memory at the heap's end is kept."""


def keep_freed_memory() -> bool:
    """Ask the C library for it; return whether it does (glibc).

    Who sets ``MALLOC_…`` in the environment, decides.
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


def keep_imported() -> None:
    """Let the garbage collector pass over all that there is now.

    To be called when everything is imported.

    It would go through the same hundred thousand objects with each full collection, while all
    requests wait.
    """
    gc.collect()
    gc.freeze()

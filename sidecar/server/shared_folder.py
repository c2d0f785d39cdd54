"""The folder that the workers of one host share while they run: it is in memory where it can be."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "smart-imaging-sidecar-"
LEAST_BYTES = 2**20
"""Least free space in bytes for the folder to be in memory: room for the files of five workers."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a name of its own there


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """Make the folder, and remove it on leaving. Raises ``OSError`` where none can be made.

    Folders of processes that were killed are removed first.
    """
    parent = _MEMORY if _has_room(_MEMORY) else Path(tempfile.gettempdir())
    for left in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix="." + _PREFIX, dir=parent))
    try:
        with _locked(folder):  # The children inherit the lock: it ends with the last of them.
            # Another process that starts now removes it only where it has its name without a lock.
            folder = folder.rename(folder.with_name(folder.name[1:]))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_room(folder: Path) -> bool:
    """Return whether files can be made in it."""
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= LEAST_BYTES


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)

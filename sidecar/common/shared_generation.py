"""Share between the worker processes of a host when cached answers were forgotten."""

import mmap
import os
import secrets
from pathlib import Path

_BYTES = 8


class SharedGeneration:
    """Generation of what all workers cache: some random bytes in a file in ``folder``.

    Each worker maps the file into its memory. A new generation is there for all of them once
    ``begin`` returns. Nothing waits, and no lock is needed: another value is another generation,
    whoever wrote it, and a value that is read while it is written is not the earlier one. Raises
    ``OSError`` when the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        file = os.open(folder / "generation", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, _BYTES)  # On a full disk a write to memory is a SIGBUS.
            self._memory = mmap.mmap(file, _BYTES)
        finally:
            os.close(file)
        self._seen = self._memory[:]

    def has_changed(self) -> bool:
        """Return whether any worker, this one too, has begun a generation since the last call."""
        before, self._seen = self._seen, self._memory[:]
        return self._seen != before

    def begin(self) -> None:
        """Begin a generation in all workers."""
        self._memory[:] = secrets.token_bytes(_BYTES)

"""Share between the worker processes of a host what they have forgotten of cached answers."""

import mmap
import os
import secrets
from pathlib import Path

_BYTES = 8
MAX_STUDIES_BYTES = 2**18
"""Limit of the file of studies that were forgotten alone. Beyond, everything is forgotten."""


class SharedGeneration:
    """Generation of what all workers cache, in files in ``folder``.

    A file that each worker maps into its memory has random bytes twice: the first change when
    everything is forgotten, the others when studies are, whose UIDs another file has, a line each.
    Both are there for all workers once ``begin`` or ``begin_study`` returns. Nothing waits, and no
    lock is needed: another value is another generation, whoever wrote it, and a value that is read
    while it is written is not the earlier one. Raises ``OSError`` when a file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        file = os.open(folder / "generation", flags, 0o600)
        try:
            os.posix_fallocate(file, 0, 2 * _BYTES)  # On a full disk a write to memory is a SIGBUS.
            self._memory = mmap.mmap(file, 2 * _BYTES)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        finally:
            os.close(file)
        # Not closed: it is for the life of the process.
        self._studies = os.open(folder / "studies", flags | os.O_APPEND, 0o600)
        self._seen = self._taken = self._memory[:]
        self._read = os.fstat(self._studies).st_size

    def has_changed(self) -> bool:
        """Return whether any worker, this one too, has begun a generation since the last call."""
        before, self._seen = self._seen, self._memory[:]
        return self._seen != before

    def take(self) -> tuple[bool, list[str]]:
        """Return what the last change was about: everything, and the UIDs of studies.

        Each is returned once.
        """
        everything = self._taken[:_BYTES] != self._seen[:_BYTES]
        self._taken = self._seen
        if everything or os.fstat(self._studies).st_size < self._read:
            self._read = 0  # The file may have been emptied.
        lines = os.pread(self._studies, 2 * MAX_STUDIES_BYTES, self._read)
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        return everything, whole.decode(errors="replace").splitlines()

    def begin(self) -> None:
        """Begin a generation of everything in all workers."""
        self._memory[:_BYTES] = secrets.token_bytes(_BYTES)

    def begin_study(self, study: str) -> None:
        """Begin a generation of a study in all workers; of everything where it has no room."""
        line = study.encode(errors="replace") + b"\n"
        try:
            if os.fstat(self._studies).st_size + len(line) > MAX_STUDIES_BYTES:
                os.ftruncate(self._studies, 0)
                self.begin()
            if os.write(self._studies, line) < len(line):
                self.begin()
        except OSError:  # The disk is full.
            self.begin()
        self._memory[_BYTES:] = secrets.token_bytes(_BYTES)

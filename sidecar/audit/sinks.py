"""Where the lines of the audit trail go: nowhere, to standard output, to a file."""

import errno
import os
import select
import stat
from pathlib import Path
from typing import Protocol


class Sink(Protocol):
    """Where the lines go."""

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Write a whole line. Raises ``OSError``.

        ``late``: it tells of what cannot be refused any more.
        """


class NoSink:
    """``none``."""

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Drop it."""


class StdoutSink:
    """``stdout``: for the platform's log collector; the JSON log is on standard error."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Write it at once. A collector that does not read must not stop everything: then it is an error."""
        _, writable, _ = select.select([], [self._descriptor], [], 0)
        if not writable:
            raise OSError(errno.EAGAIN, "nobody reads standard output")
        write_whole(self._descriptor, line)


class FileSink:
    """``file``: appended to; opened anew when it was moved away (logrotate)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._is_torn = False
        self._open()

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Append it with one system call: it is the kernel's before the answer leaves.

        A disk that is full may take half a line; the next one begins behind a line end.
        """
        if self._descriptor < 0 or self._named() != self._identity:
            self._open()
        try:
            write_whole(self._descriptor, b"\n" + line if self._is_torn else line)
        except OSError:
            self._is_torn = True
            raise
        self._is_torn = False

    def _named(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> None:
        self.close()
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        found = os.fstat(self._descriptor)
        self._identity, self._is_torn = (found.st_dev, found.st_ino), _ends_torn(self._path, found)

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._identity = -1, None


def _ends_torn(path: Path, found: os.stat_result) -> bool:
    """Whether a process that was ended there left half a line."""
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def write_whole(descriptor: int, line: bytes) -> None:
    """Write it with one system call. Raises ``OSError`` also when the disk took a part only."""
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, "a line was not written whole")

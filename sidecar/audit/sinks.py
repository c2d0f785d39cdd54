"""Sinks of the audit trail: nowhere, standard output, a file."""

import errno
import os
import select
import stat
from pathlib import Path
from typing import Protocol


class Sink(Protocol):
    """A sink takes the lines of the audit trail."""

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Write a whole line. Raises ``OSError``.

        ``late`` means that the response has left, so that a refusal is too late.
        """


class NoSink:
    """The sink ``none``."""

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Drop the line."""


class StdoutSink:
    """The sink ``stdout``, for a log collector. The JSON log is on standard error."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Write the line. A collector that does not read is an error, so that it stops nothing."""
        _, writable, _ = select.select([], [self._descriptor], [], 0)
        if not writable:
            raise OSError(errno.EAGAIN, "nobody reads standard output")
        write_whole(self._descriptor, line)


class FileSink:
    """The sink ``file``, which is opened again after logrotate moved it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_torn = False  # Whether the file ends within a line.
        self._open()

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Append the line with one system call, so that the kernel has it before this returns.

        A full disk may take a part of a line. The next line then begins after a line end.
        """
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            named = None
        if self._descriptor < 0 or named is None or not os.path.samestat(named, self._status):
            self.close()
            self._open()
        line = b"\n" + line if self._is_torn else line
        self._is_torn = True
        write_whole(self._descriptor, line)
        self._is_torn = False

    def _open(self) -> None:
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._status = os.fstat(self._descriptor)
        self._is_torn = False
        if stat.S_ISREG(self._status.st_mode) and self._status.st_size:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                self._is_torn = file.read() != b"\n"  # A process ended within a line.

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def write_whole(descriptor: int, line: bytes) -> None:
    """Write a line with one system call. Raises ``OSError``, also for a partial write."""
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, "a line was not written whole")

"""The spool: audit events wait on disk for the repository, and outlive the process.

It is a folder of segments, files with an event a line, named by the time of their beginning. Each
writer appends to a segment of its own and holds a lock on it (``flock``, which ends with the
process), so that several processes may share a folder. The kernel has a line before ``write``
returns; with ``sync`` the disk has it.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from sidecar.audit.sinks import write_whole

log = logging.getLogger(__name__)

LOCK = "delivery.lock"
PROGRESS = "progress.json"
REJECTED = "rejected.jsonl"
LATE_BYTES = 16 * 2**20
"""Bytes beyond ``max_bytes`` for late events."""
MOST_SEGMENTS = 2_048
_SUFFIX = ".jsonl"
_LOOK_SECONDS = 1.0
_FULL_SECONDS = 0.1
_DROP_SECONDS = 0.25  # Between two dropped files, for a disk that stays full.
_MALFORMED = (LookupError, ValueError, AttributeError, TypeError, ArithmeticError, RecursionError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

Progress = tuple[dict[str, int], list[tuple[str, int, int]]]
"""How many bytes of each segment are done, and which events in them are tried again alone: their
segment, first byte and tries.
"""
WhenFull = Literal["refuse", "drop_oldest"]


def segments(folder: Path) -> dict[str, int]:
    """Return the bytes of each segment by its name, oldest first. Symbolic links are none."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX) and entry.name.partition("-")[0].isdecimal():
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(sizes.items()))


def used_bytes(folder: Path) -> int:
    """Return the bytes of the segments and of ``rejected.jsonl``."""
    used = sum(segments(folder).values())
    with contextlib.suppress(FileNotFoundError):
        used += (folder / REJECTED).lstat().st_size
    return used


def begun_ns(name: str) -> int:
    """Return when a segment was begun, in nanoseconds since 1970."""
    return int(name.partition("-")[0])


def progress(folder: Path) -> Progress:
    """Return what the deliverer has saved. Raises ``OSError``.

    Nothing is done if the file is malformed: events are delivered twice rather than not at all.
    """
    try:
        saved = json.loads((folder / PROGRESS).read_bytes())
        positions = {str(name): int(end) for name, end in saved["positions"].items()}
        return positions, [(str(name), int(at), int(tries)) for name, at, tries in saved["retries"]]
    except (FileNotFoundError, *_MALFORMED):
        return {}, []


def remove_unused(path: Path, done: int, *, even_waiting: bool) -> int | None:
    """Remove a file that no writer has. Return how many lines it had after ``done`` bytes.

    Return ``None`` if it stays: in use, gone, or (unless ``even_waiting``) with such lines.
    """
    # NFS has no exclusive lock on a file that is open for reading only.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        contextlib.suppress(FileNotFoundError, BlockingIOError),
        os.fdopen(os.open(path, flags), "rb") as file,
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(done)
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
        if even_waiting or not lines:
            path.unlink()
            return lines
    return None


class Spool:
    """Write events to the spool, which has at most ``max_bytes``.

    What other processes write there is seen within a second. ``observe`` gets ``dropped`` for each
    event that is dropped for room.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        when_full: WhenFull = "refuse",
        sync: bool = False,
        observe: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = max_bytes // MOST_SEGMENTS
        self._when_full = when_full
        self._sync = sync
        self._observe = observe
        self._descriptor = -1
        self._path = folder
        self._size = self._used = 0
        self._looked = self._dropped = -_LOOK_SECONDS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # After all segments that exist: the clock may have been set back.
        self._begun = max(map(begun_ns, segments(folder)), default=0)

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Append a line. Raises ``OSError``, also when the spool is full and ``refuse`` is set.

        ``late`` lines have some room beyond ``max_bytes``: their response has left.
        """
        self._make_room(len(line), self._max_bytes + (LATE_BYTES if late else 0))
        try:
            self._append(line)
        except OSError as error:
            # The disk may be full of other files. Dropping may not help, as with a quota.
            now = time.monotonic()
            if error.errno not in _NO_ROOM or now - self._dropped < _DROP_SECONDS:
                raise
            self._dropped = now
            if not self._drop_oldest():
                raise
            self._append(line)
        self._size += len(line)
        self._used += len(line)

    def close(self) -> None:
        """Close the current segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, line: bytes) -> None:
        try:
            while (
                self._descriptor < 0
                or (self._size and self._size + len(line) > self._segment_bytes)
                or not self._path.exists()
            ):
                self._begin()
            write_whole(self._descriptor, line)
            if self._sync:
                os.fdatasync(self._descriptor)
        except OSError:
            # Nothing goes behind half a line, or behind one that the deliverer may have read.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self.close()
            if not self._size:
                self._path.unlink(missing_ok=True)
            raise

    def _begin(self) -> None:
        self.close()
        self._size, self._begun = 0, max(time.time_ns(), self._begun + 1)
        self._path = self._folder / f"{self._begun:020d}-{secrets.token_hex(4)}{_SUFFIX}"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if self._sync:
                _sync_folder(self._folder)
        except BlockingIOError:
            self.close()  # Another process takes it for a finished one: it was empty, and unlocked.

    def _make_room(self, size: int, most: int) -> None:
        # Listing a thousand files takes milliseconds: not each of many refusals a second does it.
        seconds = _FULL_SECONDS if self._when_full == "refuse" else 0
        fits = self._used + size <= most
        if time.monotonic() - self._looked > (_LOOK_SECONDS if fits else seconds):
            self._look()
        while self._used + size > most:
            if not self._drop_oldest():
                raise OSError(errno.ENOSPC, "the spool is full")
            self._look()

    def _look(self) -> None:
        """Measure the folder, which the delivery and other processes change."""
        self._looked, self._used = time.monotonic(), used_bytes(self._folder)

    def _drop_oldest(self) -> bool:
        """Drop the oldest file that no writer has. Return whether one was dropped."""
        if self._when_full == "refuse":
            return False
        positions, retries = progress(self._folder)
        # rejected.jsonl takes room, too, and is older.
        for name in (REJECTED, *segments(self._folder)):
            done = positions.get(name, 0)
            lines = remove_unused(self._folder / name, done, even_waiting=True)
            if lines is None:
                continue
            if name == REJECTED:  # Its events were counted when they were rejected.
                log.error("rejected.jsonl was given up: the audit spool is full")
                return True
            for _ in range(lines + sum(segment == name for segment, *_ in retries)):
                self._observe("dropped")
            return True
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

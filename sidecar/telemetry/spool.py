"""Audit events on their way to a repository wait on disk: whatever ends this process, what was answered is told.

A folder of files (segments), a line an event, named by the time at which they were begun. A writer appends to a segment
of its own and holds a lock on it (``flock``, which ends with the process): several processes, and an old and a new
generation of one, may share a folder. A line is the kernel's before ``write`` returns; with ``sync`` it is on the disk.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sidecar.telemetry.sinks import write_whole

SUFFIX = ".jsonl"
LOCK = "lock"
POSITIONS = "positions.json"
REJECTED = "rejected.jsonl"
MOST_SEGMENT_BYTES = 2**20
_LOOK_SECONDS = 1.0
_FULL_SECONDS = 0.1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MOST_DROPS = 4

WhenFull = Literal["refuse", "drop_oldest"]


def segments(folder: Path) -> list[Path]:
    """Return the segments, oldest first."""
    return [folder / name for name in segment_names(folder)]


def segment_names(folder: Path) -> list[str]:
    """Return their names alone, which costs half as much: files of ours, never what a link leads to."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.endswith(SUFFIX) and entry.name[0].isdigit() and entry.is_file(follow_symlinks=False)
        ]
    return sorted(names)


def positions(folder: Path) -> dict[str, int]:
    """Return up to where, in bytes, the segments have been delivered."""
    try:
        found = json.loads((folder / POSITIONS).read_bytes())
        return {str(name): int(end) for name, end in found.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError, OverflowError):
        return {}  # What was delivered is told twice rather than not at all.


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether no writer has this segment under way; as long as the block lasts none is deleted by anybody else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class Spool:
    """The writer. ``max_bytes`` of all that waits; ``observe`` takes ``dropped`` for each event given up for room.

    ``wake`` is called after each line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        when_full: WhenFull = "refuse",
        sync: bool = False,
        observe: Callable[[str], None] = lambda outcome: None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = min(MOST_SEGMENT_BYTES, max(max_bytes // 8, 1))
        self._when_full = when_full
        self._sync = sync
        self._observe = observe
        self._wake = wake
        self._descriptor = -1
        self._path = folder
        self._size = 0
        self._begun = 0
        self._used = 0
        self._looked = self._refused = -_LOOK_SECONDS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, line: bytes) -> None:
        """Append it. Raises ``OSError`` when it cannot be kept, also when the spool is full and that is to be said."""
        self._make_room(len(line))
        drops = _MOST_DROPS if self._when_full == "drop_oldest" else 0
        while True:
            try:
                self._append(line)
                break
            except OSError as error:
                # The disk may be full of other things, or smaller than max_bytes. Where room does not help, as with a
                # quota on the number of files, what waits is not given up for nothing.
                if error.errno not in _NO_ROOM or not drops or not self._drop_oldest(others=True):
                    raise
                drops -= 1
        self._size += len(line)
        self._used += len(line)
        self._wake()

    def _append(self, line: bytes) -> None:
        if self._descriptor < 0 or self._size + len(line) > self._segment_bytes or not self._path.exists():
            self._begin()
        try:
            write_whole(self._descriptor, line)
            if self._sync:
                os.fdatasync(self._descriptor)
        except OSError:
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                self.close()  # What follows half a line would be lost with it.
            raise

    def close(self) -> None:
        """Write no more to the segment that was begun."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _begin(self) -> None:
        self.close()
        self._begun = max(time.time_ns(), self._begun + 1)
        self._path = self._folder / f"{self._begun:020d}-{secrets.token_hex(4)}{SUFFIX}"
        hidden = self._path.with_suffix(".new")  # Unlocked and empty it would look like one that is over.
        self._descriptor = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        hidden.rename(self._path)
        self._size = 0
        if self._sync:
            _sync_folder(self._folder)

    def _make_room(self, size: int) -> None:
        now = time.monotonic()
        # A look at a folder of a thousand files takes milliseconds: of many refusals a second only some take one.
        if now - self._looked > _LOOK_SECONDS or (
            self._used + size > self._max_bytes and now - self._refused > _FULL_SECONDS
        ):
            self._look()
        while self._used + size > self._max_bytes:
            if self._when_full == "refuse" or not self._drop_oldest():
                if self._looked >= now:
                    self._refused = now
                raise OSError(errno.ENOSPC, "the spool is full")
            self._look()

    def _look(self) -> None:
        """Count anew: the sender, and other writers, change it."""
        self._looked = time.monotonic()
        self._used = 0
        folder = os.fspath(self._folder)
        for name in (REJECTED, *segment_names(self._folder)):
            with contextlib.suppress(FileNotFoundError):
                self._used += os.lstat(os.path.join(folder, name)).st_size

    def _drop_oldest(self, *, others: bool = False) -> bool:
        """Return whether a file was given up; ``others``: not the one that is written to."""
        # What was rejected takes room, too, and is older than what waits.
        for path in (self._folder / REJECTED, *segments(self._folder)):
            if path == self._path:
                if others:
                    continue
                self.close()
            with contextlib.suppress(FileNotFoundError), unused(path) as is_unused:
                if not is_unused:
                    continue
                lines = path.read_bytes()[positions(self._folder).get(path.name, 0) :].count(b"\n")
                path.unlink()
                for _ in range(lines):
                    self._observe("dropped")
                return True
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

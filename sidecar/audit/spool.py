"""The spool: audit events wait on disk for the repository, and outlive the process.

It is a folder of segments, files with an event a line, named by the time of their beginning. A
writer appends to a segment of its own and holds a lock on it (``flock``, which ends with the
process). So several processes, and an old and a new generation of one, may share a folder. The
kernel has a line before ``write`` returns; with ``sync`` the disk has it.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sidecar.audit.sinks import write_whole

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
LOCK = "lock"
POSITIONS = "positions.json"
REJECTED = "rejected.jsonl"
ASIDE = "aside.jsonl"
MOST_SEGMENT_BYTES = 2**20
LATE_BYTES = 16 * 2**20
"""Bytes beyond ``max_bytes`` for late events."""
_MOST_SEGMENTS = 2_048
_LOOK_SECONDS = 1.0
_FULL_SECONDS = 0.1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MOST_DROPS = 4  # Limit of dropped files in a second, for a disk that stays full.

WhenFull = Literal["refuse", "drop_oldest"]


def segments(folder: Path) -> list[Path]:
    """Return the segments, oldest first."""
    return [folder / name for name in segment_names(folder)]


def segment_names(folder: Path) -> list[str]:
    """Return the names of the segments, oldest first. Symbolic links are none."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.endswith(SUFFIX)
            and entry.name[0].isdigit()
            and entry.is_file(follow_symlinks=False)
        ]
    return sorted(names)


def positions(folder: Path) -> dict[str, int]:
    """Return how many bytes of each segment have been delivered."""
    try:
        ends = json.loads((folder / POSITIONS).read_bytes())
        return {str(name): int(end) for name, end in ends.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError, OverflowError):
        return {}  # Events are delivered twice rather than not at all.


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Yield whether no writer has this segment. Nobody else deletes it while the block runs."""
    # NFS has no exclusive lock on a file that is open for reading only.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    """Write events to the spool, which has at most ``max_bytes``.

    ``observe`` gets ``dropped`` for each event that is dropped for room. ``wake`` is called after
    each line.
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
        # The folder is listed each second: it must not have too many segments.
        self._segment_bytes = min(
            max(MOST_SEGMENT_BYTES, max_bytes // _MOST_SEGMENTS), max(max_bytes // 8, 1)
        )
        self._when_full = when_full
        self._sync = sync
        self._observe = observe
        self._wake = wake
        self._descriptor = -1
        self._path = folder
        self._size = 0
        self._used = 0
        self._looked = self._refused = self._second = -_LOOK_SECONDS
        self._drops = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # After all segments that exist: the clock may have been set back.
        self._begun = max(
            (int(name.partition("-")[0]) for name in segment_names(folder) if _is_ours(name)),
            default=0,
        )

    def write(self, line: bytes, *, late: bool = False) -> None:
        """Append a line. Raises ``OSError``, also when the spool is full and ``refuse`` is set.

        ``late`` lines have some room beyond ``max_bytes``: their response has left.
        """
        self._make_room(len(line), LATE_BYTES if late else 0)
        drops = self._drops_now() if self._when_full == "drop_oldest" else 0
        while True:
            try:
                self._append(line)
                break
            except OSError as error:
                # The disk may be full of other files. Where room does not help, as with a quota on
                # the number of files, few files are dropped.
                if error.errno not in _NO_ROOM or not drops or not self._drop_oldest(others=True):
                    raise
                drops -= 1
                self._drops += 1
        self._size += len(line)
        self._used += len(line)
        self._wake()

    def _drops_now(self) -> int:
        """Return how many files may be dropped now. Others may take the room that this makes."""
        now = time.monotonic()
        if now - self._second > 1:
            self._second, self._drops = now, 0
        return _MOST_DROPS - self._drops

    def _append(self, line: bytes) -> None:
        if (
            self._descriptor < 0
            or self._size + len(line) > self._segment_bytes
            or not self._path.exists()
        ):
            self._begin()
        is_whole = False
        try:
            write_whole(self._descriptor, line)
            is_whole = True
            if self._sync:
                os.fdatasync(self._descriptor)
        except OSError:
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                self.close()  # A line after a partial one would be lost.
            if is_whole:
                self.close()  # A reader that has read it goes on after it.
            raise

    def close(self) -> None:
        """Close the current segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _begin(self) -> None:
        self.close()
        self._begun = max(time.time_ns(), self._begun + 1)
        self._path = self._folder / f"{self._begun:020d}-{secrets.token_hex(4)}{SUFFIX}"
        # An unlocked, empty segment would look like a finished one.
        hidden = self._path.with_suffix(".new")
        self._descriptor = os.open(
            hidden, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            hidden.rename(self._path)
        except OSError:
            self.close()
            hidden.unlink(missing_ok=True)
            raise
        self._size = 0
        if self._sync:
            _sync_folder(self._folder)

    def _make_room(self, size: int, beyond: int) -> None:
        now, most = time.monotonic(), self._max_bytes + beyond
        # Listing a thousand files takes milliseconds: not each of many refusals a second does it.
        if now - self._looked > _LOOK_SECONDS or (
            self._used + size > most and now - self._refused > _FULL_SECONDS
        ):
            self._look()
        while self._used + size > most:
            if self._when_full == "refuse" or not self._drop_oldest():
                if self._looked >= now:
                    self._refused = now
                raise OSError(errno.ENOSPC, "the spool is full")
            self._look()

    def _look(self) -> None:
        """Measure the folder, which the delivery and other writers change."""
        self._looked = time.monotonic()
        self._used = 0
        folder = os.fspath(self._folder)
        for name in (REJECTED, ASIDE, *segment_names(self._folder)):
            with contextlib.suppress(FileNotFoundError):
                self._used += os.lstat(os.path.join(folder, name)).st_size

    def _drop_oldest(self, *, others: bool = False) -> bool:
        """Drop the oldest file. Return whether there was one.

        ``others``: the current segment is not dropped.
        """
        # rejected.jsonl takes room, too, and is older.
        for path in (self._folder / REJECTED, *segments(self._folder)):
            if path == self._path:
                if others:
                    continue
                self.close()
            with contextlib.suppress(FileNotFoundError), unused(path) as is_unused:
                if not is_unused:
                    continue
                # Rejected events are not counted again.
                is_segment = path.name != REJECTED
                lines = is_segment and path.read_bytes()[
                    positions(self._folder).get(path.name, 0) :
                ].count(b"\n")
                path.unlink()
                for _ in range(lines):
                    self._observe("dropped")
                if not is_segment:
                    log.error("rejected.jsonl was given up: the audit spool is full")
                return True
        return False


def _is_ours(name: str) -> bool:
    return name.partition("-")[0].isdecimal()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

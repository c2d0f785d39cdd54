"""Read the spool: the events that wait, oldest first, and how far they are delivered."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import LOCK, POSITIONS, REJECTED, positions, segment_names, unused

_COUNT_BYTES = 16 * 2**20
_BEGUN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event: its ``line`` without the line end, its ``segment``, and its bytes there."""

    segment: str
    begin: int
    end: int
    line: bytes

    @property
    def place(self) -> tuple[str, int]:
        """Segment and first byte, in order of time."""
        return self.segment, self.begin

    @property
    def is_json(self) -> bool:
        """Whether it is a JSON object."""
        try:
            return isinstance(json.loads(self.line), dict)
        except (ValueError, RecursionError):
            return False

    def age_seconds(self) -> float:
        """Return how long it has waited, by ``recorded`` or else by the name of its segment."""
        try:
            recorded = datetime.fromisoformat(json.loads(self.line)["recorded"])
            return max(0.0, (datetime.now(recorded.tzinfo) - recorded).total_seconds())
        except (ValueError, KeyError, TypeError, RecursionError):
            begun = self.segment.partition("-")[0]
            return max(0.0, time.time() - int(begun) / 1e9) if begun.isdecimal() else 0.0


class SpoolReader:
    """Read a spool's ``folder``. One reader at a time has the ``lock``."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        self._positions: dict[str, int] = {}
        # By segment: the bytes counted so far with their lines, and the delivered lines.
        self._counted: dict[str, tuple[int, int]] = {}
        self._delivered: dict[str, int] = {}
        # Segments with deliveries since ``keep``, and whether the saved positions are behind.
        self._touched: set[str] = set()
        self._is_stale = False
        self._descriptor = -1

    def lock(self) -> bool:
        """Take the lock. Return whether no other reader has it, in this process or another."""
        if self._descriptor < 0:
            path = self._folder / LOCK
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._positions = positions(self._folder)
        self._delivered = {
            name: self._lines_before(name, end) for name, end in self._positions.items()
        }
        return True

    def close(self) -> None:
        """Give the lock up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def next(self, most: int, most_bytes: int) -> list[Waiting]:
        """Return up to ``most`` of the oldest events, the first one of any size."""
        events: list[Waiting] = []
        size = 0
        for name in segment_names(self._folder):
            for waiting in self._lines(self._folder / name):
                size += len(waiting.line)
                if events and (len(events) == most or size > most_bytes):
                    return events
                events.append(waiting)
        return events

    def done(self, events: Iterable[Waiting]) -> None:
        """Return the oldest events, which these are, no more. ``keep`` saves that."""
        for event in events:
            self._positions[event.segment] = event.end
            self._delivered[event.segment] = self._delivered.get(event.segment, 0) + 1
            self._touched.add(event.segment)
            self._is_stale = True

    def keep(self, needed: Collection[str] = ()) -> None:
        """Remove finished segments, and save the positions. Raises ``OSError``.

        ``needed`` segments stay. While there are any, the positions are not saved.
        """
        names = self._touched.difference(needed)
        self.tidy(names)  # First: a full disk has room for the positions only then.
        self._touched -= names
        if self._is_stale and not needed:
            self._write_positions()

    def reject(self, waiting: Waiting) -> None:
        """Append an event that the repository rejects to ``rejected.jsonl``, for people."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._folder / REJECTED, flags, 0o600)
        try:
            write_whole(descriptor, waiting.line + b"\n")
            os.fdatasync(descriptor)  # The other copy will be removed.
        finally:
            os.close(descriptor)

    def waiting(self) -> int:
        """Return how many events wait. Each byte is counted once, and at most 16 MiB a call."""
        total, known, left, folder = 0, {}, _COUNT_BYTES, os.fspath(self._folder)
        for name in segment_names(self._folder):
            size, lines = self._counted.get(name, (0, 0))
            with contextlib.suppress(FileNotFoundError):
                if left > 0 and os.stat(os.path.join(folder, name)).st_size > size:
                    with (self._folder / name).open("rb") as file:
                        file.seek(size)
                        data = file.read()
                    size, lines, left = (
                        size + len(data),
                        lines + data.count(b"\n"),
                        left - len(data),
                    )
                known[name] = size, lines
                total += max(0, lines - self._delivered.get(name, 0))
        self._counted = known
        return total

    def _lines_before(self, name: str, end: int) -> int:
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(end).count(b"\n")
        except FileNotFoundError:
            return 0

    def _lines(self, path: Path) -> Iterator[Waiting]:
        begin = self._positions.get(path.name, 0)
        try:
            with path.open("rb") as file:
                file.seek(begin)
                for line in file:
                    if not line.endswith(b"\n"):
                        # It is being written, or its process ended before it was whole.
                        return
                    end = begin + len(line)
                    yield Waiting(path.name, begin, end, line[:-1])
                    begin = end
        except FileNotFoundError:  # Dropped for room.
            return

    def tidy(self, names: Collection[str] | None = None, *, needed: Collection[str] = ()) -> None:
        """Remove segments that are delivered, closed and not ``needed``. ``None``: of all."""
        if names is None:
            self._remove_unnamed()
        left = set(segment_names(self._folder))
        for name in (left if names is None else left.intersection(names)).difference(needed):
            path = self._folder / name
            with contextlib.suppress(FileNotFoundError), unused(path) as is_unused:
                if is_unused and next(self._lines(path), None) is None:
                    path.unlink()
                    left.remove(name)
        if not self._positions.keys() <= left:
            self._positions = {name: end for name, end in self._positions.items() if name in left}
            self._delivered = {
                name: lines for name, lines in self._delivered.items() if name in left
            }
            self._is_stale = True

    def _remove_unnamed(self) -> None:
        """Remove files of processes that ended while they began a segment."""
        for path in self._folder.glob("[0-9]*.new"):
            with contextlib.suppress(FileNotFoundError):
                # By age: a writer may begin one just now.
                if time.time() - path.lstat().st_mtime > _BEGUN_SECONDS:
                    path.unlink()

    def _write_positions(self) -> None:
        new = self._folder / (POSITIONS + ".new")
        new.unlink(missing_ok=True)  # Whatever stands there.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_whole(descriptor, json.dumps(self._positions).encode())
        finally:
            os.close(descriptor)
        new.replace(self._folder / POSITIONS)
        self._is_stale = False

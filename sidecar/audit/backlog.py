"""The backlog: the events of the spool that wait, and how far they are delivered.

Most are taken in order. Some are retries: they failed while others were taken, and each is tried
again alone. All stay in their segments until the repository, or ``rejected.jsonl``, has them.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import (
    LOCK,
    PROGRESS,
    REJECTED,
    Progress,
    progress,
    remove_unused,
    segments,
)

_OPEN = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True, eq=False)
class SpooledEvent:
    """An event: its ``segment``, its first byte there, its ``line`` without the line end.

    Of a retry, ``tries`` counts the failures while others were taken. The last one was when so many
    had been ``taken_before``. ``due`` is when the next try may begin.
    """

    segment: str
    begin: int
    line: bytes
    tries: int = 0
    taken_before: int = -1
    due: float = 0

    def age_seconds(self) -> float:
        """Return how long it has waited; 0 if it does not say since when."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            recorded = datetime.fromisoformat(json.loads(self.line)["recorded"])
            return max(0.0, time.time() - recorded.timestamp())
        return 0.0


class Backlog:
    """The backlog of a spool's ``folder``. One process at a time has its ``lock``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.retries: list[SpooledEvent] = []
        """Oldest first."""
        self._positions: dict[str, int] = {}
        self._saved: Progress = {}, []
        self._descriptor = -1

    @property
    def is_locked(self) -> bool:
        """Whether this has the lock."""
        return self._descriptor >= 0

    def lock(self) -> None:
        """Take the lock. Raises ``OSError``, if another process has it ``BlockingIOError``."""
        self._descriptor = os.open(self.folder / LOCK, os.O_RDWR | _OPEN, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.load()
        except OSError:
            self.close()
            raise

    def load(self) -> None:
        """Read how far the events are delivered, and the retries. Raises ``OSError``."""
        self._saved = positions, retries = progress(self.folder)
        self._positions, self.retries = dict(positions), []
        names = segments(self.folder)
        for name, begin, tries in retries:
            for event in islice(self._lines(name, begin), 1 if name in names else 0):
                event.tries = tries
                self.retries.append(event)

    def close(self) -> None:
        """Give the lock up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def next(self, most: int) -> list[SpooledEvent]:
        """Return up to ``most`` of the oldest events, and at least one."""
        waiting = (
            event
            for name in segments(self.folder)
            for event in self._lines(name, self._positions.get(name, 0))
        )
        return list(islice(waiting, max(most, 1)))

    def done(self, events: Sequence[SpooledEvent], again: Collection[SpooledEvent] = ()) -> None:
        """Go on behind the events: the oldest, or a retry. Those to send ``again`` are retries."""
        for event in events:
            before, end = self._positions.get(event.segment, 0), event.begin + len(event.line) + 1
            self._positions[event.segment] = max(before, end)
        settled = set(events).difference(again)
        all_retries = dict.fromkeys((*self.retries, *again))
        self.retries = [event for event in all_retries if event not in settled]

    def reject(self, event: SpooledEvent) -> None:
        """Append an event to ``rejected.jsonl``, for people. Raises ``OSError``."""
        # It is on the disk before the other copy is removed.
        _write(self.folder / REJECTED, os.O_APPEND | os.O_DSYNC, event.line + b"\n")

    def save(self) -> None:
        """Remove finished segments, and save the progress. Raises ``OSError``.

        A full disk has room for the progress only after the removal.
        """
        left, held = segments(self.folder), {event.segment for event in self.retries}
        for name in list(left):
            done = self._positions.get(name, 0)
            if next(self._lines(name, done), None) is not None:
                break  # There may be a thousand behind it.
            path = self.folder / name
            if name not in held and remove_unused(path, done, even_waiting=False) == 0:
                del left[name]
        # Others may have been dropped for room.
        self._positions = {name: end for name, end in self._positions.items() if name in left}
        self.retries = [event for event in self.retries if event.segment in left]
        retries = [(event.segment, event.begin, event.tries) for event in self.retries]
        if (self._positions, retries) != self._saved:
            saved = json.dumps({"positions": self._positions, "retries": retries})
            self._write_progress(saved.encode())
            self._saved = dict(self._positions), retries

    def measure(self) -> tuple[int, float]:
        """Return how many bytes wait, and how many seconds the oldest event has waited."""
        sizes = segments(self.folder).items()
        waiting = sum(max(0, size - self._positions.get(name, 0)) for name, size in sizes)
        waiting += sum(len(event.line) + 1 for event in self.retries)
        oldest = (*self.retries[:1], *self.next(1))
        return waiting, max((event.age_seconds() for event in oldest), default=0.0)

    def _lines(self, name: str, begin: int) -> Iterator[SpooledEvent]:
        with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
            file.seek(begin)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # It is being written, or its process ended before it was whole.
                yield SpooledEvent(name, begin, line[:-1])
                begin += len(line)

    def _write_progress(self, progress: bytes) -> None:
        new = self.folder / (PROGRESS + ".new")
        new.unlink(missing_ok=True)  # Whatever stands there.
        try:
            _write(new, os.O_EXCL, progress)
            new.replace(self.folder / PROGRESS)
        finally:
            new.unlink(missing_ok=True)


def _write(path: Path, flags: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | _OPEN | flags, 0o600)
    size = os.fstat(descriptor).st_size
    try:
        write_whole(descriptor, data)
    except OSError:
        os.ftruncate(descriptor, size)  # Nothing goes behind half a line.
        raise
    finally:
        os.close(descriptor)

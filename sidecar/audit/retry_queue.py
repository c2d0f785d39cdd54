"""Events that the repository did not take while it took others. Each is tried again alone.

They are in a file of the spool's folder, so that later events count as delivered when the process
ends in any way.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import ASIDE
from sidecar.audit.spool_reader import Waiting

MOST_EVENTS = 1_000
MOST_BYTES = 4 * 2**20
_FILE_BYTES = 2**26
_SLOW = 10
"""After a failed try, wait this many times its duration before the next."""


@dataclass(slots=True, eq=False)
class RetryEntry:
    """An ``event`` to try again.

    ``tries`` counts failures while others were taken. ``due`` is the time of the next try.
    ``requests`` counts the tries of this process. ``taken_before`` is how many others had been
    taken at the last try. ``is_saved`` means that it is in the file.
    """

    event: Waiting
    tries: int = 0
    due: float = 0
    requests: int = 0
    taken_before: int = 0
    is_saved: bool = False


@dataclass(slots=True)
class RetryQueue:
    """The queue of a spool's ``folder``, oldest first. Its user must have the spool's lock.

    ``pause`` returns the seconds until the next try after so many failures. ``most_bytes`` bounds
    the sum of the events.
    """

    folder: Path
    pause: Callable[[int], float]
    clock: Callable[[], float] = time.monotonic
    most_bytes: int = MOST_BYTES
    _entries: list[RetryEntry] = field(default_factory=list)
    _bytes: int = 0
    _is_stale: bool = False  # Whether the file differs.

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def room(self) -> int:
        """How many more events may be added."""
        return 0 if self._bytes >= self.most_bytes else max(0, MOST_EVENTS - len(self._entries))

    @property
    def unsaved(self) -> frozenset[str]:
        """The segments with events that are not in the file yet."""
        return frozenset(entry.event.segment for entry in self._entries if not entry.is_saved)

    @property
    def oldest(self) -> Waiting | None:
        """The oldest event, if there is one."""
        return self._entries[0].event if self._entries else None

    @property
    def most_tried(self) -> RetryEntry:
        """The entry that is least likely to be taken."""
        return max(self._entries, key=lambda entry: entry.tries)

    def load(self) -> None:
        """Read the file of an earlier process. Raises ``OSError`` when it cannot be read.

        A malformed line was not written whole: its segment still has the event.
        """
        self._entries, self._bytes, self._is_stale = [], 0, False
        try:
            with (self.folder / ASIDE).open("rb") as file:
                data = file.read(_FILE_BYTES)
        except FileNotFoundError:
            return
        if len(data) == _FILE_BYTES:
            raise OSError(errno.EFBIG, f"{ASIDE} is too large to be ours")
        for line in data.split(b"\n"):
            try:
                entry = json.loads(line)
                event = json.dumps(entry["event"], separators=(",", ":")).encode("ascii")
                begin = int(entry["begin"])
                waiting = Waiting(str(entry["segment"]), begin, begin + len(event) + 1, event)
                self._put(RetryEntry(waiting, int(entry["tries"]), is_saved=True))
            except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
                continue

    def add(self, event: Waiting) -> None:
        """Add an event that is due at once."""
        self._put(RetryEntry(event))
        self._is_stale = True

    def _put(self, entry: RetryEntry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.event.line)

    def remove(self, entry: RetryEntry) -> None:
        """Remove a delivered or rejected event."""
        self._entries.remove(entry)
        self._bytes -= len(entry.event.line)
        self._is_stale = True

    def failed(self, entry: RetryEntry, *, taken: int, wait: float = 0, seconds: float = 0) -> int:
        """Record a failed try. Return how many failed.

        It does not count when no others were ``taken`` since the last try. The next try is after
        ``wait`` seconds at least. ``seconds`` is how long the try took.
        """
        if taken != entry.taken_before:
            entry.tries += 1
            self._is_stale = True
        entry.taken_before = taken
        entry.requests += 1
        pause = self.pause(max(entry.requests, entry.tries))
        entry.due = self.clock() + max(pause, wait, seconds * _SLOW)
        return entry.tries

    def due(self) -> Iterator[RetryEntry]:
        """Return the entries that are due, the earliest first."""
        for entry in sorted(self._entries, key=lambda entry: entry.due):
            if entry.due <= self.clock():
                yield entry

    def wait_seconds(self) -> float:
        """Return the seconds until an entry is due, infinity without entries."""
        return max(
            0.0, min((entry.due for entry in self._entries), default=float("inf")) - self.clock()
        )

    def save(self) -> None:
        """Write the file to the disk if it differs. Raises ``OSError``."""
        if not self._is_stale:
            return
        new = self.folder / (ASIDE + ".new")
        new.unlink(missing_ok=True)  # Whatever stands there.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if self._entries:
                write_whole(descriptor, b"".join(map(_line, self._entries)))
                os.fdatasync(descriptor)
        except OSError:
            new.unlink()
            raise
        finally:
            os.close(descriptor)
        new.replace(self.folder / ASIDE)
        for entry in self._entries:
            entry.is_saved = True
        self._is_stale = False


def _line(entry: RetryEntry) -> bytes:
    event = entry.event
    return b'{"segment":"%b","begin":%d,"tries":%d,"event":%b}\n' % (
        event.segment.encode(),
        event.begin,
        entry.tries,
        event.line,
    )

"""Events that the repository did not take while it took others: each is tried again by itself, and holds nothing up.

They are kept in a file of the spool's folder, so that those behind them count as delivered,
whatever ends this process.
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
"""How many times as long as it was waited for an answer that did not come one is left alone."""


@dataclass(slots=True, eq=False)
class RetryEntry:
    """One of them: the ``event``, how often it failed while others were taken, when to try it next.

    ``requests``: how often this process tried it; ``taken_before``: how many others had been taken
    at its last try; ``is_saved``: whether it is in the file.
    """

    event: Waiting
    tries: int = 0
    due: float = 0
    requests: int = 0
    taken_before: int = 0
    is_saved: bool = False


@dataclass(slots=True)
class RetryQueue:
    """Those of one spool's ``folder``, oldest first. Only who has the spool's lock may use it.

    ``pause``: after how many seconds to try one again that failed so often. ``clock``: seconds.
    ``most_bytes`` of all.
    """

    folder: Path
    pause: Callable[[int], float]
    clock: Callable[[], float] = time.monotonic
    most_bytes: int = MOST_BYTES
    _kept: list[RetryEntry] = field(default_factory=list)
    _bytes: int = 0
    _is_stale: bool = False  # Whether the file says anything else than this.

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def room(self) -> int:
        """How many more may be kept."""
        return 0 if self._bytes >= self.most_bytes else max(0, MOST_EVENTS - len(self._kept))

    @property
    def unsaved(self) -> frozenset[str]:
        """The segments that alone have what is kept here."""
        return frozenset(one.event.segment for one in self._kept if not one.is_saved)

    @property
    def oldest(self) -> Waiting | None:
        """The first of them."""
        return self._kept[0].event if self._kept else None

    @property
    def most_tried(self) -> RetryEntry:
        """The one that is least likely to be taken."""
        return max(self._kept, key=lambda one: one.tries)

    def load(self) -> None:
        """Read what an earlier process kept.

        A line that is none of ours was never whole: its segment still has it.

        Raises ``OSError`` when there is something that cannot be read.
        """
        self._kept, self._bytes, self._is_stale = [], 0, False
        try:
            with (self.folder / ASIDE).open("rb") as file:
                data = file.read(_FILE_BYTES)
        except FileNotFoundError:
            return
        if len(data) == _FILE_BYTES:
            raise OSError(errno.EFBIG, f"{ASIDE} is too large to be ours")
        lines = data.split(b"\n")
        for line in lines:
            try:
                found = json.loads(line)
                event = json.dumps(found["event"], separators=(",", ":")).encode("ascii")
                begin = int(found["begin"])
                waiting = Waiting(str(found["segment"]), begin, begin + len(event) + 1, event)
                self._put(RetryEntry(waiting, int(found["tries"]), is_saved=True))
            except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
                continue

    def add(self, event: Waiting) -> None:
        """Keep one more, due at once."""
        self._put(RetryEntry(event))
        self._is_stale = True

    def _put(self, one: RetryEntry) -> None:
        self._kept.append(one)
        self._bytes += len(one.event.line)

    def remove(self, one: RetryEntry) -> None:
        """It is told, or given up."""
        self._kept.remove(one)
        self._bytes -= len(one.event.line)
        self._is_stale = True

    def failed(self, one: RetryEntry, *, taken: int, wait: float = 0, seconds: float = 0) -> int:
        """Note a try that failed; return how many did.

        When no others were ``taken`` since the last it says nothing.

        ``wait``: not to be tried before so many seconds; ``seconds`` that it took: silence must not
        take all the time.
        """
        if taken != one.taken_before:
            one.tries += 1
            self._is_stale = True
        one.taken_before = taken
        one.requests += 1
        one.due = self.clock() + max(
            self.pause(max(one.requests, one.tries)), wait, seconds * _SLOW
        )
        return one.tries

    def due(self) -> Iterator[RetryEntry]:
        """Those whose time has come, who has waited longest first.

        Each is looked at when it is its turn.
        """
        for one in sorted(self._kept, key=lambda kept: kept.due):
            if one.due <= self.clock():
                yield one

    def wait_seconds(self) -> float:
        """For how long none is due; endless when there is none."""
        return max(0.0, min((one.due for one in self._kept), default=float("inf")) - self.clock())

    def save(self) -> None:
        """Write the file anew, on the disk before this returns, if that tells anything new.

        Raises ``OSError``.
        """
        if not self._is_stale:
            return
        new = self.folder / (ASIDE + ".new")
        new.unlink(missing_ok=True)  # Whatever stands there.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if self._kept:
                write_whole(descriptor, b"".join(map(_line, self._kept)))
                os.fdatasync(descriptor)
        except OSError:
            new.unlink()
            raise
        finally:
            os.close(descriptor)
        new.replace(self.folder / ASIDE)
        for one in self._kept:
            one.is_saved = True
        self._is_stale = False


def _line(one: RetryEntry) -> bytes:
    event = one.event
    return b'{"segment":"%b","begin":%d,"tries":%d,"event":%b}\n' % (
        event.segment.encode(),
        event.begin,
        one.tries,
        event.line,
    )

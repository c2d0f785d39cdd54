"""The backlog: the events of the spool that wait, and how far they are delivered.

Most are taken in order. Some are retries: they failed while others were taken, and each is tried
again alone. All stay in their segments until the repository, or ``rejected.jsonl``, has them.
"""

import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import (
    LOCK,
    PROGRESS,
    REJECTED,
    Progress,
    begun_ns,
    progress,
    remove_unused,
    segment_names,
)

MOST_BATCH_BYTES = 2**20
MOST_RETRIES = 1_000
MOST_RETRY_BYTES = 4 * 2**20
_COUNT_BYTES = 16 * 2**20
_OPEN = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True, eq=False)
class SpooledEvent:
    """An event: its ``segment``, its first byte there, its ``line`` without the line end.

    Of a retry, ``tries`` counts the failures while others were taken, and ``requests`` those of
    this process. ``due`` is when the next one may begin.
    """

    segment: str
    begin: int
    line: bytes
    tries: int = 0
    requests: int = 0
    taken_before: int = -1
    due: float = 0

    @property
    def end(self) -> int:
        """The first byte behind the line."""
        return self.begin + len(self.line) + 1

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object, empty if it is none."""
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(content := json.loads(self.line), dict):
                return content
        return {}

    def age_seconds(self) -> float:
        """Return how long it has waited, by ``recorded`` or else by the name of its segment."""
        try:
            recorded = datetime.fromisoformat(self.content["recorded"]).timestamp()
        except (ValueError, KeyError, TypeError):
            recorded = begun_ns(self.segment) / 1e9
        return max(0.0, time.time() - recorded)


class Backlog:
    """The backlog of a spool's ``folder``. One process at a time has its ``lock``.

    Segments that are kept for retries alone have at most ``held_bytes`` together.
    """

    def __init__(self, folder: Path, *, held_bytes: int = 2**27) -> None:
        self.folder = folder
        self.retries: list[SpooledEvent] = []
        """Oldest first."""
        self._held_bytes = held_bytes
        self._positions = Counter[str]()
        # By segment: how far its lines were counted, and how many of those wait.
        self._counted: dict[str, tuple[int, int]] = {}
        self._saved: Progress = {}, []
        self._descriptor = -1

    @property
    def is_locked(self) -> bool:
        """Whether this has the lock."""
        return self._descriptor >= 0

    def lock(self) -> bool:
        """Take the lock. Return whether no other process has it. Raises ``OSError``."""
        self._descriptor = os.open(self.folder / LOCK, os.O_RDWR | _OPEN, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.load()
        except OSError as error:
            self.close()
            if not isinstance(error, BlockingIOError):
                raise
        return self.is_locked

    def load(self) -> None:
        """Read how far the events are delivered, and the retries. Raises ``OSError``."""
        self._saved = positions, retries = progress(self.folder)
        self._positions, self._counted, self.retries = Counter(positions), {}, []
        names = set(segment_names(self.folder))
        for name, begin, tries in retries:
            if name in names and (event := next(self._lines(name, begin), None)) is not None:
                event.tries = tries
                self.retries.append(event)

    def close(self) -> None:
        """Give the lock up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    @property
    def room(self) -> int:
        """How many more retries there may be. Below zero, the oldest ones must go."""
        held = {event.segment for event in self.retries}
        if (
            sum(self._counted.get(name, (0, 0))[0] for name in held) > self._held_bytes
            or sum(len(event.line) for event in self.retries) > MOST_RETRY_BYTES
        ):
            return -1
        return MOST_RETRIES - len(self.retries)

    def next(self, most: int) -> list[SpooledEvent]:
        """Return up to ``most`` of the oldest events, and at least one, of any size."""
        events: list[SpooledEvent] = []
        size = 0
        for name in segment_names(self.folder):
            for event in self._lines(name, self._positions[name]):
                size += len(event.line)
                if events and (len(events) >= most or size > MOST_BATCH_BYTES):
                    return events
                events.append(event)
        return events

    def done(self, events: Sequence[SpooledEvent], again: Collection[SpooledEvent] = ()) -> None:
        """Go on behind the events: the oldest, or a retry. Those to send ``again`` are retries."""
        for event in events:
            if event.end > self._positions[event.segment]:
                self._positions[event.segment] = event.end
                counted, waiting = self._counted.get(event.segment, (0, 0))
                self._counted[event.segment] = (
                    (counted, waiting - 1) if event.end <= counted else (event.end, 0)
                )
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
        names = segment_names(self.folder)
        left, held = set(names), {event.segment for event in self.retries}
        for name in names:
            path, done = self.folder / name, self._positions[name]
            if next(self._lines(name, done), None) is not None:
                break  # There may be a thousand behind it.
            if name not in held and remove_unused(path, done, even_waiting=False) == 0:
                left.remove(name)
        # Others may have been dropped for room.
        still = {name: end for name, end in self._positions.items() if name in left}
        self._positions = Counter(still)
        self.retries = [event for event in self.retries if event.segment in left]
        retries = [(event.segment, event.begin, event.tries) for event in self.retries]
        if (still, retries) != self._saved:
            self._write_progress(json.dumps({"positions": still, "retries": retries}).encode())
            self._saved = still, retries

    def measure(self) -> tuple[int, float]:
        """Return how many events wait, and how many seconds the oldest has waited.

        Each byte is counted once, and at most 16 MiB a call.
        """
        length, left, counted = len(self.retries), _COUNT_BYTES, {}
        for name in segment_names(self.folder):
            end, waiting = self._counted.get(name, (self._positions[name], 0))
            with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
                file.seek(end)
                data = file.read(left)
                end, waiting = end + len(data), waiting + data.count(b"\n")
                left -= len(data)
            counted[name] = end, waiting
            length += waiting
        self._counted = counted
        oldest = (*self.retries[:1], *self.next(1))
        return length, max((event.age_seconds() for event in oldest), default=0.0)

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
    try:
        write_whole(descriptor, data)
    finally:
        os.close(descriptor)

"""The backlog: the events of the spool that wait, and how far they are delivered.

Most are taken in order. Some are retries: they failed while others were taken, and each is tried
again alone. All stay in their segments until the repository, or ``rejected.jsonl``, has them.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sidecar.audit.sinks import write_whole
from sidecar.audit.spool import (
    LOCK,
    PROGRESS,
    REJECTED,
    begun_ns,
    progress,
    remove_unused,
    segment_names,
)

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
    def is_json(self) -> bool:
        """Whether it is a JSON object."""
        try:
            return isinstance(json.loads(self.line), dict)
        except (ValueError, RecursionError):
            return False

    def age_seconds(self) -> float:
        """Return how long it has waited, by ``recorded`` or else by the name of its segment."""
        try:
            recorded = datetime.fromisoformat(json.loads(self.line)["recorded"]).timestamp()
        except (ValueError, KeyError, TypeError, RecursionError):
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
        self._positions: dict[str, int] = {}
        # By segment: how far its lines were counted, and how many of those wait.
        self._counted: dict[str, tuple[int, int]] = {}
        self._saved = b""
        self._descriptor = -1

    def lock(self) -> bool:
        """Take the lock. Return whether no other process has it. Raises ``OSError``."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.folder / LOCK, os.O_RDWR | _OPEN, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.load()
        return True

    def load(self) -> None:
        """Read how far the events are delivered, and the retries. Raises ``OSError``."""
        self._positions, retries = progress(self.folder)
        self._counted, self.retries = {}, []
        names = set(segment_names(self.folder))
        for name, begin, tries in retries:
            if name in names and (event := next(self._lines(name, begin), None)) is not None:
                event.tries = tries
                self.retries.append(event)
        self._saved = self._progress()

    def close(self) -> None:
        """Give the lock up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    @property
    def room(self) -> int:
        """How many more retries there may be."""
        is_full = sum(len(event.line) for event in self.retries) >= MOST_RETRY_BYTES
        return 0 if is_full else max(0, MOST_RETRIES - len(self.retries))

    def next(self, most: int, most_bytes: int) -> list[SpooledEvent]:
        """Return up to ``most`` of the oldest events, the first one of any size."""
        events: list[SpooledEvent] = []
        size = 0
        for name in segment_names(self.folder):
            for event in self._lines(name, self._positions.get(name, 0)):
                size += len(event.line)
                if events and (len(events) == most or size > most_bytes):
                    return events
                events.append(event)
        return events

    def done(self, events: Sequence[SpooledEvent]) -> None:
        """Go on behind the oldest events, which these are."""
        for event in events:
            self._positions[event.segment] = event.end
            counted, waiting = self._counted.get(event.segment, (0, 0))
            self._counted[event.segment] = (
                (counted, waiting - 1) if event.end <= counted else (event.end, 0)
            )

    def reject(self, event: SpooledEvent) -> None:
        """Append an event to ``rejected.jsonl``, for people. Raises ``OSError``."""
        descriptor = os.open(self.folder / REJECTED, os.O_WRONLY | os.O_APPEND | _OPEN, 0o600)
        try:
            write_whole(descriptor, event.line + b"\n")
            os.fdatasync(descriptor)  # The other copy will be removed.
        finally:
            os.close(descriptor)

    @property
    def holds_too_much(self) -> bool:
        """Whether the segments of the retries have more than ``held_bytes``."""
        held = {event.segment for event in self.retries}
        return sum(self._counted.get(name, (0, 0))[0] for name in held) > self._held_bytes

    def save(self) -> None:
        """Remove finished segments, and save the progress. Raises ``OSError``.

        A full disk has room for the progress only after the removal.
        """
        names = segment_names(self.folder)
        left, held = set(names), {event.segment for event in self.retries}
        for name in names:
            if next(self._lines(name, self._positions.get(name, 0)), None) is not None:
                break  # There may be a thousand behind it.
            done = self._positions.get(name, 0)
            if (
                name not in held
                and remove_unused(self.folder / name, done, even_waiting=False) == 0
            ):
                left.remove(name)
        # Others may be dropped for room.
        self._positions = {name: end for name, end in self._positions.items() if name in left}
        self.retries = [event for event in self.retries if event.segment in left]
        if (progress := self._progress()) != self._saved:
            self._write_progress(progress)
            self._saved = progress

    def measure(self) -> tuple[int, float]:
        """Return how many events wait, and how many seconds the oldest has waited.

        Each byte is counted once, and at most 16 MiB a call.
        """
        length, left, counted = len(self.retries), _COUNT_BYTES, {}
        for name in segment_names(self.folder):
            end, waiting = self._counted.get(name, (self._positions.get(name, 0), 0))
            if left > 0:
                with (
                    contextlib.suppress(FileNotFoundError),
                    (self.folder / name).open("rb") as file,
                ):
                    file.seek(end)
                    data = file.read(left)
                    end, waiting = end + len(data), waiting + data.count(b"\n")
                    left -= len(data)
            counted[name] = end, waiting
            length += waiting
        self._counted = counted
        oldest = (*self.retries[:1], *self.next(1, 1))
        return length, max((event.age_seconds() for event in oldest), default=0.0)

    def _lines(self, name: str, begin: int) -> Iterator[SpooledEvent]:
        with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
            file.seek(begin)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # It is being written, or its process ended before it was whole.
                yield SpooledEvent(name, begin, line[:-1])
                begin += len(line)

    def _progress(self) -> bytes:
        retries = [(event.segment, event.begin, event.tries) for event in self.retries]
        return json.dumps({"positions": self._positions, "retries": retries}).encode()

    def _write_progress(self, progress: bytes) -> None:
        new = self.folder / (PROGRESS + ".new")
        new.unlink(missing_ok=True)  # Whatever stands there.
        descriptor = os.open(new, os.O_WRONLY | os.O_EXCL | _OPEN, 0o600)
        try:
            write_whole(descriptor, progress)
        except OSError:
            new.unlink()
            raise
        finally:
            os.close(descriptor)
        new.replace(self.folder / PROGRESS)

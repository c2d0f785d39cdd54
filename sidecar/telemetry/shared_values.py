"""Values of metrics in a file that each worker process of a host writes, and all of them read.

A file has segments, each a sequence of entries: the length of the key and its CRC-32, the value
(a double in native byte order), the key in JSON, zeros up to a multiple of 8 bytes. A segment ends
with a length of 0. The length is written last, so a process that is killed leaves no half of an
entry. The worker holds a lock on its file as long as it lives.
"""

import array
import fcntl
import json
import logging
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeAlias

log = logging.getLogger(__name__)

SUFFIX = ".values"
SEGMENT_BYTES = 2**16
MAX_FILE_BYTES = 64 * SEGMENT_BYTES
"""Limit in bytes of a worker's file. Labels are constants: a worker needs some three segments."""

_HEAD = struct.Struct("=IId")
_LENGTH_AND_SUM = struct.Struct("=II")
_WORD = 8


class SampleKey(NamedTuple):
    """What a value is: the metric, the sample, its labels, and how workers' values are combined.

    ``mode`` is a ``multiprocess_mode`` of prometheus_client; without one values are added.
    """

    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    mode: str

    def encode(self) -> bytes:
        """Return the key in JSON."""
        return json.dumps(self, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> "SampleKey":
        """Return the key of this JSON. Raises ``ValueError`` for anything else."""
        match json.loads(encoded):
            case [str(metric), str(sample), list(labels), str(mode)]:
                return cls(
                    metric, sample, tuple((str(name), str(value)) for name, value in labels), mode
                )
        raise ValueError("no key of a metric")


Place: TypeAlias = tuple["memoryview[float]", int]
"""A view of doubles, and the index of a value in it."""


class WorkerFile:
    """The file of this process in ``folder``. Raises ``OSError`` when it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / (secrets.token_hex(8) + SUFFIX)
        # Not closed: the lock is held until the process ends, however it ends.
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._lock = Lock()
        self._places: dict[SampleKey, Place] = {}
        self._segments = 0
        self._used = SEGMENT_BYTES
        try:
            # While it is empty nobody else locks it, nor takes it for a dead worker's.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin_segment()
        except BaseException:
            self.path.unlink()
            os.close(self._file)
            raise

    def place(self, key: SampleKey) -> Place:
        """Return the place of the value of ``key``.

        Without room on the disk it is in this process's memory alone, and the log says so.
        """
        with self._lock:
            if key not in self._places:
                try:
                    self._places[key] = self._append(key)
                except OSError as error:
                    log.warning(
                        "a metric is not shared by the workers",
                        extra={"metric": key.metric, "detail": error.strerror},
                    )
                    self._places[key] = memoryview(array.array("d", [0.0])), 0
            return self._places[key]

    def _append(self, key: SampleKey) -> Place:
        encoded = key.encode()
        size = _padded(_HEAD.size + len(encoded))
        if self._used + size > SEGMENT_BYTES:
            self._begin_segment()
        at, self._used = self._used, self._used + size
        memory = self._memory
        memory[at + _HEAD.size : at + _HEAD.size + len(encoded)] = encoded
        # A store of 8 bytes: the entry is there or not.
        memory[at : at + _WORD] = _LENGTH_AND_SUM.pack(len(encoded), zlib.crc32(encoded))
        return memoryview(memory).cast("d"), at // _WORD + 1

    def _begin_segment(self) -> None:
        at = self._segments * SEGMENT_BYTES
        if at >= MAX_FILE_BYTES:
            raise OSError(0, "too many values")
        # Storing into a page that the disk has no room for would be a SIGBUS.
        os.posix_fallocate(self._file, at, SEGMENT_BYTES)
        self._memory = mmap.mmap(self._file, SEGMENT_BYTES, offset=at)
        self._segments += 1
        self._used = 0


def read_values(content: bytes) -> Iterator[tuple[bytes, float]]:
    """Yield encoded keys and values of a worker's file. What is not an entry ends its segment."""
    for begin in range(0, len(content), SEGMENT_BYTES):
        segment = content[begin : begin + SEGMENT_BYTES]
        at = 0
        while at + _HEAD.size <= len(segment):
            length, checksum, value = _HEAD.unpack_from(segment, at)
            encoded = segment[at + _HEAD.size : at + _HEAD.size + length]
            if length == 0 or len(encoded) < length or zlib.crc32(encoded) != checksum:
                break
            yield encoded, value
            at += _padded(_HEAD.size + length)


def _padded(size: int) -> int:
    return -(-size // _WORD) * _WORD


class SharedValue:
    """A value of a metric in the file of this process: a ``ValueClass`` of prometheus_client.

    Exemplars stay in this process.
    """

    def __init__(self, file: WorkerFile, key: SampleKey) -> None:
        self._view, self._index = file.place(key)
        self._lock = Lock()
        self._exemplar: object = None

    def inc(self, amount: float) -> None:
        """Add ``amount``."""
        with self._lock:
            self._view[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the value."""
        with self._lock:
            self._view[self._index] = value

    def get(self) -> float:
        """Return the value of this process."""
        return self._view[self._index]

    def set_exemplar(self, exemplar: object) -> None:
        """Set the latest exemplar."""
        self._exemplar = exemplar

    def get_exemplar(self) -> object:
        """Return the latest exemplar, or ``None``."""
        return self._exemplar


def value_class(file: WorkerFile) -> Callable[..., SharedValue]:
    """Return what prometheus_client calls for each new value of a metric."""

    def make(
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **options: object,
    ) -> SharedValue:
        labels = tuple(zip(labelnames, labelvalues, strict=True))
        return SharedValue(file, SampleKey(metric_name, name, labels, multiprocess_mode))

    return make

"""The metrics of all worker processes of a host as one exposition (docs/decisions/0049)."""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

from sidecar.telemetry.shared_values import SUFFIX, SampleKey, read_values

log = logging.getLogger(__name__)

Values = dict[bytes, float]
"""Values by their encoded keys (``SampleKey``), which would be slow to hash and compare."""

_GAUGES = ("livesum", "livemax", "livemin")
"""Modes whose values end with their process. Others are added, those of dead workers included."""


@dataclass(slots=True)
class _Total:
    """What dead workers have counted. ``workers``: the names of their files, which may remain."""

    values: Values = field(default_factory=lambda: defaultdict(float))
    workers: set[str] = field(default_factory=set)


class SharedMetrics:
    """The values in the files of all workers in ``folder``.

    A file whose worker lives is locked. Those of dead workers are folded into one total, which
    takes the place of the earlier one at once, and names the files that it contains: a process
    that is killed in between loses no value and counts none twice. Gauges of the dead are left out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[bytes, SampleKey] = {}

    def fold(self) -> None:
        """Add the files of dead workers to the total, and remove them.

        Does nothing while another process does the same. Raises ``OSError``.
        """
        lock = os.open(self._folder / "fold.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            self._fold()
        finally:
            os.close(lock)

    def read(self) -> Values:
        """Return the values of all workers, combined. Raises ``OSError``."""
        while True:
            with _opened(self._total) as file:
                values = self._read(_load(file))
                if _is_at(file, self._total):
                    return values
            # Another process has folded meanwhile: a file may be missing in both, or be in both.

    def key(self, encoded: bytes) -> SampleKey:
        """Return the decoded key. Raises ``ValueError`` for what is no key."""
        if encoded not in self._keys:
            self._keys[encoded] = SampleKey.decode(encoded)
        return self._keys[encoded]

    @property
    def _total(self) -> Path:
        return self._folder / "total.json"

    def _fold(self) -> None:
        with _opened(self._total) as file:
            total = _load(file)
        dead: list[Path] = []
        folded: set[str] = set()
        for path in self._folder.glob("*" + SUFFIX):
            content, lives = _content(path)
            if lives or not content:
                continue
            dead.append(path)
            if path.name not in total.workers:
                folded.add(path.name)
                for key, value in read_values(content):
                    if self.key(key).mode not in _GAUGES:
                        total.values[key] += value
        if folded:
            total.workers = {path.name for path in dead}
            _replace(self._total, total)
        for path in dead:
            path.unlink(missing_ok=True)

    def _read(self, total: _Total) -> Values:
        values = total.values
        for path in self._folder.glob("*" + SUFFIX):
            if path.name in total.workers:
                continue
            content, lives = _content(path)
            for key, value in read_values(content):
                mode = self.key(key).mode
                if mode in _GAUGES and not lives:
                    continue
                if mode == "livemax":
                    values[key] = max(values.get(key, value), value)
                elif mode != "livemin":
                    values[key] += value
                elif value:  # 0: not set yet.
                    values[key] = min(values.get(key, value), value)
            _let_others_run()
        return values


class MergedCollector:
    """The metrics of ``registry`` with the values of all workers, for an exposition.

    Exemplars are those of this worker.
    """

    def __init__(self, registry: CollectorRegistry, shared: SharedMetrics) -> None:
        self._registry = registry
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Raises ``OSError``."""
        with contextlib.suppress(OSError):  # A full disk: the files are read as they are.
            self._shared.fold()
        by_metric: defaultdict[str, list[tuple[SampleKey, float]]] = defaultdict(list)
        for encoded, value in sorted(self._shared.read().items()):
            key = self._shared.key(encoded)
            by_metric[key.metric].append((key, value))
        for metric in self._registry.collect():
            exemplars = {
                (sample.name, frozenset(sample.labels.items())): sample.exemplar
                for sample in metric.samples
                if sample.exemplar is not None
            }
            values = [(key.sample, key.labels, value) for key, value in by_metric[metric.name]]
            if metric.type == "histogram":
                values = list(_histogram(metric.name, values))
            metric.samples = [
                Sample(name, dict(labels), value, None, exemplars.get((name, frozenset(labels))))
                for name, labels, value in values
            ]
            yield metric
            _let_others_run()


def _let_others_run() -> None:
    """Release the interpreter's lock: by itself a thread has it for 5 ms while others wait."""
    time.sleep(0)


_Labels = tuple[tuple[str, str], ...]
_Values = Iterable[tuple[str, _Labels, float]]
"""Samples: name, labels, value."""


def _histogram(name: str, values: _Values) -> _Values:
    """Yield buckets, each with those below it, then their count and sum."""
    buckets: defaultdict[_Labels, list[tuple[float, str, float]]] = defaultdict(list)
    sums = {}
    for sample, labels, value in values:
        if sample == name + "_sum":
            sums[labels] = value
        else:
            *own, (_, bound) = labels
            buckets[tuple(own)].append((float(bound), bound, value))
    for labels, bounds in buckets.items():
        count = 0.0
        for _, bound, value in sorted(bounds):
            count += value
            yield name + "_bucket", (*labels, ("le", bound)), count
        yield name + "_count", labels, count
        yield name + "_sum", labels, sums.get(labels, 0.0)


def _content(path: Path) -> tuple[bytes, bool]:
    """Return what is in a worker's file, and whether the worker lives. Nothing if it is gone."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", False
    with open(file, "rb") as opened:
        if os.fstat(file).st_size == 0:
            return b"", False  # It is being made.
        try:
            # Shared: whoever else looks at the same time does not take it for alive.
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            lives = True
        else:
            lives = False
        return opened.read(), lives


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | None]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def _is_at(file: IO[bytes] | None, path: Path) -> bool:
    """Return whether the open ``file`` (``None``: no file) is what ``path`` is now."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(os.fstat(file.fileno()), now)


def _load(file: IO[bytes] | None) -> _Total:
    total = _Total()
    if file is not None:
        try:
            read = json.load(file)
            for key, value in read["values"].items():
                total.values[key.encode()] = float(value)
            total.workers.update(map(str, read["workers"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            log.exception("what workers that ended have counted cannot be read")
            return _Total()
    return total


def _replace(path: Path, total: _Total) -> None:
    """Write ``total`` at once: a reader sees the earlier one or this one."""
    new = path.with_suffix(".new")
    values = {key.decode(): value for key, value in total.values.items()}
    new.write_text(json.dumps({"values": values, "workers": sorted(total.workers)}))
    new.replace(path)

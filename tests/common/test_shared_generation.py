"""What one worker process forgets is forgotten by all of them, once the call returns."""

import asyncio
import contextlib
import errno
import itertools
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from sidecar.common.invalidation import Invalidation
from sidecar.common.loading_cache import ForgetOn, LoadingCache
from sidecar.common.shared_generation import SharedGeneration
from tests.waiting import WAIT_SECONDS

WORKERS = 3
KINDS: dict[str, Any] = {
    "by patient": lambda patient: {patient},
    "by UID": ForgetOn.ANY_CHANGE,
    "of others": ForgetOn.INVALIDATE,
}


class Worker:
    """In a process of its own: a cache of each kind. A load ends when it is told what it brings."""

    def __init__(self, folder: Path) -> None:
        self.invalidation = Invalidation(shared=SharedGeneration(folder))
        self.caches: dict[str, LoadingCache[str, int]] = {
            name: LoadingCache(self.invalidation, kind, max_entries=9, ttl_seconds=9_999)
            for name, kind in KINDS.items()
        }
        self.loads: dict[int, asyncio.Future[int]] = {}
        self.asked: dict[int, asyncio.Task[int]] = {}

    async def ask(self, kind: str, number: int) -> int | None:
        """Begin the request ``number``; return what it gets, ``None`` if it waits for a load."""

        async def load() -> int:
            self.loads[number] = asyncio.get_running_loop().create_future()
            return await self.loads[number]

        self.asked[number] = asyncio.create_task(self.caches[kind].get("p1", load))
        return await self.settled(number)

    async def settled(self, number: int) -> int | None:
        """Return what the request has got, ``None`` if it waits."""
        for _ in range(9):
            await asyncio.sleep(0)
        task = self.asked[number]
        return task.result() if task.done() else None

    async def waits_for_own_load(self, number: int) -> bool:
        """Return whether the request has begun a load, and shares no other's."""
        return number in self.loads

    async def bring(self, number: int, value: int) -> int | None:
        """Let the load of the request bring ``value``; return what the request gets."""
        self.loads[number].set_result(value)
        return await self.settled(number)

    async def invalidate(self) -> None:
        self.invalidation.invalidate()


def work(folder: Path, orders: Connection) -> None:
    """Do what is ordered, until the other end is closed."""

    async def serve() -> None:
        worker = Worker(folder)
        with contextlib.suppress(EOFError):
            while True:
                name, *arguments = orders.recv()
                orders.send(await getattr(worker, name)(*arguments))

    asyncio.run(serve())


class Processes:
    """Three workers that share ``folder``."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends, self._processes = [], []
        for _ in range(WORKERS):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(folder, theirs))
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def do(self, worker: int, name: str, *arguments: object) -> Any:
        self._ends[worker].send((name, *arguments))
        assert self._ends[worker].poll(WAIT_SECONDS)
        return self._ends[worker].recv()

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(WAIT_SECONDS)
            assert process.exitcode == 0


@dataclass
class Request:
    """A request that waits. ``version``: what its load reads; ``own``: whether it is its own."""

    worker: int
    kind: str
    version: int
    own: bool = field(default=True)


class Machine(RuleBasedStateMachine):
    """Requests, loads and forgettings in any order, in three processes.

    The upstream has a version. It changes, then somebody forgets. A request that begins after a
    forgetting must not get an earlier version than there was then.
    """

    processes: Processes
    numbers: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        self.version = next(type(self).numbers)
        self.least = self.version
        self.waiting: dict[int, Request] = {}
        # What an earlier example has left, its loads included, is forgotten.
        type(self).processes.do(0, "invalidate")

    @rule(worker=strategies.integers(0, WORKERS - 1), kind=strategies.sampled_from(sorted(KINDS)))
    def ask(self, worker: int, kind: str) -> None:
        number = next(self.numbers)
        got = self.processes.do(worker, "ask", kind, number)
        if got is not None:
            assert got >= self.least
        elif self.processes.do(worker, "waits_for_own_load", number):
            self.waiting[number] = Request(worker, kind, self.version)
        else:  # It shares a load, which must have begun since the last forgetting.
            assert any(
                (other.worker, other.kind) == (worker, kind) and other.version >= self.least
                for other in self.waiting.values()
            )

    @rule()
    def change(self) -> None:
        self.version = next(self.numbers)

    @rule(worker=strategies.integers(0, WORKERS - 1))
    def invalidate(self, worker: int) -> None:
        self.processes.do(worker, "invalidate")
        self.least = self.version

    @precondition(lambda self: self.waiting)
    @rule(data=strategies.data())
    def bring(self, data: strategies.DataObject) -> None:
        number = data.draw(strategies.sampled_from(sorted(self.waiting)))
        request = self.waiting.pop(number)
        assert self.processes.do(request.worker, "bring", number, request.version)


def test_no_worker_serves_what_another_has_forgotten() -> None:
    with TemporaryDirectory() as folder:
        Machine.processes = Processes(Path(folder))
        Machine.numbers = iter(range(1, 10**9))
        try:
            Machine.TestCase.settings = settings(stateful_step_count=25, deadline=None)
            Machine.TestCase("runTest").runTest()
        finally:
            Machine.processes.close()


@pytest.mark.parametrize("call", [1, 2])
def test_what_arrives_while_another_worker_forgets_is_not_kept(tmp_path: Path, call: int) -> None:
    """Wherever it happens between the look at the generation and the store."""
    ours, theirs = SharedGeneration(tmp_path), SharedGeneration(tmp_path)
    calls = itertools.count()

    def study(key: str) -> str:
        if next(calls) == call:
            theirs.begin()
        return key

    cache: LoadingCache[str, int] = LoadingCache(
        Invalidation(shared=ours),
        max_entries=9,
        ttl_seconds=9_999,
        is_negative=lambda key, value: not study(key),
        study=study,
    )
    cache.put("p1", 1, cache.stamp("p1"))
    assert next(calls) == 3  # For the caller's stamp, the second look, and the store.
    assert cache.peek("p1") is None


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(
    "look", [lambda ours: ours.stamp("1.2"), lambda ours: ours.generation, Invalidation.catch_up]
)
def test_all_that_is_registered_is_forgotten_at_the_first_look(
    tmp_path: Path, others: bool, look: Callable[[Invalidation], object]
) -> None:
    """What is no cache, too: retrievals that go on in the background."""

    class Kept:
        forgotten: ClassVar[list[object]] = []

        def forget(self, patient_ids: Collection[str] | None) -> None:
            self.forgotten.append(patient_ids)

    ours = Invalidation(shared=SharedGeneration(tmp_path))
    kept = ours.register(Kept(), others=others)
    Invalidation(shared=SharedGeneration(tmp_path)).invalidate()
    assert kept.forgotten == []
    for _ in range(2):
        look(ours)
        assert kept.forgotten == [None]


def test_a_generation_is_seen_once(tmp_path: Path) -> None:
    ours, theirs = SharedGeneration(tmp_path), SharedGeneration(tmp_path)
    assert not ours.has_changed()
    for _ in range(3):
        theirs.begin()
        assert ours.has_changed()
        assert not ours.has_changed()


def test_a_worker_that_starts_later_changes_nothing(tmp_path: Path) -> None:
    ours = SharedGeneration(tmp_path)
    ours.begin()
    assert ours.has_changed()
    assert not SharedGeneration(tmp_path).has_changed()
    assert not ours.has_changed()


def of_studies(folder: Path) -> LoadingCache[str, int]:
    """Return what another worker caches of the studies 1.1 and 1.2."""
    invalidation = Invalidation(shared=SharedGeneration(folder))
    cache: LoadingCache[str, int] = LoadingCache(
        invalidation, max_entries=9, ttl_seconds=9_999, study=str
    )
    for study in ("1.1", "1.2"):
        cache.put(study, 1, cache.stamp(study))
    return cache


def test_a_study_that_one_worker_forgets_all_forget(tmp_path: Path) -> None:
    """Something foreign was seen in it: all open each of its instances from then on."""
    ours, theirs = Invalidation(shared=SharedGeneration(tmp_path)), of_studies(tmp_path)
    for _ in range(2):
        ours.forget_study("1.2")
        assert (theirs.peek("1.1"), theirs.peek("1.2")) == (1, None)
        assert ours.stamp("1.2") == ours.stamp("1.2") > (0, 0)
        assert theirs.stamp("1.2")[1] > 0
        theirs.put("1.2", 2, theirs.stamp("1.2"))
        assert theirs.peek("1.2") == 2


def test_without_room_for_a_study_everything_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.common.shared_generation.MAX_STUDIES_BYTES", 9)
    ours, theirs = Invalidation(shared=SharedGeneration(tmp_path)), of_studies(tmp_path)
    for study in ("1.3", "1.4"):
        ours.forget_study(study)
        assert theirs.peek("1.1") == 1
    ours.forget_study("1.5")
    assert len(theirs) == 2  # It has not looked yet.
    assert theirs.peek("1.1") is None
    assert theirs.stamp("1.5")[1] > 0
    assert len((tmp_path / "studies").read_bytes()) < 9


def test_on_a_full_disk_everything_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Invalidation(shared=SharedGeneration(tmp_path)), of_studies(tmp_path)

    def refuse(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", refuse)
    ours.forget_study("1.3")
    assert theirs.peek("1.1") is None
    assert ours.stamp("1.3")[1] > 0


def test_what_the_archive_changed_for_one_worker_the_others_keep(tmp_path: Path) -> None:
    """Each follows /changes itself."""
    ours = Invalidation(shared=SharedGeneration(tmp_path))
    theirs = Invalidation(shared=SharedGeneration(tmp_path))
    ours.archive_changed(None)
    assert (ours.generation, theirs.generation) == (1, 0)
    ours.invalidate()
    assert theirs.generation == 1


def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(2)):
        SharedGeneration(tmp_path / "missing")


def test_a_full_disk_ends_the_start_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that shares no forgetting must not serve."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised:
        SharedGeneration(tmp_path)
    assert raised.value.filename == str(tmp_path)


def test_the_files_are_the_owners_alone_and_no_descriptor_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    made = [SharedGeneration(tmp_path) for _ in range(9)]
    # The memory has one, the file of studies another.
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 2 * len(made)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}

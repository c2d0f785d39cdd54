"""Mutation tests: change one expression of a function at a time; a test must fail for each change.

``make mutants`` runs this. Tests are collected once. Each mutant is a fork of that process, in
which the function's code is replaced. Those tests of its room run in it that enter the function,
shortest first. So a mutant costs little, and properties and decorated functions are mutated, too.

A mutant that no test notices is a survivor. It is explained in ``tables/surviving_mutants.toml``,
or the run fails. So it does when the table explains a mutant that a test notices, or that is gone.
Tables and patterns at the level of a module are not mutated.
"""

import argparse
import builtins
import importlib
import os
import pickle
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from tests.mutations import Mutant, mutants_of, noting_entries

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).parent / "tables" / "surviving_mutants.toml"
LIMIT_CPU_SECONDS = 20
LIMIT_SECONDS = 300
"""A mutant may wait for ever. What reaches a limit counts as noticed."""


class Mutation:
    """A pytest plugin: in place of running the tests once, run them for each mutant."""

    def __init__(self, mutants: list[Mutant], wanted: str, tests: Sequence[str]) -> None:
        self.mutants = [one for one in mutants if wanted in f"{one.name}: {one.text}"]
        self.survivors: list[Mutant] = []
        self._tests = tuple(tests)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """The same examples each time, and none made shorter."""
        import hypothesis  # noqa: PLC0415 - pytest rewrites it when it begins

        hypothesis.settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            database=None,
            max_examples=30,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        )
        hypothesis.settings.load_profile("mutants")

    def paths(self, mutant: Mutant) -> tuple[str, ...]:
        """Return the test files and folders that must notice it."""
        return self._tests or (mutant.tests,)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Learn which test enters which function, then run each mutant in a fork."""
        items = session.items
        entered = self._entered(items)
        running: dict[int, Mutant] = {}
        for number, mutant in enumerate(self.mutants, 1):
            entering = (items[at] for _, at in sorted(entered.get(mutant.name, ())))
            tests = [item for item in entering if item.nodeid.startswith(self.paths(mutant))]
            while len(running) >= (os.cpu_count() or 1):
                self._reap(running)
            pid = os.fork()
            if pid == 0:
                _run(mutant, tests)
            running[pid] = mutant
            if number % 50 == 0:
                print(f"{number} of {len(self.mutants)}, {len(self.survivors)} survive", flush=True)
        while running:
            self._reap(running)
        return True

    def _entered(self, items: list[pytest.Item]) -> Mapping[str, set[tuple[float, int]]]:
        """Return, by function, the tests that enter it, with their seconds."""
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            found: dict[str, set[tuple[float, int]]] = {}
            _silence()
            for module in {one.room: one.module for one in self.mutants}.values():
                for noting in noting_entries(module):
                    noting.original().__code__ = noting.code
            for at, item in enumerate(items):
                hits: set[str] = set()
                builtins.note_entry = hits.add  # type: ignore[attr-defined]
                began = time.process_time()
                if not _passes(item):
                    found = {"failed": {(0.0, at)}}
                    break
                for hit in hits:
                    found.setdefault(hit, set()).add((time.process_time() - began, at))
            with os.fdopen(writer, "wb") as file:
                pickle.dump(found, file)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            result: dict[str, set[tuple[float, int]]] = pickle.load(answer)
        os.wait()
        if "failed" in result:
            raise pytest.UsageError(f"fails unmutated: {items[min(result['failed'])[1]].nodeid}")
        return result

    def _reap(self, running: dict[int, Mutant]) -> None:
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            self.survivors.append(mutant)
            print(f"survives: {mutant.name}: {mutant.text}", flush=True)
        elif os.WIFSIGNALED(status):
            print(f"reaches a limit: {mutant.name}: {mutant.text}", flush=True)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _passes(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(report.failed for report in reports)


def _run(mutant: Mutant, tests: list[pytest.Item]) -> None:
    """Run in a fork until the first test that fails; exit with 0 when none does."""
    status = 2
    try:
        _silence()
        signal.alarm(LIMIT_SECONDS)
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + LIMIT_CPU_SECONDS,) * 2)
        mutant.original().__code__ = mutant.code
        status = 0 if all(map(_passes, tests)) else 1
    finally:
        os._exit(status)


def load_table() -> dict[str, dict[str, str]]:
    """Return why a mutant may survive, by function and change."""
    return tomllib.loads(TABLE.read_text())


def main() -> int:
    """Return 0 when every survivor is explained, and everything that is explained survives."""
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("rooms", nargs="*", default=["access"])
    parser.add_argument("-k", dest="wanted", default="", help="part of a function's name or change")
    parser.add_argument("--tests", nargs="*", default=(), help="files in place of the room's tests")
    parser.add_argument("--list", action="store_true", help="list the mutants alone")
    arguments = parser.parse_args()
    modules = [
        importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for room in arguments.rooms
        for file in sorted(
            (ROOT / "sidecar").glob(f"{room}/*.py" if "/" not in room else f"{room}.py")
        )
        if file.name != "__init__.py"
    ]
    mutants = [mutant for module in modules for mutant in mutants_of(module)]
    mutation = Mutation(mutants, arguments.wanted, arguments.tests)
    if arguments.list:
        print(*(f"{one.name}: {one.text}" for one in mutation.mutants), sep="\n")
        return 0
    code = pytest.main(
        [
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-m",
            "not exhaustive and not real",
            *sorted({path for one in mutation.mutants for path in mutation.paths(one)}),
        ],
        plugins=[mutation],
    )
    if code != pytest.ExitCode.NO_TESTS_COLLECTED and code != pytest.ExitCode.OK:
        return int(code)
    missing = gone(((one.name, one.text) for one in mutants), arguments.rooms)
    for name, text in sorted(missing):
        print(f"in the table, but there is no such mutant: {name}: {text}")
    return report(mutation) or int(bool(missing))


def gone(existing: Iterable[tuple[str, str]], rooms: Iterable[str]) -> set[tuple[str, str]]:
    """Return what the table explains in these rooms and is not among the ``existing`` mutants.

    Its function or expression has another name now, or is gone. ``rooms``: as on the command line.
    """
    prefixes = tuple(room.replace("/", ".") + "." for room in rooms)
    return {entry for entry in _entries() if entry[0].startswith(prefixes)} - set(existing)


def _entries() -> set[tuple[str, str]]:
    return {(name, text) for name, texts in load_table().items() for text in texts}


def report(mutation: Mutation) -> int:
    """Compare the survivors with the table."""
    table = _entries()
    survivors = {(one.name, one.text) for one in mutation.survivors}
    tried = {(one.name, one.text) for one in mutation.mutants}
    for name, text in sorted(survivors - table):
        print(f"not noticed by a test: {name}: {text}")
    for name, text in sorted((table & tried) - survivors):
        print(f"in the table, but noticed by a test: {name}: {text}")
    explained = len(survivors & table)
    print(f"{len(tried)} mutants, {len(survivors)} survive, {explained} of them explained")
    return int(survivors != table & tried)


if __name__ == "__main__":
    sys.exit(main())

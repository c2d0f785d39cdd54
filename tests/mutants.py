"""Mutation tests: change one expression of a function at a time; a test must fail for each change.

``make mutants`` runs this. Tests are collected once. Each mutant is a fork of that process, in which
the function's code is replaced and those tests run, shortest first, that enter the function. So a
mutant costs tens of milliseconds, and properties and decorated functions are mutated, too.

A mutant that no test notices is a survivor. It is explained in ``tables/surviving_mutants.toml``,
or the run fails. Tables and patterns at the level of a module are not mutated.
"""

import argparse
import ast
import copy
import importlib
import os
import pickle
import resource
import signal
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).parent / "tables" / "surviving_mutants.toml"
TESTS = ("tests/access", "tests/authorization")
LIMIT_CPU_SECONDS = 20
LIMIT_SECONDS = 600
"""A mutant may wait for ever. What reaches a limit counts as noticed."""

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_SWAPPED_NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
_TEXT_METHODS = {"strip", "upper", "lower", "removesuffix", "removeprefix", "replace"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A function with one expression changed. ``name``: the function's, ``text``: the change."""

    name: str
    text: str
    module: ModuleType
    code: CodeType


def changes(node: ast.AST, names: Mapping[str, object]) -> Iterator[ast.AST]:  # noqa: C901, PLR0912
    """Yield what may stand in the place of ``node``; ``names``: the module's."""
    match node:
        case ast.Compare(ops=[operator], comparators=[right]):
            yield ast.Compare(node.left, [_SWAPPED[type(operator)]()], [right])  # type: ignore[list-item]
            if isinstance(right, ast.Tuple | ast.Set):
                for at in range(len(right.elts)):
                    rest = ast.Tuple([*right.elts[:at], *right.elts[at + 1 :]], ast.Load())
                    yield ast.Compare(node.left, node.ops, [rest])
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                swapped = [*node.ops[:at], _SWAPPED[type(operator)](), *node.ops[at + 1 :]]
                yield ast.Compare(node.left, swapped, node.comparators)  # type: ignore[arg-type]
        case ast.BoolOp():
            yield ast.BoolOp(_SWAPPED[type(node.op)](), node.values)  # type: ignore[arg-type]
            for at in range(len(node.values)):
                rest = [*node.values[:at], *node.values[at + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _SWAPPED:
            swapped_operator = _SWAPPED[type(node.op)]()
            yield ast.BinOp(node.left, swapped_operator, node.right)  # type: ignore[arg-type]
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.If() | ast.While():
            if not isinstance(node, ast.While):
                yield type(node)(ast.Constant(True), node.body, node.orelse)
            yield type(node)(ast.Constant(False), node.body, node.orelse)
        case ast.comprehension() if node.ifs:
            for at in range(len(node.ifs)):
                rest = [*node.ifs[:at], *node.ifs[at + 1 :]]
                yield ast.comprehension(node.target, node.iter, rest, node.is_async)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Constant(value=str()):
            yield ast.Constant(f"XX{node.value}")
        case ast.Constant(value=bytes()):
            yield ast.Constant(b"XX" + node.value)
        case ast.Return() if node.value is not None and not _is_none(node.value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
            yield ast.Pass()
        case ast.Name(id=name) if name in _SWAPPED_NAMES:
            yield ast.Name(_SWAPPED_NAMES[name], node.ctx)
        case ast.Call(func=ast.Attribute(attr=method, value=receiver)) if method in _TEXT_METHODS:
            yield receiver
        case ast.Attribute(value=ast.Name(id=name), attr=member):
            members = names.get(name)
            if isinstance(members, type) and issubclass(members, Enum):
                others = [one for one in members.__members__ if one != member]
                if member in members.__members__ and others:
                    yield ast.Attribute(node.value, others[0], node.ctx)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _first_line(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text.partition("\n")[0] if isinstance(node, ast.stmt) else text


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Yield each mutant of each function and method of ``module``."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    for name, function in _functions(tree):
        seen: Counter[str] = Counter()
        for parent, field, at, node in _places(function):
            for changed in changes(node, vars(module)):
                text = f"{_first_line(node)} -> {_first_line(changed)}"
                seen[text] += 1
                if seen[text] > 1:
                    text = f"{text} ({seen[text]})"
                ast.copy_location(changed, node)
                _put(parent, field, at, changed)
                try:
                    mutated = ast.fix_missing_locations(copy.deepcopy(tree))
                    code = _find_code(compile(mutated, module.__file__, "exec"), name)
                finally:
                    _put(parent, field, at, node)
                yield Mutant(f"{module.__name__.removeprefix('sidecar.')}.{name}", text, module, code)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{method.name}", method


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield each node in the body below ``node`` with its place; annotations and defaults are left out."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # A docstring.
    for field, value in ast.iter_fields(node):
        if field in ("args", "returns", "annotation", "decorator_list") and not isinstance(
            node, ast.Call
        ):
            continue
        for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, at, child
                yield from _places(child)


def _put(parent: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[at] = node


def _find_code(code: CodeType, qualname: str) -> CodeType:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == qualname:
                return constant
            if qualname.startswith(f"{constant.co_qualname}."):
                return _find_code(constant, qualname)
    raise LookupError(qualname)


def live_function(module: ModuleType, name: str) -> FunctionType:
    """Return the function behind ``name``, below what decorates it."""
    found: object = module
    for part in name.split("."):
        found = vars(found)[part]
    while not isinstance(found, FunctionType):
        if isinstance(found, property):
            found = found.fget
        elif isinstance(found, classmethod | staticmethod):
            found = found.__func__
        else:
            if callable(clear := getattr(found, "cache_clear", None)):
                clear()
            found = found.__wrapped__  # type: ignore[attr-defined]
    while isinstance(inner := getattr(found, "__wrapped__", None), FunctionType):
        found = inner
    return found


class Mutation:
    """A pytest plugin: in place of running the tests once, run them for each mutant."""

    def __init__(self, mutants: list[Mutant], wanted: str) -> None:
        self.mutants = [one for one in mutants if wanted in f"{one.name}: {one.text}"]
        self.survivors: list[Mutant] = []

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

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Learn which test enters which function, then run each mutant in a fork."""
        items = session.items
        entered = self._entered(items)
        running: dict[int, Mutant] = {}
        for number, mutant in enumerate(self.mutants, 1):
            code = live_function(mutant.module, _own_name(mutant)).__code__
            tests = [items[at] for _, at in sorted(entered.get(_key(code), ()))]
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

    def _entered(self, items: list[pytest.Item]) -> Mapping[object, set[tuple[float, int]]]:
        """Return, by function, the tests that enter it, with their seconds."""
        wanted = {
            _key(live_function(one.module, _own_name(one)).__code__) for one in self.mutants
        }
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            found: dict[object, set[tuple[float, int]]] = {}
            _silence()
            for at, item in enumerate(items):
                hits: set[object] = set()

                def note(frame: FrameType, event: str, _: object, hits: set[object] = hits) -> None:
                    if event == "call" and (key := _key(frame.f_code)) in wanted:
                        hits.add(key)

                began = time.process_time()
                threading.setprofile(note)
                sys.setprofile(note)
                passed = _passes(item)
                sys.setprofile(None)
                if not passed:
                    found = {"failed": {(0.0, at)}}
                    break
                for hit in hits:
                    found.setdefault(hit, set()).add((time.process_time() - began, at))
            with os.fdopen(writer, "wb") as file:
                pickle.dump(found, file)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            result: dict[object, set[tuple[float, int]]] = pickle.load(file)  # noqa: S301 - our own fork
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


def _own_name(mutant: Mutant) -> str:
    return f"sidecar.{mutant.name}".removeprefix(f"{mutant.module.__name__}.")


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


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
        live_function(mutant.module, _own_name(mutant)).__code__ = mutant.code
        status = 0 if all(map(_passes, tests)) else 1
    finally:
        os._exit(status)


def load_table() -> dict[str, dict[str, str]]:
    """Return why a mutant may survive, by function and change."""
    return tomllib.loads(TABLE.read_text())


def main() -> int:
    """Return 0 when every survivor is explained, and everything that is explained survives."""
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("rooms", nargs="*", default=["access", "authorization"])
    parser.add_argument("-k", dest="wanted", default="", help="part of a function's name or change")
    parser.add_argument("--list", action="store_true", help="list the mutants alone")
    arguments = parser.parse_args()
    modules = [
        importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for room in arguments.rooms
        for file in sorted((ROOT / "sidecar").glob(f"{room}/*.py" if "/" not in room else f"{room}.py"))
        if file.name != "__init__.py"
    ]
    mutation = Mutation([one for module in modules for one in mutants_of(module)], arguments.wanted)
    if arguments.list:
        print(*(f"{one.name}: {one.text}" for one in mutation.mutants), sep="\n")
        return 0
    code = pytest.main(
        ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not exhaustive and not real", *TESTS],
        plugins=[mutation],
    )
    if code != pytest.ExitCode.NO_TESTS_COLLECTED and code != pytest.ExitCode.OK:
        return int(code)
    return report(mutation)


def report(mutation: Mutation) -> int:
    """Compare the survivors with the table."""
    table = {(name, text) for name, texts in load_table().items() for text in texts}
    survivors = {(one.name, one.text) for one in mutation.survivors}
    tried = {(one.name, one.text) for one in mutation.mutants}
    for name, text in sorted(survivors - table):
        print(f"not noticed by a test: {name}: {text}")
    for name, text in sorted((table & tried) - survivors):
        print(f"in the table, but noticed by a test: {name}: {text}")
    print(f"{len(tried)} mutants, {len(survivors)} survive, {len(survivors & table)} of them explained")
    return int(survivors != table & tried)


if __name__ == "__main__":
    sys.exit(main())

"""Where tests, fakes and tables are: no test module imports another, and peers are in one place."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tables.structure import SERVES_ELSEWHERE

ROOT = Path(__file__).parent
FILES = sorted(file for file in ROOT.rglob("*.py") if "node_modules" not in file.parts)
PROJECT = [
    file
    for folder in ("bench", "config", "docs", "sidecar")
    for file in sorted((ROOT.parent / folder).rglob("*.py"))
]
STARTS = {
    "Application",
    "stream_server",
    "start_server",
    "start_tls_server",
    "HTTPServer",
    "ThreadingHTTPServer",
}


_IMPORT = re.compile(
    r"^[ ]*((?:from tests[\w.]* import (?:\([^)]*\)|.*))|import tests.*)", re.MULTILINE
)


def _imported(source: str) -> Iterator[str]:
    """Yield what a module imports of ours. Its import statements alone are parsed."""
    for statement in _IMPORT.findall(source):
        (node,) = ast.parse(statement).body
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _test_modules(names: Iterator[str]) -> list[str]:
    """Return the names that are of a test module of ours, or in one."""
    return [
        name
        for name in names
        if name.startswith("tests.")
        and any(
            part.startswith("test_") and ROOT.joinpath(*parts[1:index], part + ".py").exists()
            for parts in [name.split(".")]
            for index, part in enumerate(parts)
        )
    ]


def _servers(source: str) -> Iterator[str]:
    """Yield the outermost function or class of each server that is started."""
    if not any(name in source for name in STARTS):
        return
    for outer in ast.parse(source).body:
        for node in ast.walk(outer):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "attr", getattr(called, "id", "")) in STARTS:
                yield getattr(outer, "name", "")


def test_no_test_module_is_imported() -> None:
    imports = {file: _test_modules(_imported(file.read_text())) for file in FILES}
    assert {str(file): names for file, names in imports.items() if names} == {}


def test_archives_and_ehrs_are_fakes() -> None:
    """Each server outside of tests/fakes/ has its reason in the table."""
    found = {
        f"{file.relative_to(ROOT)} {name}"
        for file in FILES
        if file.parent != ROOT / "fakes"
        for name in _servers(file.read_text())
    }
    assert found == SERVES_ELSEWHERE.keys()


def test_tables_have_no_tests() -> None:
    assert not list((ROOT / "tables").rglob("test_*.py"))


def test_tables_alone_are_formatted_by_hand() -> None:
    """Everything else looks as the formatter writes it."""
    by_hand = re.compile(r"#\s*(?:fmt|yapf):\s*(?:skip|off|disable)")
    outside = [file for file in FILES if ROOT / "tables" not in file.parents]
    assert len(PROJECT) > 200
    assert [str(file) for file in PROJECT + outside if by_hand.search(file.read_text())] == []
    tables = [file.read_text() for file in FILES if ROOT / "tables" in file.parents]
    assert any(by_hand.search(text) for text in tables)


def _below_main_guard(source: str) -> bool:
    """Say whether a name is defined below the guard; the program runs without it."""
    if "__main__" not in source:
        return False
    guards = [
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(source).body
    ]
    return any(guards[:-1])


def test_main_guards_stand_last() -> None:
    below = [file for file in PROJECT + FILES if _below_main_guard(file.read_text())]
    assert below == []


def test_definitions_below_a_main_guard_are_seen() -> None:
    """So that the test above can fail."""
    assert _below_main_guard('if __name__ == "__main__":\n    f()\ndef f(): ...')


@pytest.mark.parametrize(
    "line",
    [
        "import tests.test_structure",
        "from tests.test_structure import FILES",
        "from tests import test_structure",
        "from tests import (\n    waiting,\n    test_structure,\n)",
    ],
)
def test_imports_are_seen(line: str) -> None:
    """So that the test above can fail."""
    assert _test_modules(_imported(f"def test():\n    {line}\n"))


@pytest.mark.parametrize("line", ["web.Application()", "asyncio.start_server(f)", "Application()"])
def test_servers_are_seen(line: str) -> None:
    """So that the test above can fail."""
    assert list(_servers(f"def serve():\n    x = {line}")) == ["serve"]


def test_no_class_name_stands_twice() -> None:
    """So that a name in a log, a document or a search means one thing."""
    found = [
        node.name
        for file in (ROOT.parent / "sidecar").rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in found if found.count(name) > 1}) == []


def _terms(node: ast.expr | None) -> int:
    return sum(map(_terms, node.values)) if isinstance(node, ast.BoolOp) else 1


def test_long_conditions_have_names() -> None:
    """No boolean return has more than four terms."""
    found = [
        f"{file.name}:{node.lineno}"
        for file in (ROOT.parent / "sidecar").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Return) and _terms(node.value) > 4
    ]
    assert found == []

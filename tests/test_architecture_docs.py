"""The page of the architecture, the decisions and the limits say what is true."""

import re
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from sidecar.settings.document import Settings

ROOT = Path(__file__).parent.parent


def test_every_room_is_in_the_architecture() -> None:
    """A paragraph for each, and a box in the picture."""
    rooms = sorted(room.parent.name for room in (ROOT / "sidecar").glob("*/__init__.py"))
    text = (ROOT / "docs/architecture.md").read_text()
    assert sorted(re.findall(r"^\*\*`(\w+)`\*\* ", text, re.MULTILINE)) == rooms
    drawn = re.findall(r'<tspan class="name">(\w+)<', (ROOT / "docs/architecture.svg").read_text())
    assert sorted(drawn) == sorted([*rooms, "cli"])


def test_decisions_are_in_the_index_and_name_tests_that_exist() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \| (\S+) \|$", index, re.MULTILINE)
    files = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [name for _, name, _, _ in rows] == [file.name for file in files]
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    for (number, name, title, day), file in zip(rows, files, strict=True):
        text = file.read_text()
        assert name.startswith(f"{number}-")
        assert text.startswith(f"# {number}. {title}\n\nDate: {date.fromisoformat(day)}\n"), name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ], name
        tests = re.findall(r"^- `(tests/\S+)::(\w+)`$", text, re.MULTILINE)
        assert tests, name
        for path, function in tests:
            assert f"def {function}(" in (ROOT / path).read_text(), f"{name}: {path}::{function}"


_TABLES = re.findall(
    r"^\| what \| value \| setting or constant \| beyond it \|\n\|[- |]+\n((?:\|.*\n)+)",
    (ROOT / "docs/limits.md").read_text(),
    re.MULTILINE,
)
_ROWS = [row for table in _TABLES for row in table.splitlines()]
_LIMIT = re.compile(r"\| [^|]+ \| (\d+)(?: (KiB|MiB))? \| `([\w.]+)` \| [^|]+ \|")


def test_limits_are_found() -> None:
    assert len(_ROWS) > 50


@pytest.mark.parametrize("row", _ROWS)
def test_a_limit_is_that_of_the_code(row: str) -> None:
    """Each is a module's constant, or a setting with that default."""
    limit = _LIMIT.fullmatch(row)
    assert limit is not None
    number, unit, name = limit.groups("")
    module, _, last = name.rpartition(".")
    if last.isupper():
        value = getattr(import_module(f"sidecar.{module}"), last)
    else:
        value = getattr(get_type_hints(Settings)[module], last)
    assert int(number) * {"": 1, "KiB": 2**10, "MiB": 2**20}[unit] == value

"""The page of the limits says what is true."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from sidecar.settings.document import Settings

ROOT = Path(__file__).parent.parent

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
        section = Settings.model_fields[module].annotation
        value = section.model_fields[last].default  # type: ignore[union-attr]
    assert int(number) * {"": 1, "KiB": 2**10, "MiB": 2**20}[unit] == value

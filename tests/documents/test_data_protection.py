"""docs/data-protection.md has a row for each module that stores or remembers anything."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.markdown import ROOT

PACKAGE = ROOT / "sidecar"
# The trial and the commands that look at a site end with what they show.
ELSEWHERE = {"check", "conformance", "demo"}
_STORES = re.compile(
    r"\bO_(?:WRONLY|RDWR|CREAT)\b|\.write_(?:text|bytes)\(|\bmkdtemp\(|\bmkstemp\("
    r"|\bopen\([^)]*[\"'][wax]b?\+?[\"']|\bsqlite3\.connect\(|\bpsycopg\.connect\("
    r"|^(?:import|from) redis\b",
    re.MULTILINE,
)
_REMEMBERS = re.compile(
    r"\b(?:Loading|TTL|LRU|FIFO|LFU)Cache(?:\[.*\])?\s*\(|@(?:lru_)?cache\b|\blru_cache\("
)
# A ZIP is written into memory, piece by piece; the class of caches is no cache.
NO_STORE, NO_CACHE = {"dicomweb/zip_archive.py"}, {"common/loading_cache.py"}


def _modules(pattern: re.Pattern[str]) -> set[str]:
    """Return the modules of the package in which the pattern is found."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE)
        if name.parts[0] not in ELSEWHERE and pattern.search(file.read_text()):
            found.add(name.as_posix())
    return found


def _rows(heading: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the modules of each row of a section, with its other cells."""
    text = (ROOT / "docs/data-protection.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE):
        modules, *cells = row.split(" | ")
        for name in re.findall(r"`([^`]+)`", modules):
            yield name, cells


def test_what_is_at_rest() -> None:
    rows = dict(_rows("At rest"))
    assert rows.keys() == _modules(_STORES) - NO_STORE
    assert all(len(cells) == 4 and all(cells) for cells in rows.values())


def test_what_is_remembered() -> None:
    rows = dict(_rows("In memory"))
    # Its table of what is under way is a plain one.
    assert rows.keys() == (_modules(_REMEMBERS) - NO_CACHE) | {"pacs/deferred_requests.py"}
    assert all(len(cells) == 3 and all(cells) for cells in rows.values())


def test_each_whose_is_known() -> None:
    whose = [cells[1] for heading in ("At rest", "In memory") for _, cells in _rows(heading)]
    assert set(whose) == {"patients", "users", "patients and users", "nobody"}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("os.open(path, os.O_WRONLY)", _STORES),
        ('open(path, "wb")', _STORES),
        ("file.write_text(it)", _STORES),
        ("sqlite3.connect(file)", _STORES),
        ("self._x: TTLCache[str, bool] = TTLCache(10, 5)", _REMEMBERS),
        ("LoadingCache(", _REMEMBERS),
        ("@lru_cache(8)", _REMEMBERS),
        ("@cache", _REMEMBERS),
    ],
)
def test_it_is_seen(text: str, pattern: re.Pattern[str]) -> None:
    """So that the tests above can fail."""
    assert pattern.search(text)


def test_keys_that_are_named_exist() -> None:
    text = (ROOT / "docs/data-protection.md").read_text()
    settings = (ROOT / "docs/configuration.md").read_text()
    keys = re.findall(r"`((?:audit|fhir|limits|tokens|access)\.[a-z_.]+)`", text)
    assert len(set(keys)) > 10
    for key in keys:
        assert f"`{key}`" in settings, key


def test_modules_that_are_left_out_exist() -> None:
    assert all((PACKAGE / name).exists() for name in NO_STORE | NO_CACHE)
    assert all(Path(PACKAGE, room).is_dir() for room in ELSEWHERE)

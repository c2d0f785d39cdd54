"""Modules and tests that documents and docstrings name exist: a file that moves takes its name with
it.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_PATH = re.compile(r"(?<![\w/.:-])(?:\w+/)+\w+\.py\b")
_FILE = re.compile(r"(?:``|\(|, )(?:\w+/)*(\w+\.py)(?=``|[,)])")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_a_document_names(document: Path) -> None:
    """`pacs/client.py` is a file of the package, `tests/journey/world.py` one of the project."""
    for name in _PATH.findall(document.read_text()):
        assert (ROOT / name).exists() or (ROOT / "sidecar" / name).exists(), name


def test_what_a_docstring_names() -> None:
    """``cache.py``: a file of that name is somewhere in the package or the tests.

    ``pacs/client.py`` is one of the package, of the tests or of the project.
    """
    files = [
        file
        for room in ("sidecar", "tests", "bench", "release")
        for file in (ROOT / room).rglob("*.py")
    ]
    names = {file.name for file in files}
    # Both make up modules for their own tests.
    for file in set(files) - {Path(__file__), ROOT / "tests/test_coverage_floors.py"}:
        text = file.read_text()
        for name in _FILE.findall(text):
            assert name in names, f"{file}: {name}"
        for name in _PATH.findall(text):
            folders = (ROOT, ROOT / "sidecar", ROOT / "tests", file.parent)
            assert any((folder / name).exists() for folder in folders), f"{file}: {name}"


def test_names_are_found() -> None:
    """So that the tests above can fail."""
    assert _PATH.findall("`web/guard.py`, (pacs/verify.py) http://x/y/z.py") == [
        "web/guard.py",
        "pacs/verify.py",
    ]
    assert _FILE.findall("(``aside.py``), (heads.py, layouts.py)") == [
        "aside.py",
        "heads.py",
        "layouts.py",
    ]

"""docs/dependencies.md has each direct dependency, under the licence that it has."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import pytest

from tests.release.pins import PINS, ROOT
from tests.tables.licences import SERVES, SILENT, SPELLINGS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = {"dependencies": PROJECT["dependencies"]} | PROJECT["optional-dependencies"]
SERVING = ("dependencies", "demo", "postgresql", "redis", "tracing")


def _rows(group: str) -> dict[str, list[str]]:
    """Return the cells behind each package's name."""
    text = (ROOT / "docs/dependencies.md").read_text()
    section = re.split(rf"^## `{group}`$", text, flags=re.MULTILINE)[1].partition("\n## ")[0]
    lines = re.findall(r"^\| (?!package|---)(.*) \|$", section, re.MULTILINE)
    return {name: cells for name, *cells in (line.split(" | ") for line in lines)}


def _named(group: str) -> list[str]:
    names = [re.match(r"[\w.-]+", requirement) for requirement in GROUPS[group]]
    return [found[0] for found in names if found and found[0] != PROJECT["name"]]


ALL = [(group, name) for group in GROUPS for name in _named(group)]


def _licences(name: str) -> set[str]:
    """Return what the metadata of a package may mean."""
    about = metadata(name)
    if expressions := about.get_all("License-Expression"):
        return {*expressions}
    classifiers = [text for text in about.get_all("Classifier") or () if "License ::" in text]
    said = [text.rpartition(":: ")[2] for text in (*classifiers, *(about.get_all("License") or ()))]
    found = {SPELLINGS.get(text, text) for text in said}
    return found | {" OR ".join(sorted(found))} if found else {SILENT[name]}


@pytest.mark.parametrize("group", GROUPS)
def test_each_dependency_has_a_row_and_each_row_is_one(group: str) -> None:
    rows = _rows(group)
    assert sorted(rows) == sorted(_named(group))
    assert [name for name, cells in rows.items() if len(cells) != 4 or not all(cells)] == []


@pytest.mark.parametrize(("group", "name"), ALL)
def test_the_licence_is_the_one_in_the_metadata(group: str, name: str) -> None:
    try:
        found = _licences(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert _rows(group)[name][2] in found


@pytest.mark.parametrize("group", SERVING)
def test_what_serves_has_a_licence_that_leaves_our_code_alone(group: str) -> None:
    for name, (_, _, licence, _) in _rows(group).items():
        assert (
            set(re.findall(r"[\w.-]*\d[\w.-]*|[A-Z][\w-]+", licence)) - {"AND", "OR"} <= SERVES
        ), name


def test_what_builds_has_a_row() -> None:
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {PINS.canonical(requirement) for requirement in system} <= set(_rows("release"))

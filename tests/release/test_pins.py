"""What is installed has the hashes of the lock, and is all that is needed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement

from tests.release.pins import PINS, ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = sorted(PROJECT["project"]["optional-dependencies"])


def _names(text: str) -> set[str]:
    return {PINS.canonical(line) for line in re.findall(r"^\S.*==.*$", text, re.MULTILINE)}


def _needed(requirements: Iterable[str]) -> set[str]:
    """Return the names that are needed, by what the installed packages say of themselves."""
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        one = todo.pop()
        key = (PINS.canonical(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = [Requirement(text) for text in requires(one.name) or ()]
        except PackageNotFoundError:
            continue
        extras = {"", *one.extras}
        todo += [
            other
            for other in found
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in extras)
        ]
    return {name for name, _ in seen}


def test_each_pin_has_hashes() -> None:
    entries = re.findall(r"^[^\s#].*(?:\n[ ].*)*", LOCK, re.MULTILINE)
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize("name", ["dependencies", "build-system", *EXTRAS])
def test_the_pins_of_a_use_are_all_that_it_needs(name: str) -> None:
    missing = _needed(PINS.named(PROJECT, name)) - _names(PINS.pins(PROJECT, LOCK, [name]))
    assert missing == set()


def test_the_pins_of_a_use_are_no_more() -> None:
    served = _names(PINS.pins(PROJECT, LOCK, ["dependencies"]))
    assert not served & {"pytest", "hatchling", "redis", "psycopg", "ruff", "opentelemetry-api"}
    assert "redis" in _names(PINS.pins(PROJECT, LOCK, ["dependencies", "redis"]))
    everything = _names(PINS.pins(PROJECT, LOCK, ["dependencies", "build-system", *EXTRAS]))
    assert everything == _names(LOCK)


def test_what_the_lock_does_not_have_is_named() -> None:
    without = re.sub(r"^aiohttp==.*\n(?:[ ].*\n)*", "", LOCK, flags=re.MULTILINE)
    with pytest.raises(SystemExit, match="does not have aiohttp: make lock"):
        PINS.pins(PROJECT, without, ["dependencies"])


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["demo", "test"], ["demo,nothing"]])
def test_other_names_are_refused(arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / ".ci/pins"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("names with commas between, of these: build-system, demo,")


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_whatever_comes_from_an_index_has_a_hash(file: str) -> None:
    """But for our own package, and for two that make or test, and are installed by themselves."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    installed = re.findall(r"pip (?:--python \S+ )?install ([^&\n;]*)", text)
    exempt = ("--no-deps", "-q --no-deps", "-q 'uv>=")
    assert len(installed) >= 3
    for options in installed:
        assert "--require-hashes" in options or options.startswith(exempt), options

"""Permits are made by the decision and by nobody else, and none of their fields has a default."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar
from sidecar.access import facts, permits, visibility

ROOT = Path(sidecar.__file__).parent
MADE_IN = {
    "PatientPermit": {"access/decision.py"},
    "HeaderPermit": {"access/decision.py"},
    "StudyPermit": {"access/decision.py"},
    "GrantPath": {"access/decision.py"},
    "Visible": {"access/visibility.py"},
    "replace permit": set(),
}
"""What permits -> the files that construct it."""
WITHOUT_DEFAULTS = (
    permits.PatientPermit, permits.HeaderPermit, permits.StudyPermit, permits.GrantPath, permits.Capability,
    visibility.Visible, facts.Policy, facts.BackendClient, facts.Rule, facts.StudyFacts, facts.InstanceHeader,
)  # fmt: skip


def constructions() -> Iterator[tuple[str, str]]:
    """Yield the name that is called and the file; ``replace(permit, …)`` calls ``replace permit``."""
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else getattr(node.func, "id", "")
                )
                if name == "replace" and node.args and "permit" in ast.unparse(node.args[0]):
                    name = "replace permit"
                yield name, file.relative_to(ROOT).as_posix()


def test_permits_are_made_in_one_file() -> None:
    found: dict[str, set[str]] = {name: set() for name in MADE_IN}
    for name, file in constructions():
        if name in found:
            found[name].add(file)
    assert found == MADE_IN


@pytest.mark.parametrize("kind", WITHOUT_DEFAULTS, ids=lambda kind: kind.__name__)
def test_what_is_not_said_permits_nothing(kind: type) -> None:
    """Each field must be said: a default would be what somebody forgot to restrict."""
    for one in dataclasses.fields(kind):
        assert one.default is dataclasses.MISSING, one.name
        assert one.default_factory is dataclasses.MISSING, one.name

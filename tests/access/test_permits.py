"""Permits are made by the decision and by nobody else, and none of their fields has a default."""

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar
from sidecar.access import decision, facts, permits, visibility
from sidecar.pacs.client import PacsClient
from sidecar.pacs.instance_patients import InstancePatients
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.pacs.studies import Studies
from sidecar.pacs.study_lists import StudyLists

ROOT = Path(sidecar.__file__).parent
MADE_IN = {
    "PatientPermit": {"access/decision.py"},
    "SearchPermit": {"access/decision.py"},
    "HeaderPermit": {"access/decision.py"},
    "StudyPermit": {"access/decision.py"},
    "GrantPath": {"access/decision.py"},
    "Visible": {"access/visibility.py"},
    "AuthorizedRequest": {"authorization/authorizer.py"},
    # What decisions rest on, and samples of `check`.
    "Inquiry": {
        "check/sample.py",
        "pacs/counts.py",
        "pacs/issuer_check.py",
        "pacs/ownership.py",
        "pacs/study_owners.py",
    },
    "replace permit": set(),
}
"""What permits -> the files that construct it."""
READS = (
    PacsClient.search,
    RetrieveClient.open,
    RetrieveClient.head,
    InstancePatients.of,
    StudyLists.of_patient,
    Studies.series_of,
    Studies.series,
    Studies.instances,
    Studies.holding,
)
"""What returns an archive's data to other rooms."""
WITHOUT_DEFAULTS = (
    permits.PatientPermit,
    permits.HeaderPermit,
    permits.SearchPermit,
    permits.StudyPermit,
    permits.GrantPath,
    permits.Capability,
    visibility.Visible,
    facts.Policy,
    facts.BackendClient,
    facts.Rule,
    facts.StudyFacts,
    facts.InstanceHeader,
    permits.Inquiry,
    facts.PatientFacts,
)


def constructions() -> Iterator[tuple[str, str]]:
    """Yield each called name and its file; ``replace(permit, …)`` calls ``replace permit``."""
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


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__qualname__)
def test_what_reads_from_the_archive_takes_a_permit(read: Callable[..., Any]) -> None:
    """It has to be given: there is none by default."""
    parameter = inspect.signature(read).parameters["permit"]
    assert parameter.default is inspect.Parameter.empty
    assert "Permit" in str(parameter.annotation)


def test_the_decision_is_short_enough_to_be_read() -> None:
    assert len(Path(decision.__file__).read_text().splitlines()) <= 200

"""OperationOutcome, and that every failure of ours has an issue type of R4."""

import importlib
import pkgutil
from collections.abc import Iterator

from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import given
from hypothesis import strategies as st

import sidecar
from sidecar.common.errors import Problem
from sidecar.fhir.outcome import operation_outcome
from tests.tables.issue_types import ISSUE_TYPES

texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs"]), min_size=1)


@given(
    st.sampled_from(ISSUE_TYPES),
    texts,
    st.sampled_from(["fatal", "error", "warning", "information"]),
)
def test_an_outcome_says_what_it_was_told(code: str, diagnostics: str, severity: str) -> None:
    outcome = operation_outcome(code, diagnostics, severity=severity)
    issue = OperationOutcome.model_validate(outcome).issue[0]
    assert (issue.code, issue.diagnostics, issue.severity) == (code, diagnostics, severity)


def test_an_outcome_is_an_error_unless_said_otherwise() -> None:
    assert (
        operation_outcome("not-found", "There is no such resource.")["issue"][0]["severity"]
        == "error"
    )


def problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    yield kind
    for more in kind.__subclasses__():
        yield from problems(more)


def test_every_problem_has_an_issue_type() -> None:
    """Also those that other rooms define."""
    for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if not module.name.startswith("sidecar.demo") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = list(problems())
    assert len(found) > 8
    for kind in found:
        assert kind.code in ISSUE_TYPES, kind.__name__
        assert 400 <= kind.status < 600, kind.__name__
        OperationOutcome.model_validate(operation_outcome(kind.code, "Not now."))

"""Why a server rejects an event, in words that can stand in logs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.operation_outcome import reason
from tests.tables.issue_types import ISSUE_TYPES


def outcome(**issue: Any) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error"} | issue]}


@pytest.mark.parametrize("kind", ISSUE_TYPES)
def test_each_type_is_said(kind: str) -> None:
    assert reason(outcome(code=kind)) == kind


@pytest.mark.parametrize(
    ("diagnostics", "said"),
    [
        ("HAPI-0507: Resource contains external reference", ", HAPI-0507, external reference"),
        ("HAPI-1094: Resource Patient/p1 not found", ", HAPI-1094, reference to nothing it has"),
        ("HAPI-9999: p1", ", HAPI-9999"),
        ("p1 HAPI-0507: p1", ""),
        ("HAPI-p1: p1", ""),
        (["p1"], ""),
        (None, ""),
    ],
)
def test_no_text_of_the_server_is_said(diagnostics: Any, said: str) -> None:
    assert reason(outcome(code="processing", diagnostics=diagnostics)) == "processing" + said
    assert reason(outcome(code="p1", details={"text": "p1"})) == "unknown"


def test_the_first_error_counts() -> None:
    issues = [
        {"severity": "warning", "code": "invalid"},
        "p1",
        {"severity": "fatal", "code": "value"},
        {"severity": "error", "code": "required"},
    ]
    assert reason({"issue": issues}) == "value"
    assert reason({"issue": issues[:2]}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["issue", "severity", "code", "diagnostics"]), inner)
    ),
)


@given(JSON)
def test_junk_raises_nothing(junk: Any) -> None:
    reason(junk)
    reason({"issue": junk})
    reason(outcome(code=junk, diagnostics=junk))

"""OperationOutcome (https://hl7.org/fhir/R4/operationoutcome.html)."""

from typing import Any


def operation_outcome(code: str, diagnostics: str, *, severity: str = "error") -> dict[str, Any]:
    """Return an OperationOutcome with one issue.

    ``code`` is an issue type, ``diagnostics`` is shown to people.
    """
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": diagnostics}],
    }

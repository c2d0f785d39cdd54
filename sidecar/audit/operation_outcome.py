"""Read why a FHIR server rejects an event, as words that can stand in logs (FHIR R4)."""

import re
from itertools import islice
from typing import Any

_MOST_ISSUES = 100
_TYPES = frozenset(
    "invalid structure required value invariant security login unknown expired forbidden"  # noqa: SIM905
    " suppressed processing not-supported duplicate multiple-matches not-found deleted"
    " too-long code-invalid extension too-costly business-rule conflict transient"
    " lock-error no-store exception timeout incomplete throttled informational".split()
)
"""FHIR R4 valueset-issue-type.html"""
_HAPI = re.compile(r"(HAPI-[0-9]{4}): ", re.ASCII)
_MEANINGS = {"HAPI-0507": "external reference", "HAPI-1094": "reference to nothing it has"}


def reason(outcome: Any) -> str | None:
    """Return the type of the first error of an OperationOutcome, and HAPI's number of its text.

    Return ``None`` if there is none. Texts may quote the event, and are left out.
    """
    if not isinstance(outcome, dict) or not isinstance(issues := outcome.get("issue"), list):
        return None
    for issue in islice(issues, _MOST_ISSUES):
        if isinstance(issue, dict) and issue.get("severity") in ("error", "fatal"):
            kind = issue.get("code")
            words = [kind if isinstance(kind, str) and kind in _TYPES else "unknown"]
            if number := _HAPI.match(str(issue.get("diagnostics", ""))):
                words.append(number[1])
                words += filter(None, [_MEANINGS.get(number[1])])
            return ", ".join(words)
    return None

"""The outcomes of the checks of a configuration, in four states."""

from typing import NamedTuple

from sidecar.common.errors import Problem
from sidecar.common.fetch import FetchFailed
from sidecar.conformance.finding import State


class CheckOutcome(NamedTuple):
    """Outcome of a check. With the name of the check it is a ``Finding``."""

    state: State
    text: str
    hint: str | None = None


def ok(text: str) -> CheckOutcome:
    """Return the outcome of something that works."""
    return CheckOutcome(State.OK, text)


def warning(text: str, hint: str) -> CheckOutcome:
    """Return the outcome of something that works, but probably not as meant."""
    return CheckOutcome(State.WARN, text, hint)


def failure(text: str, hint: str) -> CheckOutcome:
    """Return the outcome of something that does not work."""
    return CheckOutcome(State.FAIL, text, hint)


def unreachable(url: str, error: FetchFailed) -> CheckOutcome:
    """Return a failure for a server that was not reached, or whose answer cannot be used."""
    hint = "Is it reachable from here? ca_file trusted?"
    return failure(f"{url}: {error.detail or error.reason}", hint)


def skipped(text: str) -> CheckOutcome:
    """Return the outcome of something that was not checked. ``text`` says why."""
    return CheckOutcome(State.SKIP, text)


TOO_SLOW = "It answers too slowly: limits.defer_after_seconds, limits.pacs_timeout_seconds."
_NOT_REACHED = "It is not reached: is its URL right, and open to us? ehr.ca_file trusted?"
_HINTS = {
    "pacs_timeout": TOO_SLOW,
    "pacs_warming": TOO_SLOW,
    "policy_timeout": "It answers too slowly: limits.external_timeout_seconds.",
    "introspection_unreachable": _NOT_REACHED,
    "jwks_unreachable": _NOT_REACHED,
    "patient_unreachable": _NOT_REACHED,
    "group_unreachable": _NOT_REACHED,
    "backend_token_unreachable": _NOT_REACHED,
}


def hint_of(problem: Problem, otherwise: str) -> str:
    """Return the hint for a peer that did not answer, or not in time, or else ``otherwise``."""
    if problem.reason in _HINTS or not problem.reason.endswith("_timeout"):
        return _HINTS.get(problem.reason, otherwise)
    return "The EHR answers too slowly: limits.ehr_timeout_seconds."


def failure_of(problem: Problem, hint: str) -> CheckOutcome:
    """Return a failure with the problem's reason and detail for operators.

    ``hint`` is for a peer that answered, and in time.
    """
    return failure(problem.for_operators(), hint_of(problem, hint))

"""The findings of a check of ours, in their four states."""

from sidecar.access.permits import Inquiry
from sidecar.common.errors import Problem
from sidecar.conformance.finding import Finding, State

OURS = Inquiry(frozenset())
"""Samples of rows that a check asks for, for no patient."""


def ok(name: str, text: str) -> Finding:
    """As it should be."""
    return Finding(name, State.OK, text)


def warning(name: str, text: str, hint: str) -> Finding:
    """Works, but probably not as meant."""
    return Finding(name, State.WARN, text, hint)


def failure(name: str, text: str, hint: str) -> Finding:
    """Does not work."""
    return Finding(name, State.FAIL, text, hint)


def skipped(name: str, text: str) -> Finding:
    """Not looked at, and why."""
    return Finding(name, State.SKIP, text)


def failed(name: str, problem: Problem, hint: str) -> Finding:
    """A ``Problem``, with its reason and detail for operators."""
    return failure(name, problem.for_operators(), hint)


def slow_ehr(problem: Problem, otherwise: str) -> str:
    """Return the hint for an EHR that did not answer in time, ``otherwise`` for any other problem."""
    is_slow = problem.reason.endswith("_timeout")
    return "The EHR answers too slowly: ehr.timeout_seconds." if is_slow else otherwise

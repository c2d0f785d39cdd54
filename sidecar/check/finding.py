"""What a check found, as a table for people and as JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from textwrap import wrap

from sidecar.common.errors import Problem

_WIDTH = 100


class State(StrEnum):
    """``WARN``: it works, but not as it probably should. ``SKIP``: could not be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: ``name`` is stable, ``text`` says what was found, ``hint`` what to do about it.

    Neither names a patient or a study, or holds a secret.
    """

    name: str
    state: State
    text: str
    hint: str | None = None


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


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether something does not work."""
    return any(finding.state is State.FAIL for finding in findings)


def table(findings: Sequence[Finding]) -> str:
    """Lines of ``state  name  text``, hints below."""
    width = max(len(finding.name) for finding in findings)
    indent = " " * (8 + width)
    lines = []
    for finding in findings:
        text = wrap(finding.text, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
        text = [printable(line) for line in text]
        lines.append(f"{finding.state:<5} {finding.name:<{width}}  {text[0]}")
        lines += [indent + line for line in text[1:]]
        if finding.hint is not None:
            hint = wrap(finding.hint, _WIDTH - len(indent) - 3, break_long_words=False, break_on_hyphens=False)
            lines += [indent + ("-> " if not number else "   ") + line for number, line in enumerate(hint)]
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)


def printable(text: str) -> str:
    """What a server wrote must not steer a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def as_json(findings: Sequence[Finding]) -> str:
    """``{"ok": …, "findings": [{"name", "state", "text", "hint"}]}``; states in lower case."""
    rows = [{**asdict(finding), "state": finding.state.value.lower()} for finding in findings]
    return json.dumps({"ok": not has_failed(findings), "findings": rows}, indent=2)

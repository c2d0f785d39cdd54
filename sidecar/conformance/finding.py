"""What was found of each requirement, as a table for people and as JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from textwrap import wrap

from sidecar.check.finding import printable

_WIDTH = 100
_INDENT = 20


class State(StrEnum):
    """``NOT_TESTED``: could not be looked at."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``text`` is what was seen, or why nothing was; ``requirement`` what is demanded.

    It names no patient and no study, and holds no token: it can be sent to the server's maker.
    """

    number: int
    checked: str
    state: State
    text: str
    requirement: str


def has_problem(findings: Sequence[Finding]) -> bool:
    """Whether a requirement is not kept."""
    return any(finding.state is State.PROBLEM for finding in findings)


def table(findings: Sequence[Finding]) -> str:
    """For each finding its state, its number and what was checked; below, what was seen; last, how many of each."""
    lines = []
    for finding in findings:
        lines += _wrapped(f"{finding.state:<11} {f'SIA-{finding.number}':<7} ", finding.checked)
        if finding.state is State.PROBLEM:
            lines += _wrapped(" " * _INDENT + "seen: ", finding.text)
            lines += _wrapped(" " * _INDENT + f"SIA-{finding.number}: ", finding.requirement)
        else:
            lines += _wrapped(" " * _INDENT, finding.text)
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)


def _wrapped(begin: str, text: str) -> list[str]:
    return wrap(
        printable(text), _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def as_json(findings: Sequence[Finding]) -> str:
    """``{"ok": …, "findings": [{"number", "checked", "state", "text", "requirement"}]}``; number is ``SIA-<n>``."""
    rows = [{**asdict(one), "number": f"SIA-{one.number}"} for one in findings]
    return json.dumps({"ok": not has_problem(findings), "findings": rows}, indent=2)

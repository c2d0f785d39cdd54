"""Findings of checks, as a table for people and as JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from textwrap import wrap

_WIDTH = 100
_NAME_WIDTH = 30
"""Width of names in columns. The text of a longer name stands below it."""


class State(StrEnum):
    """Result of a check. ``WARN``: it works, but probably not as meant. ``SKIP``: not known."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """Line of the report. ``name`` is stable, ``text`` says what was seen.

    ``hint`` says what to do, or what is required. No field names a patient or a study, or has a
    secret: the report can be sent to support.
    """

    name: str
    state: State
    text: str
    hint: str | None = None


def has_failed(findings: Sequence[Finding]) -> bool:
    """Return whether a check has failed, or a requirement is not kept."""
    return any(finding.state is State.FAIL for finding in findings)


def table(findings: Sequence[Finding]) -> str:
    """Return lines of ``state  name  text`` with hints below, and the count of each state."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        begin = f"{finding.state:<5} {finding.name:<{width}}  "
        if width > _NAME_WIDTH:
            lines.append(begin.rstrip())
            begin = " " * 13
        lines += _wrapped(begin, finding.text)
        if finding.hint is not None:
            lines += _wrapped(" " * len(begin) + "-> ", finding.hint)
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)


def _wrapped(begin: str, text: str) -> list[str]:
    """Return lines of ``text`` behind and below ``begin``, without control characters.

    A server's text must not steer a terminal.
    """
    width = _WIDTH - len(begin)
    lines = wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    printable = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    return [
        (begin if number == 0 else " " * len(begin)) + line for number, line in enumerate(printable)
    ]


def as_json(findings: Sequence[Finding]) -> str:
    """Return ``{"ok": …, "findings": [{"name", "state" (lower case), "text", "hint"}]}``."""
    rows = [{**asdict(finding), "state": finding.state.value.lower()} for finding in findings]
    return json.dumps({"ok": not has_failed(findings), "findings": rows}, indent=2)

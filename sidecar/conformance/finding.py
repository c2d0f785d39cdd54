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

    ``hint`` says what to do, or what is required; ``level`` how much a requirement demands. No
    field names a patient or a study, or has a secret: the report can be sent to support.
    """

    name: str
    state: State
    text: str
    hint: str | None = None
    level: str | None = None


def has_failed(findings: Sequence[Finding]) -> bool:
    """Return whether a check has failed, or a requirement is not kept."""
    return any(finding.state is State.FAIL for finding in findings)


def table(findings: Sequence[Finding]) -> str:
    """Return lines of ``state  name  text`` with hints below, and the count of each state."""
    labels = [
        finding.name + (f" ({finding.level})" if finding.level else "") for finding in findings
    ]
    width = max(map(len, labels))
    lines = []
    for finding, label in zip(findings, labels, strict=True):
        begin = f"{finding.state:<5} {label:<{width}}  "
        if width > _NAME_WIDTH:
            lines.append(begin.rstrip())
            begin = " " * 13
        lines += _wrapped(begin, finding.text)
        if finding.hint is not None:
            lines += _wrapped(" " * len(begin) + "-> ", finding.hint)
    lines.append(summary(findings))
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """Return the count of each state that there is."""
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _wrapped(begin: str, text: str) -> list[str]:
    """Return lines of ``text`` behind and below ``begin``, without control characters.

    A server's text must not steer a terminal.
    """
    width = _WIDTH - len(begin)
    lines = wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    return [
        (begin if number == 0 else " " * len(begin)) + printable(line)
        for number, line in enumerate(lines)
    ]


def printable(text: str) -> str:
    """Return the text with a question mark for each character that cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in text)


def as_json(findings: Sequence[Finding], **about: str) -> str:
    """Return ``{"ok": …, "findings": [{"name", "state" (lower case), "text", "hint"}]}``.

    ``about`` are further members; a finding has ``level`` where it is a requirement's.
    """
    rows = [{**asdict(finding), "state": finding.state.value.lower()} for finding in findings]
    for row in rows:
        if row["level"] is None:
            del row["level"]
    return json.dumps({"ok": not has_failed(findings), **about, "findings": rows}, indent=2)

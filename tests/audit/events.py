"""Requests that are recorded, and their events."""

import json
from typing import Any

from fhir.resources.R4B.auditevent import AuditEvent

from sidecar.access.facts import Part, Token
from sidecar.audit.event import SUCCESS, AuditSource, audit_line
from sidecar.audit.record import AccessRecord
from tests.audit.profiles import breaches

SOURCE = AuditSource(
    "smart-imaging-sidecar 1",
    "https://ehr.example.org/fhir",
    "https://imaging.example.org/fhir",
    "Example Hospital",
)
TOKEN = Token(
    (), 9e9, patient="p1", client_id="viewer", subject="user-7", issuer="https://ehr.example.org"
)
PIPE_BUF = 4_096


def record(route: str, **changes: Any) -> AccessRecord:
    """Of a permitted request."""
    values: dict[str, Any] = {
        "address": "192.0.2.1",
        "route": route,
        "token": TOKEN,
        "token_hash": "ab" * 16,
        "patient": "p1",
    } | changes
    return AccessRecord("r1", **values)


def event(of: AccessRecord, outcome: str = SUCCESS, source: AuditSource = SOURCE) -> dict[str, Any]:
    """The event, which must be valid FHIR, and of the profile that it claims."""
    line = audit_line(
        of, source, recorded="2026-11-25T01:00:00.000+00:00", outcome=outcome, step="status 200"
    )
    AuditEvent.model_validate_json(line)
    assert len(line) < PIPE_BUF
    built: dict[str, Any] = json.loads(line)
    assert "meta" not in built or not breaches(built)
    return built


def searched() -> AccessRecord:
    """Of a permitted FHIR search."""
    asked = record("imaging-study-search")
    asked.searches("/fhir/ImagingStudy", [("patient", "p1")])
    return asked


def read() -> AccessRecord:
    """Of a permitted read of an ImagingStudy."""
    return record("imaging-study-read", part=Part("1.2.3"))


def change(built: dict[str, Any], path: str, value: Any) -> None:
    """Set the element at a path; ``None`` removes it."""
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    for step in steps:
        built = built[step]  # type: ignore[index]
    if value is None:
        del built[last]  # type: ignore[arg-type]
    else:
        built[last] = value  # type: ignore[index]

"""Answers of an introspection about a token that is active."""

from typing import Any

ACTIVE: dict[str, Any] = {
    "active": True,
    "scope": "launch/patient patient/ImagingStudy.rs",
    "client_id": "app",
    "exp": 1_700_000_060,
    "patient": "p1",
}

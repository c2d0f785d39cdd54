"""The profiles of tests/tables/balp.py as FHIR R4 StructureDefinitions, for a validator."""

from collections.abc import Iterator
from typing import Any

from tests.tables.balp import PROFILES, Code, Slice

Json = dict[str, Any]
_ORDER = (
    *("what", "type", "role", "who", "requestor", "media", "network"),
    *("lifecycle", "query", "detail"),
)
"""That of AuditEvent's own definition. A validator passes over what is out of order."""


def structure_definition(url: str) -> Json:
    """Return the profile, with its parents' constraints."""
    profile, name = PROFILES[url], url.rpartition(".")[2]
    elements: list[Json] = [
        {"id": "AuditEvent", "path": "AuditEvent"},
        _element("type", patternCoding=_coding(profile.type)),
        _element("action", min=1, fixedCode=profile.action),
        _element("outcome", min=1, fixedCode=profile.outcome),
        *_slices("agent", profile.agents, 2),
        *_slices("entity", profile.entities, profile.least_entities),
    ]
    return {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": url,
        "name": name,
        "status": "active",
        "fhirVersion": "4.0.1",
        "kind": "resource",
        "abstract": False,
        "type": "AuditEvent",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/AuditEvent",
        "derivation": "constraint",
        "differential": {"element": elements},
    }


def _slices(kind: str, slices: dict[str, Slice], least: int) -> Iterator[Json]:
    slicing = {"discriminator": [{"type": "pattern", "path": "type"}], "rules": "open"}
    yield _element(kind, slicing=slicing, min=least)
    for name, of in slices.items():
        yield _element(f"{kind}:{name}", sliceName=name, min=of.least, max=str(of.most))
        coding = _coding(of.type)
        pattern = (
            {"patternCodeableConcept": {"coding": [coding]}}
            if kind == "agent"
            else {"patternCoding": coding}
        )
        constraints: dict[str, Json] = {"type": {"min": 1} | pattern}
        constraints |= {element: {"min": 1} for element in of.has}
        constraints |= {element: {"max": "0"} for element in of.has_not}
        constraints |= {element: {"fixedBoolean": value} for element, value in of.fixed}
        if len(of.roles) == 1:
            constraints["role"] = {"min": 1, "patternCoding": _coding(of.roles[0])}
        for element in sorted(constraints, key=_ORDER.index):
            yield _element(f"{kind}:{name}.{element}", **constraints[element])


def _element(path: str, **more: Any) -> Json:
    plain = ".".join(step.partition(":")[0] for step in path.split("."))
    return {"id": f"AuditEvent.{path}", "path": f"AuditEvent.{plain}"} | more


def _coding(code: Code) -> Json:
    return {"system": code[0], "code": code[1]}

"""Hold an AuditEvent against the profiles of tests/tables/balp.py."""

from collections.abc import Iterator
from typing import Any

from tests.tables.balp import PROFILES, Code, Slice

Json = dict[str, Any]


def breaches(event: Json) -> list[str]:
    """Return what is not as the event's profiles demand; it claims one at least."""
    claimed = event["meta"]["profile"]
    assert claimed
    return [breach for name in claimed for breach in _breaches(event, name)]


def _breaches(event: Json, name: str) -> Iterator[str]:
    profile = PROFILES[name]
    if (event["action"], event["outcome"]) != (profile.action, profile.outcome):
        yield "action, outcome"
    if _code(event["type"]) != profile.type:
        yield "type"
    if not set(map(_code, event["subtype"])) & set(profile.subtypes):
        yield "subtype"
    if len(event["entity"]) < profile.least_entities:
        yield "entity"
    for kind, slices in (("agent", profile.agents), ("entity", profile.entities)):
        for of, demanded in slices.items():
            found = [one for one in event[kind] if demanded.type in _codes(one["type"])]
            if not demanded.least <= len(found) <= demanded.most:
                yield f"{kind}:{of} {len(found)} times"
            for one in found:
                yield from (f"{kind}:{of} {what}" for what in _of_slice(one, demanded))


def _of_slice(one: Json, demanded: Slice) -> Iterator[str]:
    yield from (f"without {name}" for name in demanded.has if not one.get(name))
    yield from (f"with {name}" for name in demanded.has_not if name in one)
    if demanded.roles and _code(one.get("role", {})) not in demanded.roles:
        yield "role"
    yield from (f"{name} is not {value}" for name, value in demanded.fixed if one[name] != value)
    what = one.get("what", {})
    if demanded.is_patient and (
        what.get("type", "Patient") != "Patient" or "/Patient/" not in f"/{_named(what)}"
    ):
        yield "what is no Patient"


def _named(what: Json) -> str:
    return str(what.get("reference") or what.get("identifier", {}).get("value"))


def _codes(type_: Json) -> set[Code]:
    return set(map(_code, type_.get("coding", [type_])))


def _code(coding: Json) -> Code:
    return coding.get("system", ""), coding.get("code", "")

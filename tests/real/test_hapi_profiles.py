"""HAPI's validator finds in our audit events what tests/audit/profiles.py finds (IHE BALP)."""

from typing import Any

import pytest
import requests

from tests.audit.events import change, event, read, record, searched
from tests.audit.structure_definitions import structure_definition
from tests.real.hapi.server import Hapi
from tests.tables.balp import BREACHES, PROFILES

pytestmark = pytest.mark.hapi

FHIR = {"Content-Type": "application/fhir+json"}
UNSEEN = {"the data's role", "subtype", "the patient is none"}
"""A value set, and a subtype beside others, are in no definition here. HAPI does not compare the
type of a reference by an identifier."""


@pytest.fixture(scope="module")
def validator(hapi: Hapi) -> Hapi:
    """One that knows the profiles."""
    for definition in map(structure_definition, PROFILES):
        url = f"{hapi.base}/StructureDefinition/{definition['id']}"
        answer = requests.put(url, json=definition, headers=FHIR, timeout=60)
        assert answer.status_code == 201, answer.text
    return hapi


def errors(validator: Hapi, built: dict[str, Any]) -> list[str]:
    url = validator.base + "/AuditEvent/$validate"
    issues = requests.post(url, json=built, headers=FHIR, timeout=60).json()["issue"]
    return [one["diagnostics"] for one in issues if one["severity"] in ("error", "fatal")]


def test_events_are_of_the_profiles(validator: Hapi) -> None:
    for asked in (searched(), read(), record("endpoint-read")):
        built = event(asked)
        assert built["meta"]["profile"]
        assert errors(validator, built) == []


@pytest.mark.parametrize("breach", sorted(BREACHES.keys() - UNSEEN))
def test_a_breach_is_seen(validator: Hapi, breach: str) -> None:
    kind, path, value = BREACHES[breach]
    built = event(searched() if kind == "search" else read())
    change(built, path, value)
    assert errors(validator, built)

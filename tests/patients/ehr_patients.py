"""Patients of the EHR, and the lookup of their identifiers."""

from typing import Any

import aiohttp
import pytest

from sidecar.common.errors import Problem
from sidecar.common.invalidation import Invalidation
from sidecar.ehr.credentials import StaticToken
from sidecar.ehr.fhir_client import FhirClient
from sidecar.patients.ehr_lookup import EhrMapping
from tests.common.peer import Peer

MRN, OTHER_MRN, UNKNOWN = (
    "urn:oid:1.2.3",
    "https://hospital.example.org/mrn",
    "http://hl7.org/fhir/sid/us-ssn",
)
ISSUERS = {MRN: "HOSPITAL", OTHER_MRN: None}
TOKEN = "a-recognizable-token"
NAME, VALUE = "A-Recognizable-Name", "a-recognizable-mrn"


def person(*identifiers: Any, **members: Any) -> dict[str, Any]:
    """A Patient resource."""
    return {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": NAME}],
        "identifier": [*identifiers],
    } | members


def entry(value: object = "4711", system: object = MRN, **members: Any) -> dict[str, Any]:
    """One of its identifiers."""
    return {"system": system, "value": value} | members


def mapping(peer: Peer | str, session: aiohttp.ClientSession, **options: Any) -> EhrMapping:
    """The mapping at ``peer``."""
    url = peer if isinstance(peer, str) else f"{peer.url}/fhir"
    credentials = options.pop("credentials", None) or StaticToken(TOKEN)
    client = FhirClient(session, url, credentials, options.pop("timeout_seconds", 60))
    return EhrMapping(client, ISSUERS, **{"invalidation": Invalidation()} | options)


async def problem_of(patients: EhrMapping) -> Problem:
    """The failure that a request meets."""
    with pytest.raises(Problem) as failed:
        await patients.identifiers("p1")
    return failed.value

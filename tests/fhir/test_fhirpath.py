"""The rules of SIA-30 and SIA-31 as FHIRPath, by an engine that is not ours, over Bundles of every
shape.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import fhirpathpy
import pytest

from tests.fhir.answers import REAL, answer, parse, study
from tests.fhir.rows import Row

RULES = {
    "SIA-24 a searchset with total and self": "type = 'searchset' and total >= 0 and "
    "link.where(relation = 'self').count() = 1",
    "SIA-24 modes": "entry.all(search.mode = iif(resource.resourceType = 'ImagingStudy', 'match', "
    "'include'))",
    "SIA-24 every entry has its address": "entry.all(fullUrl.endsWith(resource.resourceType & '/' "
    "& resource.id))",
    "SIA-30 id": "{studies}.all(id.exists())",
    "SIA-30 one UID": "{studies}.all(identifier.where(system = 'urn:dicom:uid').count() = 1)",
    "SIA-30 the UID's form": "{studies}.all(identifier.where(system = "
    "'urn:dicom:uid').value.startsWith('urn:oid:'))",
    "SIA-30 status": "{studies}.all(status = 'available')",
    "SIA-30 the EHR's Patient": "{studies}.all(subject.reference = "
    "'https://ehr.example.org/fhir/Patient/123')",
    "SIA-30 modality": "{studies}.all(modality.count() >= 1)",
    "SIA-30 modality system": "{studies}.modality.all(system = "
    "'http://dicom.nema.org/resources/ontology/DCM')",
    "SIA-30 endpoint": "{studies}.all(endpoint.count() >= 1 and endpoint.all(reference.exists()))",
    "SIA-31 no requires-access-token": "{endpoints}.all(extension.where(url.endsWith("
    "'/requires-access-token')).empty())",
    "SIA-31 active": "{endpoints}.all(status = 'active')",
    "SIA-31 connection type": "{endpoints}.all(connectionType.code = 'dicom-wado-rs' and "
    "connectionType.system = 'http://terminology.hl7.org/CodeSystem/endpoint-connection-type')",
    "SIA-31 payload type": "{endpoints}.all(payloadType.count() >= 1)",
    "SIA-32 address": "{endpoints}.all(address = "
    "'https://imaging.example.org/fhir/Patient/123/$wado-rs')",
}
NAMES = {
    "{studies}": "entry.resource.where(resourceType = 'ImagingStudy')",
    "{endpoints}": "(entry.resource.where(resourceType = 'Endpoint') | entry.resource.contained)",
}


@cache
def compiled(rule: str) -> Callable[..., list[Any]]:
    text = RULES[rule]
    for name, meaning in NAMES.items():
        text = text.replace(name, meaning)
    found: Callable[..., list[Any]] = fhirpathpy.compile(text)
    return found


SHAPES: dict[str, list[Row]] = {
    "nothing": [],
    "one": [study("1.2.3")],
    "real ones": REAL,
    "many": [study(f"1.2.{at}") for at in range(9)],
}
INCLUDE = ("_include", "ImagingStudy:endpoint")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize(
    "more",
    [[], [INCLUDE], [INCLUDE, ("_count", "2")], [("_elements", "identifier,modality,endpoint")]],
    ids=str,
)
def test_each_rule_holds(shape: str, contained: bool, more: list[tuple[str, str]]) -> None:
    bundle = answer(SHAPES[shape], parse(*more), contained=contained)
    assert [rule for rule in RULES if compiled(rule)(bundle) != [True]] == []


@pytest.mark.parametrize(
    "rule", [one for one in RULES if one.startswith(("SIA-30", "SIA-31", "SIA-32"))]
)
def test_each_rule_can_be_broken(rule: str) -> None:
    """So that they say something: over resources that have nothing, none of them holds."""
    studies = [{"resourceType": "ImagingStudy"}, {"resourceType": "ImagingStudy", "modality": [{}]}]
    extension = [{"url": "http://fhir.org/x/requires-access-token", "valueBoolean": True}]
    endpoint = {"resourceType": "Endpoint", "extension": extension}
    entries = [{"resource": one} for one in (*studies, endpoint)]
    assert compiled(rule)({"resourceType": "Bundle", "entry": entries}) != [True]

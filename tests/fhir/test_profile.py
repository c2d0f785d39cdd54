"""The checks of ``profile.py`` can fail: one broken rule at a time, and each is told by its own
text.
"""

from collections.abc import Callable
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.fhir.examples import BASE, GONE, broken, endpoint, good, study
from tests.fhir.profile import (
    REQUIRES_ACCESS_TOKEN,
    check_bundle,
    check_endpoint,
    check_imaging_study,
)

CODEABLE = {"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}]}
UUID = "urn:uuid:5d9f2b0a-0000-4000-8000-000000000000"
EXTENSIONS = [{"url": url, "valueBoolean": True} for url in REQUIRES_ACCESS_TOKEN]
UID_IDENTIFIER = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}

# path, value, what the text says
STUDY: list[tuple[str, object, str]] = [
    ("resourceType", "ImagingSelection", "resourceType"),
    ("id", GONE, "id is missing"),
    ("id", "1_2", "not a FHIR id"),
    ("id", "1." * 32 + "1", "not a FHIR id"),
    ("id", 1, "no text"),
    ("meta.lastUpdated", "2024-02-29", "not an instant"),
    ("meta.lastUpdated", "2024-02-29T08:15Z", "not an instant"),
    ("patient", {"reference": "Patient/123"}, "subject, not patient"),
    ("identifier", GONE, "identifier is missing"),
    ("identifier.0", GONE, "exactly once"),
    ("identifier.2", UID_IDENTIFIER, "exactly once"),
    ("identifier", [{"value": "A-1"}, UID_IDENTIFIER], "not the first"),
    ("identifier.0.system", "urn:ietf:rfc:3986", "exactly once"),
    ("identifier.0.value", "1.2.3", "urn:oid:"),
    ("identifier.0.value", "urn:oid:1.2..3", "no UID"),
    ("identifier.0.value", "urn:oid:" + "1." * 64 + "1", "no UID"),
    ("identifier.1", {"system": "urn:x"}, "no value"),
    ("status", GONE, "status"),
    ("status", "active", "status"),
    ("subject", GONE, "subject is missing"),
    ("subject.reference", GONE, "subject is missing"),
    ("subject.reference", "Patient/123", "absolute"),
    ("subject.reference", "https://ehr.example.org/fhir/Practitioner/123", "no Patient"),
    ("subject.reference", "https://ehr.example.org/fhir/Patient/1_2", "no FHIR id"),
    ("subject.reference", "https://ehr.example.org/fhir/Patient/1 2", "characters"),
    ("subject.type", "Group", "subject.type"),
    ("modality", GONE, "modality is missing"),
    ("modality", [], "empty array"),
    ("modality", CODEABLE, "modality is missing or no array"),
    ("modality.0", CODEABLE, "CodeableConcept"),
    ("modality.0.system", "http://dicom.nema.org/resources/ontology/DCM/", "modality.system"),
    ("modality.0.system", GONE, "modality.system"),
    ("modality.0.code", GONE, "modality.code"),
    ("modality.0.code", "CT ", "spaces"),
    ("modality.1.code", "CT", "twice"),
    ("started", "20240229", "dateTime"),
    ("started", "2024-02-29T09:15:00", "dateTime"),
    ("started", "2024-02-29T09:15+01:00", "dateTime"),
    ("started", "2024-02-29T24:00:00Z", "dateTime"),
    ("started", "2024-02-29T09:15:00+14:30", "dateTime"),
    ("started", "2024-13-01", "dateTime"),
    ("started", "0000-01-01", "dateTime"),
    ("started", 2024, "started is no text"),
    ("endpoint", GONE, "endpoint is missing"),
    ("endpoint", [], "empty array"),
    ("endpoint.0", "Endpoint/123", "no object"),
    ("endpoint.0", {"display": "here"}, "no reference"),
    ("endpoint.0.reference", "#e", "no contained resource"),
    ("endpoint.0.reference", "Endpoint/1_2", "neither"),
    ("endpoint.0.reference", "Patient/123", "neither"),
    ("contained", [endpoint("e")], "named by nobody"),
    ("numberOfSeries", "1", "numberOfSeries"),
    ("numberOfInstances", -1, "numberOfInstances"),
    ("numberOfInstances", True, "numberOfInstances"),
    ("numberOfInstances", 2**31, "numberOfInstances"),
    ("description", None, "null"),
    ("description", "", "empty text"),
    ("description", " ", "empty text"),
    ("description", "a\x00", "forbidden characters"),
    ("description", "\ud800", "forbidden characters"),
    ("description", 1.5, "no FHIR type"),
    ("referrer", {}, "empty object"),
    ("series", [], "empty array"),
    ("series.0.uid", GONE, "series.uid"),
    ("series.0.uid", "urn:oid:1.2", "series.uid"),
    ("series.0.uid", "1." + "2" * 63, "series.uid"),
    ("series.1", study()["series"][0], "series is there twice"),
    ("series.0.modality", GONE, "series.modality"),
    ("series.0.modality", CODEABLE, "CodeableConcept"),
    ("series.0.number", "0", "number"),
    ("series.0.started", "2024-2-29", "dateTime"),
    ("series.0.numberOfInstances", 1.0, "no FHIR type"),
    ("series.0.instance.0.uid", GONE, "instance.uid"),
    ("series.0.instance.0.number", -1, "number"),
    ("series.0.instance.0.sopClass", GONE, "sopClass"),
    ("series.0.instance.0.sopClass.system", "urn:oid", "sopClass.system"),
    ("series.0.instance.0.sopClass.code", "1.2.840.10008.5.1.4.1.1.2", "urn:oid:"),
    ("series.0.instance.0.sopClass.code", "urn:oid:CT", "no UID"),
    ("series.0.instance.1", study()["series"][0]["instance"][0], "instance is there twice"),
]
ENDPOINT: list[tuple[str, object, str]] = [
    ("resourceType", "Location", "resourceType"),
    ("id", GONE, "id is missing"),
    ("extension", EXTENSIONS[:1], "neither gone nor there"),
    ("extension", EXTENSIONS[1:], "neither gone nor there"),
    ("extension", EXTENSIONS * 2, "neither gone nor there"),
    ("extension", [one | {"valueBoolean": False} for one in EXTENSIONS], "neither gone nor there"),
    ("extension", [{"url": one["url"]} for one in EXTENSIONS], "neither gone nor there"),
    ("status", GONE, "status"),
    ("status", "off", "status"),
    ("connectionType", GONE, "connectionType is missing"),
    ("connectionType", {"coding": [endpoint()["connectionType"]]}, "CodeableConcept"),
    (
        "connectionType.system",
        "http://hl7.org/fhir/endpoint-connection-type",
        "connectionType.system",
    ),
    ("connectionType.code", "dicom-qido-rs", "connectionType.code"),
    ("payloadType", GONE, "payloadType is missing"),
    ("payloadType", [], "empty array"),
    ("payloadType.0", {"code": "any"}, "no CodeableConcept"),
    ("payloadType.0.coding.0.system", "http://hl7.org/fhir/resource-types", "payloadType.system"),
    ("address", GONE, "address is missing"),
    ("address", BASE + "/Patient/123/$wado-rs/", "slash"),
    ("address", "/Patient/123/$wado-rs", "absolute"),
    ("address", "https://[/x", "absolute"),
    ("address", BASE + "/wado?x=1", "query"),
    ("address", BASE + "/wado#x", "fragment"),
    ("address", BASE + "/P\u00e4tient", "characters"),
]
BUNDLE: list[tuple[str, object, str]] = [
    ("resourceType", "List", "resourceType"),
    ("id", "a b", "not a FHIR id"),
    ("type", "collection", "searchset"),
    ("total", GONE, "total is missing"),
    ("total", 1, "less than the matches"),
    ("total", 2, "no more matches"),
    ("total", "3", "total is missing or no unsignedInt"),
    ("total", True, "total is missing or no unsignedInt"),
    ("link", GONE, "link is missing"),
    ("link.0", GONE, "link.self is not there"),
    ("link.0.relation", GONE, "link.self is not there"),
    ("link.1.relation", GONE, "no relation"),
    ("link.1.relation", "self", "link.self is not there exactly once"),
    ("link.2", {"relation": "next", "url": BASE + "/ImagingStudy?x"}, "twice"),
    ("link.0.url", "/ImagingStudy?patient=123", "absolute"),
    ("link.0.url", BASE + "/Patient?_id=123", "not a search for ImagingStudy"),
    ("link.0.url", BASE + "/ImagingStudy", "what was asked"),
    ("link.1.url", BASE + "/ImagingStudy?a=b c", "characters"),
    ("entry", [], "empty array"),
    ("entry.0", "x", "no object"),
    ("entry.0.search", GONE, "search is missing"),
    ("entry.0.search.mode", "include", "is no Endpoint"),
    ("entry.2.search.mode", "match", "is no ImagingStudy"),
    ("entry.0.search.mode", "included", "neither match nor include"),
    ("entry.0.resource", GONE, "resource is missing"),
    ("entry.0.fullUrl", GONE, "fullUrl"),
    ("entry.0.fullUrl", "ImagingStudy/1.2.3", "fullUrl"),
    ("entry.0.fullUrl", "urn:uuid:5d9f2b0a-0000-4000-8000-000000000000", "fullUrl"),
    ("entry.0.fullUrl", "https://elsewhere.example.org/fhir/ImagingStudy/1.2.3", "fullUrl"),
    ("entry.2.fullUrl", BASE + "/Endpoint/124", "fullUrl"),
    ("entry.0", good()["entry"][1], "twice"),
    (
        "entry.0.resource.subject.reference",
        "https://ehr.example.org/fhir/Patient/124",
        "not of one patient",
    ),
    ("entry.0.resource.endpoint.0.reference", "Endpoint/124", "leads to no entry"),
    ("entry.0.resource.endpoint.0.reference", UUID, "leads to no entry"),
    ("entry.2.fullUrl", UUID, "is not its UUID"),
    (
        "entry.3",
        {"fullUrl": BASE + "/Endpoint/9", "resource": endpoint("9"), "search": {"mode": "include"}},
        "named by no study",
    ),
    ("entry.0.resource.status", "active", "status"),
    ("entry.2.resource.status", "off", "status"),
]
Check = Callable[[dict[str, Any]], None]
TABLE: list[tuple[Check, dict[str, Any], tuple[str, object, str]]] = [
    *((check_imaging_study, study(), row) for row in STUDY),
    *((check_endpoint, endpoint(), row) for row in ENDPOINT),
    *((check_bundle, good(), row) for row in BUNDLE),
]


@pytest.mark.parametrize(
    ("check", "resource", "row"),
    TABLE,
    ids=[f"{one['resourceType']}-{row[0]}-{row[2]}" for _, one, row in TABLE],
)
def test_one_broken_rule_is_told(
    check: Check, resource: dict[str, Any], row: tuple[str, object, str]
) -> None:
    path, value, said = row
    with pytest.raises(AssertionError) as failed:
        check(broken(resource, path, value))
    assert said in str(failed.value)


def test_good_resources_pass() -> None:
    """So that a broken copy fails for what is broken in it; and R4 agrees."""
    check_bundle(good())
    check_imaging_study(study())
    check_endpoint(endpoint())
    Bundle.model_validate(good())


def test_other_good_forms_pass() -> None:
    """SIA-24, 30, 31, 33: nothing found, a contained Endpoint, a response-local one, both
    canonicals.
    """
    nothing = good() | {"total": 0, "link": good()["link"][:1]}
    del nothing["entry"]
    check_bundle(nothing)
    contained = study() | {"contained": [endpoint("e")], "endpoint": [{"reference": "#e"}]}
    check_imaging_study(contained)
    without_include = broken(good(), "entry.2", GONE)
    check_bundle(without_include)
    check_bundle(broken(without_include, "entry.0.resource", contained))
    local = broken(
        broken(good(), "entry.2.fullUrl", UUID),
        "entry.2.resource.id",
        UUID.removeprefix("urn:uuid:"),
    )
    for index in (0, 1):
        local = broken(local, f"entry.{index}.resource.endpoint.0.reference", UUID)
    check_bundle(local)
    check_endpoint(broken(endpoint(), "extension", EXTENSIONS))
    check_endpoint(broken(endpoint(), "extension", [{"url": "http://example.org/x"}]))


@pytest.mark.parametrize(
    "started",
    [
        "2024",
        "2024-02",
        "2024-02-29",
        "2024-02-29T09:15:00Z",
        "0001-01-01",
        "2024-02-29T23:59:60.5-00:00",
    ],
)
def test_every_form_of_a_date_time_passes(started: str) -> None:
    """https://hl7.org/fhir/R4/datatypes.html#dateTime."""
    check_imaging_study(study() | {"started": started})


def test_a_contained_endpoint_is_checked() -> None:
    """SIA-31: contained or not."""
    contained = study() | {"contained": [endpoint("e")], "endpoint": [{"reference": "#e"}]}
    with pytest.raises(AssertionError, match="slash"):
        check_imaging_study(broken(contained, "contained.0.address", BASE + "/"))
    with pytest.raises(AssertionError, match="meta"):
        check_imaging_study(
            broken(contained, "contained.0.meta", {"lastUpdated": "2024-02-29T08:15:00Z"})
        )
    with pytest.raises(AssertionError, match="no contained resource"):
        check_imaging_study(broken(contained, "contained.1", endpoint("e")))

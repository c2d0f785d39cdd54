"""What a searchset Bundle, an ImagingStudy and an Endpoint must be, written from SIA-24, 30 and 31
alone.

Each check raises ``AssertionError`` with a text that says which rule is broken. Nothing of
``sidecar`` is used here, so that a mistake there cannot hide itself. Whether the elements are R4's
at all is for ``fhir.resources`` to say.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

Resource = Mapping[str, Any]

UID_SYSTEM = "urn:dicom:uid"
MODALITY_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
URI_SYSTEM = "urn:ietf:rfc:3986"
CONNECTION_TYPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
PAYLOAD_TYPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
REQUIRES_ACCESS_TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token",
    "http://hl7.org/fhir/smart-app-launch/StructureDefinition/requires-access-token",
)

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_UID = re.compile(r"(?=.{1,128}$)[0-9]+(?:\.[0-9]+)*", re.ASCII)
"""What archives have: PS3.5 9.1 has no leading zeros, several components, 64 characters."""
_CODE = re.compile(r"\S+( \S+)*")
# https://hl7.org/fhir/R4/datatypes.html#dateTime: a time has seconds and a zone.
_YEAR = r"(?!0000)[0-9]{4}"
_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_ZONE = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_TIME = rf"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?{_ZONE}"
_DATE_TIME = re.compile(rf"{_YEAR}(-(0[1-9]|1[0-2])|-{_DAY}(T{_TIME})?)?", re.ASCII)
_INSTANT = re.compile(rf"{_YEAR}-{_DAY}T{_TIME}", re.ASCII)
_STATUS = ("registered", "available", "cancelled", "entered-in-error", "unknown")
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_ENDPOINT_REFERENCE = re.compile(r"Endpoint/[A-Za-z0-9\-.]{1,64}", re.ASCII)


def check_bundle(bundle: Resource) -> None:
    """SIA-24: a searchset of ImagingStudies of one patient, with the Endpoints that they name."""
    _check_json(bundle, "Bundle")
    assert bundle.get("resourceType") == "Bundle", "resourceType is not Bundle"
    assert bundle.get("type") == "searchset", "Bundle.type is not searchset"
    _check_identity(bundle)
    base = _check_links(bundle)
    entries = _objects(bundle, "entry", required=False)
    included = _check_entries(entries, base)
    matches = [entry["resource"] for entry in entries if entry["search"]["mode"] == "match"]
    for study in matches:
        check_imaging_study(study)
        _check_endpoints_are_included(study, included, base)
    assert len({study["subject"]["reference"] for study in matches}) <= 1, (
        "the studies are not of one patient"
    )
    referenced = {
        base + "/" + endpoint["reference"] for study in matches for endpoint in study["endpoint"]
    }
    referenced |= {one["reference"] for study in matches for one in study["endpoint"]}
    assert included <= referenced, "an included Endpoint is named by no study"
    total = bundle.get("total", -1)
    assert _is_count(total), "Bundle.total is missing or no unsignedInt"
    assert total >= len(matches), "Bundle.total is less than the matches on this page"
    if any(link["relation"] == "next" for link in bundle["link"]):
        assert total > len(matches), "there is a next page, but Bundle.total has no more matches"


def check_imaging_study(study: Resource) -> None:
    """SIA-30, and the R4 shape: Codings, ``subject``, identifiers exactly once."""
    _check_json(study, "ImagingStudy")
    assert study.get("resourceType") == "ImagingStudy", "resourceType is not ImagingStudy"
    _check_identity(study)
    assert "patient" not in study, "R4 names it subject, not patient"
    _check_identifiers(_objects(study, "identifier"))
    assert study.get("status") in _STATUS, "ImagingStudy.status is missing or not R4's"
    _check_subject(_object(study, "subject"))
    modalities = _objects(study, "modality")
    for modality in modalities:
        _check_coding(modality, MODALITY_SYSTEM, "ImagingStudy.modality")
    assert len({coding["code"] for coding in modalities}) == len(modalities), (
        "a modality is there twice"
    )
    _check_started(study)
    _check_counts(study, ("numberOfSeries", "numberOfInstances"))
    series = _objects(study, "series", required=False)
    for one in series:
        _check_series(one)
    uids = [one["uid"] for one in series if "uid" in one]
    assert len(set(uids)) == len(uids), "a series is there twice"
    _check_endpoint_references(study)


def check_endpoint(endpoint: Resource) -> None:
    """SIA-31."""
    _check_json(endpoint, "Endpoint")
    assert endpoint.get("resourceType") == "Endpoint", "resourceType is not Endpoint"
    _check_identity(endpoint)
    extensions = _objects(endpoint, "extension", required=False)
    older = [one for one in extensions if one.get("url") in REQUIRES_ACCESS_TOKEN]
    assert older in ([], [{"url": url, "valueBoolean": True} for url in REQUIRES_ACCESS_TOKEN]), (
        "requires-access-token is neither gone nor there in both of its forms, true"
    )
    assert endpoint.get("status") == "active", "Endpoint.status is not active"
    _check_coding(
        endpoint.get("connectionType"),
        CONNECTION_TYPE_SYSTEM,
        "Endpoint.connectionType",
        "dicom-wado-rs",
    )
    for payload in _objects(endpoint, "payloadType"):
        _check_payload_type(payload)
    _check_address(endpoint.get("address"))


def _check_json(value: object, path: str) -> None:
    """https://hl7.org/fhir/R4/json.html: nothing empty, nothing null, texts that have something to
    say.
    """
    if isinstance(value, Mapping):
        assert value, f"{path} is an empty object"
        for name, member in value.items():
            _check_json(member, f"{path}.{name}")
    elif isinstance(value, list):
        assert value, f"{path} is an empty array"
        for index, member in enumerate(value):
            _check_json(member, f"{path}[{index}]")
    elif isinstance(value, str):
        assert value.strip(), f"{path} is an empty text"
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", value), (
            f"{path} has forbidden characters"
        )
    else:
        # No element of these resources is a decimal.
        assert isinstance(value, bool | int), f"{path} is null or of no FHIR type"


def _object(parent: Resource, name: str) -> Resource:
    found = parent.get(name)
    assert isinstance(found, Mapping), f"{name} is missing or no object"
    return found


def _objects(parent: Resource, name: str, *, required: bool = True) -> list[Resource]:
    if name not in parent and not required:
        return []
    found = parent.get(name)
    assert isinstance(found, list), f"{name} is missing or no array"
    assert all(isinstance(one, Mapping) for one in found), f"{name} has something that is no object"
    return found


def _check_identity(resource: Resource) -> None:
    kind = resource["resourceType"]
    identity = resource.get("id")
    assert isinstance(identity, str), f"{kind}.id is missing or no text"
    assert _ID.fullmatch(identity), f"{kind}.id is not a FHIR id"
    if "meta" in resource and "lastUpdated" in _object(resource, "meta"):
        updated = resource["meta"]["lastUpdated"]
        assert isinstance(updated, str), f"{kind}.meta.lastUpdated is no text"
        assert _INSTANT.fullmatch(updated), f"{kind}.meta.lastUpdated is not an instant"


def _check_links(bundle: Resource) -> str:
    """Return the FHIR base URL, as ``link.self`` has it."""
    links = _objects(bundle, "link")
    relations = [link.get("relation") for link in links]
    assert relations.count("self") == 1, "link.self is not there exactly once"
    assert len(set(relations)) == len(relations), "a link relation is there twice"
    assert all(isinstance(relation, str) for relation in relations), "a link has no relation"
    for link in links:
        _check_url(link.get("url"), f"link.{link['relation']}")
    path, _, query = next(
        str(link["url"]) for link in links if link["relation"] == "self"
    ).partition("?")
    base, slash, kind = path.rpartition("/")
    assert slash + kind == "/ImagingStudy", "link.self is not a search for ImagingStudy"
    assert query, "link.self does not say what was asked"
    return base


def _check_entries(entries: list[Resource], base: str) -> frozenset[str]:
    """Return the full URLs of the included Endpoints."""
    kinds = {"match": "ImagingStudy", "include": "Endpoint"}
    outcomes = [entry for entry in entries if _object(entry, "search").get("mode") == "outcome"]
    assert len(outcomes) <= 1, "more than one entry of mode outcome"
    for entry in outcomes:
        assert entry["resource"]["resourceType"] == "OperationOutcome", (
            "an entry of mode outcome is no OperationOutcome"
        )
    entries = [entry for entry in entries if entry not in outcomes]
    for entry in entries:
        mode = _object(entry, "search").get("mode")
        assert mode in kinds, "entry.search.mode is neither match nor include"
        resource = _object(entry, "resource")
        assert resource.get("resourceType") == kinds[mode], (
            f"an entry of mode {mode} is no {kinds[mode]}"
        )
        url = entry.get("fullUrl")
        standing = f"{base}/{kinds[mode]}/{resource.get('id')}"
        # SIA-33: an Endpoint that is good for this answer only has a urn:uuid.
        response_local = mode == "include" and isinstance(url, str) and url.startswith("urn:uuid:")
        assert url == standing or response_local, "entry.fullUrl is not the URL of its resource"
        if mode == "include":
            check_endpoint(resource)
        assert not response_local or url == f"urn:uuid:{resource['id']}", (
            "the id of a response-local Endpoint is not its UUID"
        )
    urls = [entry["fullUrl"] for entry in entries]
    assert len(set(urls)) == len(urls), "a resource is in the Bundle twice"
    return frozenset(entry["fullUrl"] for entry in entries if entry["search"]["mode"] == "include")


def _check_endpoints_are_included(study: Resource, included: Collection[str], base: str) -> None:
    if not included:
        return  # Not asked for: a relative reference can be read at our base.
    for endpoint in study["endpoint"]:
        reference = endpoint["reference"]
        found = reference in included or f"{base}/{reference}" in included
        assert found or reference.startswith("#"), (
            "an endpoint reference leads to no entry of the Bundle"
        )


def _check_identifiers(identifiers: list[Resource]) -> None:
    studies = [identifier for identifier in identifiers if identifier.get("system") == UID_SYSTEM]
    assert len(studies) == 1, "the identifier urn:dicom:uid is not there exactly once"
    assert identifiers[0] is studies[0], (
        "the identifier urn:dicom:uid is not the first: clients look there"
    )
    assert all(isinstance(one.get("value"), str) for one in identifiers), (
        "an identifier has no value"
    )
    value = studies[0]["value"]
    assert value.startswith("urn:oid:"), "the identifier urn:dicom:uid does not begin with urn:oid:"
    assert _UID.fullmatch(value.removeprefix("urn:oid:")), "the identifier urn:dicom:uid is no UID"


def _check_subject(subject: Resource) -> None:
    reference = subject.get("reference")
    _check_url(reference, "ImagingStudy.subject")  # Absolute: the Patient is the EHR's, not ours.
    kind, identity = ("", "", *str(reference).split("/"))[-2:]
    assert kind == "Patient", "ImagingStudy.subject is no Patient"
    assert _ID.fullmatch(identity), "ImagingStudy.subject has no FHIR id"
    assert subject.get("type", "Patient") == "Patient", "ImagingStudy.subject.type is not Patient"


def _check_uid(element: Resource, what: str) -> None:
    """R4 has them as ids, of 64 characters; why one is not there may stand in its place."""
    if "uid" not in element:
        reasons = element.get("_uid", {}).get("extension", [])
        assert [reason["url"] for reason in reasons] == [_ABSENT], (
            f"{what}.uid is missing or no UID"
        )
        return
    uid = str(element["uid"])
    assert _UID.fullmatch(uid), f"{what}.uid is missing or no UID"
    assert _ID.fullmatch(uid), f"{what}.uid is no FHIR id"


def _check_series(series: Resource) -> None:
    _check_uid(series, "series")
    _check_coding(series.get("modality"), MODALITY_SYSTEM, "series.modality")
    _check_started(series)
    _check_counts(series, ("number", "numberOfInstances"))
    instances = _objects(series, "instance", required=False)
    for instance in instances:
        _check_uid(instance, "instance")
        _check_coding(instance.get("sopClass"), URI_SYSTEM, "instance.sopClass")
        code = instance["sopClass"]["code"]
        assert code.startswith("urn:oid:"), "instance.sopClass does not begin with urn:oid:"
        assert _UID.fullmatch(code.removeprefix("urn:oid:")), "instance.sopClass is no UID"
        _check_counts(instance, ("number",))
    uids = [one["uid"] for one in instances if "uid" in one]
    assert len(set(uids)) == len(uids), "an instance is there twice"


def _check_endpoint_references(study: Resource) -> None:
    contained = _objects(study, "contained", required=False)
    for endpoint in contained:
        check_endpoint(endpoint)
        assert "meta" not in endpoint, "a contained resource has no meta (R4 dom-4)"
    named = [one.get("reference") for one in _objects(study, "endpoint")]
    for reference in named:
        assert isinstance(reference, str), "an endpoint has no reference"
        if reference.startswith("#"):
            found = [one for one in contained if "#" + one["id"] == reference]
            assert len(found) == 1, "an endpoint reference leads to no contained resource"
        else:
            resolvable = _ENDPOINT_REFERENCE.fullmatch(reference) or reference.startswith(
                "urn:uuid:"
            )
            assert resolvable, "an endpoint reference is neither #id nor Endpoint/id nor urn:uuid"
    assert {"#" + resource["id"] for resource in contained} <= set(named), (
        "a contained resource is named by nobody (R4 dom-3)"
    )


def _check_coding(coding: object, system: str, path: str, code: str | None = None) -> None:
    assert isinstance(coding, Mapping), f"{path} is missing or no Coding"
    assert "coding" not in coding, f"{path} is a CodeableConcept; R4 has a Coding"
    assert coding.get("system") == system, f"{path}.system is not {system}"
    found = coding.get("code")
    assert isinstance(found, str), f"{path}.code is missing or no text"
    assert _CODE.fullmatch(found), f"{path}.code has spaces where a code has none"
    assert code in (None, found), f"{path}.code is not {code}"


def _check_payload_type(payload: Resource) -> None:
    assert "coding" in payload or "text" in payload, "Endpoint.payloadType is no CodeableConcept"
    for coding in _objects(payload, "coding", required=False):
        _check_coding(coding, PAYLOAD_TYPE_SYSTEM, "Endpoint.payloadType")


def _check_address(address: object) -> None:
    _check_url(address, "Endpoint.address")
    assert isinstance(address, str)
    assert not address.endswith("/"), (
        "Endpoint.address ends with a slash: apps append /studies/{uid}"
    )
    assert "?" not in address, "Endpoint.address has a query: nothing can be appended"


def _check_url(url: object, path: str) -> None:
    assert isinstance(url, str), f"{path} is missing or no text"
    # A strict URI (RFC 3986) has neither spaces nor anything beyond ASCII.
    assert re.fullmatch(r"[!-~]+", url, re.ASCII), f"{path} has characters that no URL has"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise AssertionError(f"{path} is not an absolute http URL") from None
    assert parts.scheme in ("http", "https"), f"{path} is not an absolute http URL"
    assert parts.netloc, f"{path} is not an absolute http URL"
    assert not parts.fragment, f"{path} has a fragment"


def _check_started(element: Resource) -> None:
    if "started" in element:
        assert isinstance(element["started"], str), "started is no text"
        assert _DATE_TIME.fullmatch(element["started"]), "started is not an R4 dateTime"


def _check_counts(element: Resource, names: Collection[str]) -> None:
    for name in names:
        assert name not in element or _is_count(element[name]), f"{name} is no unsignedInt"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**31 - 1

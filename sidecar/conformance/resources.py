"""ImagingStudy and Endpoint: what they must have, and reading them by id (SIA-30..33)."""

from collections.abc import Iterator
from typing import Any

from yarl import URL

from sidecar.conformance.client import NotTested, Violated
from sidecar.conformance.filters import endpoint_of
from sidecar.conformance.rows import is_uid
from sidecar.conformance.visit import Check, Visit, counted, none_of, objects, patient_of, uid_of

Resource = dict[str, Any]
REQUIRES_ACCESS_TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
)
REQUIRES_ACCESS_TOKEN_2023 = (
    "http://hl7.org/fhir/smart-app-launch/StructureDefinition/requires-access-token"
)
DICOM_TERMINOLOGY = "http://dicom.nema.org/resources/ontology/DCM"
UID_SYSTEM = "urn:dicom:uid"
_STATUS = {"registered", "available", "cancelled", "entered-in-error", "unknown"}
_CONNECTION_TYPE = {
    "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
    "code": "dicom-wado-rs",
}
_DRAWABLE = {"CR", "CT", "DX", "MG", "MR", "NM", "PT", "US", "XA"}
"""Modalities whose instances have pixels."""


async def _studies(visit: Visit) -> str:
    studies = visit.known_studies()
    none_of((fault for study in studies for fault in _faults_of_study(study)), len(studies))
    return counted(len(studies), "study")


def _faults_of_study(study: Resource) -> Iterator[str]:
    identifiers = [
        one for one in objects(study.get("identifier")) if one.get("system") == UID_SYSTEM
    ]
    if len(identifiers) != 1:
        yield f"{len(identifiers)} identifiers with system {UID_SYSTEM}"
    elif uid_of(study) is None or not str(identifiers[0].get("value")).startswith("urn:oid:"):
        yield f"identifier {UID_SYSTEM} is not urn:oid:<UID>"
    if not isinstance(study.get("id"), str):
        yield "no id"
    if str(study.get("status")) not in _STATUS:
        yield "no status, or none of R4"
    if patient_of(study) is None:
        yield "subject is no reference to a Patient"
    if not objects(study.get("endpoint")):
        yield "no endpoint"
    modalities = objects(study.get("modality"))
    if not modalities:
        yield "no modality"
    elif any(
        one.get("system") != DICOM_TERMINOLOGY or not isinstance(one.get("code"), str)
        for one in modalities
    ):
        yield f"modality is no Coding of {DICOM_TERMINOLOGY}"


async def _recommended(visit: Visit) -> str:
    """What SHOULD be there is told when it is not; what is there must be right."""
    studies = visit.known_studies()
    none_of((fault for study in studies for fault in _faults_of_recommended(study)), len(studies))
    names = ("started", "numberOfSeries", "numberOfInstances", "series")
    counts = {name: sum(name not in study for study in studies) for name in names}
    lacking = [f"{name} in {count}" for name, count in counts.items() if count]
    return (
        f"right where it is there; not there: {', '.join(lacking) or 'nothing'} (of {len(studies)})"
    )


def _faults_of_recommended(study: Resource) -> Iterator[str]:
    for name in ("numberOfSeries", "numberOfInstances"):
        count = study.get(name, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            yield f"{name} is no count"
    series = objects(study.get("series"))
    for one in series:
        if not _has_uid(one):
            yield "series.uid is no UID"
        modality = one.get("modality")
        if not isinstance(modality, dict) or modality.get("system") != DICOM_TERMINOLOGY:
            yield f"series.modality is no Coding of {DICOM_TERMINOLOGY}"
        for instance in objects(one.get("instance")):
            sop_class = instance.get("sopClass")
            code = str(sop_class.get("code")) if isinstance(sop_class, dict) else ""
            if not _has_uid(instance) or not is_uid(code.removeprefix("urn:oid:")):
                yield "series.instance without uid, or sopClass urn:oid:<UID>"
    if (
        series
        and isinstance(study.get("numberOfSeries"), int)
        and study["numberOfSeries"] != len(series)
    ):
        yield "numberOfSeries is not how many series there are"


def _has_uid(element: Resource) -> bool:
    """Whether there is a UID, or a reason why not: an archive's may be too long for R4's ``id``."""
    return is_uid(str(element.get("uid"))) or (
        "uid" not in element and isinstance(element.get("_uid"), dict)
    )


async def _endpoints(visit: Visit) -> str:
    """Each reference is resolved.

    The first study whose address can be used is the one that is retrieved later.
    """
    studies = visit.known_studies()
    faults = []
    for study in sorted(studies, key=_effort):
        for one in objects(study.get("endpoint")):
            endpoint = await _resolved(visit, study, str(one.get("reference")))
            if endpoint is None:
                faults.append("an endpoint that cannot be resolved")
                continue
            faults += _faults_of_endpoint(endpoint)
            _keep(
                visit,
                study,
                endpoint,
                is_local=str(one.get("reference")).startswith(("#", "urn:uuid:")),
            )
    if visit.root is not None:
        visit.client.trust(visit.root)
    none_of(faults, len(studies))
    return f"the Endpoints of {counted(len(studies), 'study')}"


def _effort(study: Resource) -> tuple[bool, bool, int]:
    """Small studies with images come first, of several instances if possible: they are retrieved whole."""
    codes = {str(one.get("code")) for one in objects(study.get("modality"))}
    count = study.get("numberOfInstances")
    known = count if isinstance(count, int) and count > 0 else 10**6
    return not codes & _DRAWABLE, known == 1, known


async def _resolved(visit: Visit, study: Resource, reference: str) -> Resource | None:
    found = endpoint_of(visit, study, reference)
    if found is None and reference.startswith("Endpoint/"):
        answer = await visit.client.ask(visit.url(reference))
        if answer.status == 200:
            found = visit.endpoints[reference] = answer.resource("Endpoint")
    return found


def _faults_of_endpoint(endpoint: Resource) -> Iterator[str]:
    flags = _flags(endpoint)
    if len(flags) != 1 or not isinstance(flags[0], bool):
        yield f"{len(flags)} extensions requires-access-token with valueBoolean"
    if endpoint.get("status") != "active":
        yield "status is not active"
    connection_type = endpoint.get("connectionType")
    if (
        not isinstance(connection_type, dict)
        or not _CONNECTION_TYPE.items() <= connection_type.items()
    ):
        yield "connectionType is not the Coding dicom-wado-rs"
    if not objects(endpoint.get("payloadType")):
        yield "no payloadType"
    if not _is_root(endpoint.get("address")):
        yield "address is no http(s) URL to which /studies/<UID> can be appended"


def _flags(endpoint: Resource) -> list[Any]:
    extensions = objects(endpoint.get("extension"))
    found = [
        one.get("valueBoolean") for one in extensions if one.get("url") == REQUIRES_ACCESS_TOKEN
    ]
    older = [
        one.get("valueBoolean")
        for one in extensions
        if one.get("url") == REQUIRES_ACCESS_TOKEN_2023
    ]
    return found or older


def _is_root(address: Any) -> bool:
    try:
        url = URL(address)
    except (TypeError, ValueError):
        return False
    is_plain = (
        not url.query_string and not url.fragment and not url.path.rstrip("/").endswith("/studies")
    )
    return url.scheme in ("http", "https") and bool(url.host) and is_plain


def _keep(visit: Visit, study: Resource, endpoint: Resource, *, is_local: bool) -> None:
    uid, address = uid_of(study), endpoint.get("address")
    if visit.study is None and uid is not None and isinstance(address, str) and _is_root(address):
        visit.study, visit.root = uid, address.rstrip("/")
        visit.is_local = is_local and f"/Patient/{visit.patient}/" not in address


async def _read_study(visit: Visit) -> str:
    study = visit.known_studies()[0]
    found = (await visit.client.ask(visit.url(f"ImagingStudy/{study.get('id')}"))).resource(
        "ImagingStudy"
    )
    if found.get("id") != study.get("id") or uid_of(found) != uid_of(study):
        raise Violated("another study than the one of this id")
    none_of(_faults_of_study(found), 1)
    if patient_of(found) != patient_of(study):
        raise Violated("its subject is another than in the search")
    return "the same study"


async def _read_endpoint(visit: Visit) -> str:
    visit.known_studies()
    for reference, endpoint in visit.endpoints.items():
        if reference.startswith("Endpoint/"):
            found = (await visit.client.ask(visit.url(reference))).resource("Endpoint")
            none_of(_faults_of_endpoint(found), 1)
            if found.get("address") != endpoint.get("address"):
                raise Violated("its address is another than in the search")
            return "the same address"
    raise NotTested("no Endpoint of its own: they are contained")


async def _address(visit: Visit) -> str:
    root, _ = visit.known_study()
    wanted = f"Patient/{visit.known_patient()}/$wado-rs"
    if not root.replace("%24", "$").endswith("/" + wanted):
        raise NotTested("the address is another, which newer texts allow")
    return "[base]/Patient/<id>/$wado-rs"


async def _response_local(visit: Visit) -> str:
    visit.known_study()
    stable = [one for name, one in visit.endpoints.items() if name.startswith("Endpoint/")]
    if any(False in _flags(one) for one in stable):
        raise Violated("an Endpoint with requires-access-token false has an id of its own")
    return "each Endpoint with an id of its own needs the token"


RESOURCES = (
    Check(30, "what each ImagingStudy must have", _studies),
    Check(30, "what each ImagingStudy should have", _recommended),
    Check(31, "each Endpoint", _endpoints),
    Check(32, "the Endpoint's address", _address),
    Check(33, "addresses for one token alone", _response_local),
    Check(30, "read of an ImagingStudy", _read_study),
    Check(31, "read of an Endpoint", _read_endpoint),
)

"""Checks of ImagingStudy and Endpoint: what they must have, and reading them by id (SIA-30..33)."""

from collections.abc import Iterator
from typing import Any

from yarl import URL

from sidecar.conformance.client import NotTested, Violated
from sidecar.conformance.context import (
    Check,
    RunContext,
    objects,
    patient_of,
    plural,
    raise_for_faults,
    resources,
    uid_of,
)
from sidecar.conformance.filters import endpoint_of
from sidecar.conformance.rows import is_uid

Resource = dict[str, Any]
REQUIRES_ACCESS_TOKEN = {
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token",
    "http://hl7.org/fhir/smart-app-launch/StructureDefinition/requires-access-token",
}
"""The extension of earlier texts: with ``False`` the address was for whoever had it."""
DICOM_TERMINOLOGY = "http://dicom.nema.org/resources/ontology/DCM"
UID_SYSTEM = "urn:dicom:uid"
_STATUS = {"registered", "available", "cancelled", "entered-in-error", "unknown"}
_CONNECTION_TYPE = {
    "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
    "code": "dicom-wado-rs",
}
_DRAWABLE = {"CR", "CT", "DX", "MG", "MR", "NM", "PT", "US", "XA"}
"""Modalities whose instances have pixels."""


async def _studies(run: RunContext) -> str:
    studies = run.known_studies()
    raise_for_faults(
        (fault for study in studies for fault in _faults_of_study(study)), len(studies)
    )
    return plural(len(studies), "study")


def _faults_of_study(study: Resource) -> Iterator[str]:
    identifiers = objects(study.get("identifier"))
    values = [str(item.get("value")) for item in identifiers if item.get("system") == UID_SYSTEM]
    if len(values) != 1:
        yield f"{len(values)} identifiers with system {UID_SYSTEM}"
    elif uid_of(study) is None or not values[0].startswith("urn:oid:"):
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
        coding.get("system") != DICOM_TERMINOLOGY or not isinstance(coding.get("code"), str)
        for coding in modalities
    ):
        yield f"modality is no Coding of {DICOM_TERMINOLOGY}"


async def _recommended(run: RunContext) -> str:
    """Report missing elements that SHOULD be there; those that are there must be right."""
    studies = run.known_studies()
    raise_for_faults(
        (fault for study in studies for fault in _faults_of_recommended(study)), len(studies)
    )
    names = ("started", "numberOfSeries", "numberOfInstances", "series")
    counts = {name: sum(name not in study for study in studies) for name in names}
    missing = ", ".join(f"{name} in {count}" for name, count in counts.items() if count)
    return f"right where it is there; not there: {missing or 'nothing'} (of {len(studies)})"


def _faults_of_recommended(study: Resource) -> Iterator[str]:
    for name in ("numberOfSeries", "numberOfInstances"):
        count = study.get(name, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            yield f"{name} is no count"
    all_series = objects(study.get("series"))
    for series in all_series:
        if not _has_uid(series):
            yield "series.uid is no UID"
        modality = series.get("modality")
        if not isinstance(modality, dict) or modality.get("system") != DICOM_TERMINOLOGY:
            yield f"series.modality is no Coding of {DICOM_TERMINOLOGY}"
        for instance in objects(series.get("instance")):
            sop_class = instance.get("sopClass")
            code = str(sop_class.get("code")) if isinstance(sop_class, dict) else ""
            if not _has_uid(instance) or not is_uid(code.removeprefix("urn:oid:")):
                yield "series.instance without uid, or sopClass urn:oid:<UID>"
    count = study.get("numberOfSeries")
    if all_series and isinstance(count, int) and count != len(all_series):
        yield "numberOfSeries is not how many series there are"


def _has_uid(element: Resource) -> bool:
    """Return whether there is a UID, or a reason for none: it may be too long for R4's ``id``."""
    has_reason = "uid" not in element and isinstance(element.get("_uid"), dict)
    return has_reason or is_uid(str(element.get("uid")))


async def _endpoints(run: RunContext) -> str:
    """Check each Endpoint, and choose the first study with a usable address for the retrievals."""
    studies = run.known_studies()
    faults = []
    for study in sorted(studies, key=_effort):
        for element in objects(study.get("endpoint")):
            reference = str(element.get("reference"))
            endpoint = await _resolved(run, study, reference)
            if endpoint is None:
                faults.append("an endpoint that cannot be resolved")
                continue
            faults += _faults_of_endpoint(endpoint)
            _choose(run, study, endpoint, is_local=reference.startswith(("#", "urn:uuid:")))
    if run.root is not None:
        run.client.trust(run.root)
    raise_for_faults(faults, len(studies))
    return f"the Endpoints of {plural(len(studies), 'study')}"


def _effort(study: Resource) -> tuple[bool, bool, int]:
    """Return a sort key: small studies with images first, of several instances if possible."""
    codes = {str(coding.get("code")) for coding in objects(study.get("modality"))}
    count = study.get("numberOfInstances")
    instances = count if isinstance(count, int) and count > 0 else 10**6
    return not codes & _DRAWABLE, instances == 1, instances


async def _resolved(run: RunContext, study: Resource, reference: str) -> Resource | None:
    endpoint = endpoint_of(run, study, reference)
    if endpoint is None and reference.startswith("Endpoint/"):
        answer = await run.client.request(run.url(reference))
        if answer.status == 200:
            endpoint = run.endpoints[reference] = answer.resource("Endpoint")
    return endpoint


def _faults_of_endpoint(endpoint: Resource) -> Iterator[str]:
    if any(flag is not True for flag in _flags(endpoint)):
        yield "requires-access-token of an earlier text is not true: each retrieval has the token"
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
    """Return the values of the extension requires-access-token, in both of its forms."""
    return [
        extension.get("valueBoolean")
        for extension in objects(endpoint.get("extension"))
        if str(extension.get("url")) in REQUIRES_ACCESS_TOKEN
    ]


def _is_root(address: Any) -> bool:
    try:
        url = URL(address)
    except (TypeError, ValueError):
        return False
    extra = url.query_string or url.fragment or url.path.rstrip("/").endswith("/studies")
    return url.scheme in ("http", "https") and bool(url.host) and not extra


def _choose(run: RunContext, study: Resource, endpoint: Resource, *, is_local: bool) -> None:
    uid, address = uid_of(study), endpoint.get("address")
    if run.study is None and uid is not None and isinstance(address, str) and _is_root(address):
        run.study, run.root = uid, address.rstrip("/")
        run.is_local = is_local and f"/Patient/{run.patient}/" not in address


async def _read_study(run: RunContext) -> str:
    listed = run.known_studies()[0]
    answer = await run.client.request(run.url(f"ImagingStudy/{listed.get('id')}"))
    study = answer.resource("ImagingStudy")
    if study.get("id") != listed.get("id") or uid_of(study) != uid_of(listed):
        raise Violated("another study than the one of this id")
    raise_for_faults(_faults_of_study(study), 1)
    if patient_of(study) != patient_of(listed):
        raise Violated("its subject is another than in the search")
    return "the same study"


async def _read_endpoint(run: RunContext) -> str:
    run.known_studies()
    for reference, listed in run.endpoints.items():
        if reference.startswith("Endpoint/"):
            endpoint = (await run.client.request(run.url(reference))).resource("Endpoint")
            raise_for_faults(_faults_of_endpoint(endpoint), 1)
            if endpoint.get("address") != listed.get("address"):
                raise Violated("its address is another than in the search")
            return "the same address"
    raise NotTested("no Endpoint of its own: they are contained")


async def _address(run: RunContext) -> str:
    root, _ = run.known_study()
    suffix = f"/Patient/{run.known_patient()}/$wado-rs"
    if not root.replace("%24", "$").endswith(suffix):
        raise NotTested("the address is another, which newer texts allow")
    return "[base]/Patient/<id>/$wado-rs"


async def _response_local(run: RunContext) -> str:
    """Check that a response-local Endpoint is on the page of its study, also without _include."""
    run.known_studies()
    bundle = await run.search()
    here = {str(entry.get("fullUrl")) for entry in objects(bundle.get("entry"))}
    references = [
        str(element.get("reference"))
        for study in resources(bundle, "ImagingStudy")
        for element in objects(study.get("endpoint"))
    ]
    local = [reference for reference in references if reference.startswith("urn:uuid:")]
    if not local:
        raise NotTested("no Endpoint is of one answer alone")
    raise_for_faults(
        (
            "an urn:uuid: Endpoint that is not on its study's page"
            for one in local
            if one not in here
        ),
        len(local),
    )
    return "on the page of each study, without _include"


RESOURCES = (
    Check(30, "what each ImagingStudy must have", _studies),
    Check(30, "what each ImagingStudy should have", _recommended),
    Check(31, "each Endpoint", _endpoints),
    Check(32, "the Endpoint's address", _address),
    Check(33, "Endpoints of one answer alone", _response_local),
    Check(30, "read of an ImagingStudy", _read_study),
    Check(31, "read of an Endpoint", _read_endpoint),
)

"""Checks of ImagingStudy and Endpoint: what they must have, and reading them by id (SIA-30..33)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from yarl import URL

from sidecar.conformance.context import Check, Fault, RunContext, raise_for_faults
from sidecar.conformance.filters import endpoint_of, references
from sidecar.conformance.levels import BASE, MAY, SHALL, SHOULD, WISH, Guide, NotTested, Violated
from sidecar.conformance.reading import objects, patient_of, plural, resources, subject_of, uid_of
from sidecar.conformance.rows import is_uid

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
_SHOULD_HAVE = ("started", "numberOfSeries", "numberOfInstances", "series")
_DRAWABLE = {"CR", "CT", "DX", "MG", "MR", "NM", "PT", "US", "XA"}
"""Modalities whose instances have pixels."""


async def _studies(run: RunContext) -> str:
    studies = run.known_studies()
    raise_for_faults(
        (fault for study in studies for fault in _faults_of_study(study)), len(studies)
    )
    return plural(len(studies), "study")


def _faults_of_study(study: Resource) -> Iterator[Fault]:
    identifiers = objects(study.get("identifier"))
    values = [str(item.get("value")) for item in identifiers if item.get("system") == UID_SYSTEM]
    if len(values) != 1:
        yield SHALL, f"{len(values)} identifiers with system {UID_SYSTEM}"
    elif uid_of(study) is None or not values[0].startswith("urn:oid:"):
        yield SHALL, f"identifier {UID_SYSTEM} is not urn:oid:<UID>"
    if not isinstance(study.get("id"), str):
        yield BASE, "no id"
    if str(study.get("status")) not in _STATUS:
        yield SHALL, "no status, or none of R4"
    if patient_of(study) is None:
        # Without a literal reference it may still be a Patient.
        literal = subject_of(study) and not subject_of(study).startswith(("#", "urn:"))
        level = SHALL if literal or not study.get("subject") else WISH
        yield level, "subject is no reference to Patient/<id>"
    modalities = objects(study.get("modality"))
    if not modalities:
        yield SHALL, "no modality"
    elif any(
        coding.get("system") != DICOM_TERMINOLOGY or not isinstance(coding.get("code"), str)
        for coding in modalities
    ):
        yield BASE, f"modality is no Coding of {DICOM_TERMINOLOGY}"


async def _recommended(run: RunContext) -> str:
    """Report missing elements that SHOULD be there; those that are there must be right."""
    studies = run.known_studies()
    raise_for_faults(
        (fault for study in studies for fault in _faults_of_recommended(study)), len(studies)
    )
    counts = {name: sum(name not in study for study in studies) for name in _SHOULD_HAVE}
    missing = ", ".join(f"{name} in {count}" for name, count in counts.items() if count)
    if not missing:
        return f"all of it, in {plural(len(studies), 'study')}"
    if never := [name for name, count in counts.items() if count == len(studies)]:
        raise Violated(f"no study has {', '.join(never)}")
    return f"right where it is there; not there: {missing} (of {len(studies)})"


def _faults_of_recommended(study: Resource) -> Iterator[Fault]:
    for name in ("numberOfSeries", "numberOfInstances"):
        count = study.get(name, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            yield BASE, f"{name} is no count"
    all_series = objects(study.get("series"))
    for series in all_series:
        if not _has_uid(series):
            yield BASE, "series.uid is no UID"
        modality = series.get("modality")
        if not isinstance(modality, dict) or modality.get("system") != DICOM_TERMINOLOGY:
            yield BASE, f"series.modality is no Coding of {DICOM_TERMINOLOGY}"
        for instance in objects(series.get("instance")):
            sop_class = instance.get("sopClass")
            code = str(sop_class.get("code")) if isinstance(sop_class, dict) else ""
            if not _has_uid(instance) or not is_uid(code.removeprefix("urn:oid:")):
                yield BASE, "series.instance without uid, or sopClass urn:oid:<UID>"
    count = study.get("numberOfSeries")
    if all_series and isinstance(count, int) and count != len(all_series):
        yield SHOULD, "numberOfSeries is not how many series there are"


def _has_uid(element: Resource) -> bool:
    """Return whether there is a UID, or a reason for none: it may be too long for R4's ``id``."""
    has_reason = "uid" not in element and isinstance(element.get("_uid"), dict)
    return has_reason or is_uid(str(element.get("uid")))


async def _endpoints(run: RunContext) -> str:
    """Check each Endpoint, and choose the first study with a usable address for the retrievals.

    A study need not have one: a server leaves out what the client may not have.
    """
    studies = run.known_studies()
    faults: list[Fault] = []
    addresses: list[str] = []
    without = 0
    for study in sorted(studies, key=_effort):
        names = references(study)
        without += not names
        for reference in names:
            endpoint = await _resolved(run, study, reference)
            if endpoint is not None:
                addresses.append(str(endpoint.get("address")).rstrip("/"))
                faults += _faults_of_endpoint(endpoint)
                _choose(run, study, endpoint)
    if run.root is not None and run.needs_token:
        run.client.trust(run.root)
        run.is_local = await _is_of_one_study(run, run.root, addresses)
    if not addresses:
        raise NotTested("no study has an Endpoint that is there")
    raise_for_faults(faults, len(studies))
    also = f"; {plural(without, 'study')} without one" if without else ""
    return f"the Endpoints of {plural(len(studies), 'study')}{also}"


async def _is_of_one_study(run: RunContext, root: str, addresses: list[str]) -> bool:
    """Return whether an address is a capability URL, as far as can be seen.

    It is when it is for one of several studies, or another one in another answer.
    """
    if f"/Patient/{run.patient}/" in root:
        return False
    if len(addresses) > 1:
        return addresses.count(root) == 1
    anew = await run.search(("_include", "ImagingStudy:endpoint"))
    endpoints = resources(anew, "Endpoint")
    for study in resources(anew, "ImagingStudy"):
        endpoints += objects(study.get("contained"))
    return all(str(endpoint.get("address")).rstrip("/") != root for endpoint in endpoints)


async def _flagged(run: RunContext) -> str:
    """Check the extension requires-access-token, which the texts of 2026-08 demand."""
    studies = run.known_studies()
    known = [endpoint_of(run, study, name) for study in studies for name in references(study)]
    flags = [_flags(endpoint) for endpoint in known if endpoint is not None]
    if not flags:
        raise NotTested("no study has an Endpoint that is there")
    raise_for_faults(
        (
            (SHALL, f"{len(values)} extensions requires-access-token with valueBoolean")
            for values in flags
            if len(values) != 1 or not isinstance(values[0], bool)
        ),
        len(flags),
    )
    return "each Endpoint has it once"


def _effort(study: Resource) -> tuple[bool, bool, int]:
    """Return a sort key: small studies with images first, of several instances if possible."""
    codes = {str(coding.get("code")) for coding in objects(study.get("modality"))}
    count = study.get("numberOfInstances")
    instances = count if isinstance(count, int) and count > 0 else 10**6
    return not codes & _DRAWABLE, instances == 1, instances


async def _resolved(run: RunContext, study: Resource, reference: str) -> Resource | None:
    endpoint = endpoint_of(run, study, reference)
    url = urljoin(run.base + "/", reference)
    if endpoint is None and url.startswith(run.url("Endpoint/")):
        answer = await run.client.request(url)
        if answer.status == 200:
            endpoint = run.endpoints[reference] = answer.resource("Endpoint")
    return endpoint


def _faults_of_endpoint(endpoint: Resource) -> Iterator[Fault]:
    if endpoint.get("status") != "active":
        yield BASE, "status is not active"
    connection_type = endpoint.get("connectionType")
    if (
        not isinstance(connection_type, dict)
        or not _CONNECTION_TYPE.items() <= connection_type.items()
    ):
        yield SHALL, "connectionType is not the Coding dicom-wado-rs"
    if not objects(endpoint.get("payloadType")):
        yield BASE, "no payloadType"
    if not _is_root(endpoint.get("address")):
        level = WISH if "?" in str(endpoint.get("address")) else SHALL
        yield level, "address is no http(s) URL to which /studies/<UID> can be appended"


def _flags(endpoint: Resource) -> list[Any]:
    """Return the values of the extension requires-access-token, else those of its form of 2023."""
    flags: dict[Any, list[Any]] = {}
    for extension in objects(endpoint.get("extension")):
        flags.setdefault(str(extension.get("url")), []).append(extension.get("valueBoolean"))
    return flags.get(REQUIRES_ACCESS_TOKEN) or flags.get(REQUIRES_ACCESS_TOKEN_2023, [])


def _is_root(address: Any) -> bool:
    try:
        url = URL(address)
    except (TypeError, ValueError):
        return False
    extra = url.query_string or url.fragment or url.path.rstrip("/").endswith("/studies")
    return url.scheme in ("http", "https") and bool(url.host) and not extra


def _choose(run: RunContext, study: Resource, endpoint: Resource) -> None:
    uid, address = uid_of(study), endpoint.get("address")
    if run.study is None and uid is not None and isinstance(address, str) and _is_root(address):
        run.study, run.root = uid, address.rstrip("/")
        if run.guide is Guide.AUGUST and _flags(endpoint) == [False]:
            run.needs_token = False
            run.client.trust_without_token(run.root)


async def _read_study(run: RunContext) -> str:
    listed = run.known_studies()[0]
    answer = await run.client.request(run.url(f"ImagingStudy/{listed.get('id')}"))
    answer.raise_if_not_offered()
    study = answer.resource("ImagingStudy")
    if study.get("id") != listed.get("id") or uid_of(study) != uid_of(listed):
        raise Violated("another study than the one of this id")
    known = set(_faults_of_study(listed))  # Another check has told of them.
    raise_for_faults((fault for fault in _faults_of_study(study) if fault not in known), 1)
    if patient_of(study) != patient_of(listed):
        raise Violated("its subject is another than in the search")
    return "the same study"


async def _read_endpoint(run: RunContext) -> str:
    run.known_studies()
    for reference, listed in run.endpoints.items():
        if reference.startswith("Endpoint/"):
            answer = await run.client.request(run.url(reference))
            answer.raise_if_not_offered()
            if answer.resource("Endpoint").get("address") != listed.get("address"):
                raise Violated("its address is another than in the search")
            return "the same address"
    raise NotTested("no Endpoint has an id of its own")


async def _address(run: RunContext) -> str:
    root, _ = run.known_study()
    suffix = f"/Patient/{run.known_patient()}/$wado-rs"
    if not root.replace("%24", "$").endswith(suffix):
        raise NotTested("the address is another, as texts since 2021 allow")
    return "[base]/Patient/<id>/$wado-rs"


async def _response_local(run: RunContext) -> str:
    run.known_study()
    for reference, endpoint in run.endpoints.items():
        if reference.startswith("Endpoint/") and False in _flags(endpoint):
            raise Violated("an Endpoint with requires-access-token false has an id of its own")
    return "each Endpoint with an id of its own needs the token"


_AUGUST = {Guide.AUGUST: SHALL}
RESOURCES = (
    Check(30, SHALL, "what each ImagingStudy must have", _studies),
    Check(30, SHOULD, "what each ImagingStudy should have", _recommended),
    Check(31, SHALL, "each Endpoint", _endpoints),
    Check(32, MAY, "the Endpoint's address", _address),
    Check(31, _AUGUST, "the extension requires-access-token", _flagged),
    Check(33, _AUGUST, "addresses for one token alone", _response_local),
    Check(30, BASE, "read of an ImagingStudy", _read_study),
    Check(31, BASE, "read of an Endpoint", _read_endpoint),
)

"""What a run has learnt of the server so far, and what later checks need of it."""

import base64
import json
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin

from sidecar.conformance.client import Client, NotTested, Violated
from sidecar.conformance.rows import is_uid

DICOM = "multipart/related; type=application/dicom; transfer-syntax=*"
DICOM_JSON = "application/dicom+json"
_PATIENT = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """An instance that was seen; ``digest`` of its bytes when they were retrieved."""

    series: str
    uid: str
    patient_id: str
    digest: bytes | None = None


@dataclass
class Visit:
    """What checks have found, and what they need for it.

    ``patient``: the FHIR id of the token's patient, as soon as it is known; ``origin``: of an app's
    pages; ``studies``: the patient's ImagingStudies; ``foreign``: how many of others came with
    them; ``has_all``: whether they are all; ``endpoints``: by reference; ``study``: the one that is
    retrieved, below ``root``, which ``is_local`` when it is for one answer (SIA-33); ``rows``: of
    QIDO-RS; ``patients_inside``: the PatientIDs in the instances; ``patient_ids`` and ``names``:
    what must not stand in errors; ``absent_…``: made up, nobody's.
    """

    client: Client
    patient: str | None
    origin: str = "https://app.example.org"
    metadata: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    bundle: dict[str, Any] = field(default_factory=dict)
    studies: list[dict[str, Any]] = field(default_factory=list)
    foreign: int = 0
    has_all: bool = False
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    study: str | None = None
    root: str | None = None
    is_local: bool = False
    instances: list[SeenInstance] = field(default_factory=list)
    has_whole_study: bool = False
    patients_inside: set[str] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    patient_ids: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    absent_patient: str = field(default_factory=lambda: "check-" + secrets.token_hex(8))
    absent_uid: str = field(default_factory=lambda: f"2.25.{secrets.randbits(120)}")

    @property
    def base(self) -> str:
        """The FHIR base."""
        return self.client.base

    def url(self, path: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
        """An address below the FHIR base."""
        query = urlencode(list(parameters), safe=":/|,")
        return f"{self.base}/{path}" + (f"?{query}" if query else "")

    def known_patient(self) -> str:
        """The token's patient. Raises ``NotTested``."""
        if self.patient is None:
            raise NotTested("whose the token is could not be learnt: give --patient")
        return self.patient

    def answered(self) -> dict[str, Any]:
        """The first page of the patient's studies. Raises ``NotTested``."""
        if not self.bundle:
            raise NotTested("no search was answered")
        return self.bundle

    def first_page(self) -> list[str]:
        """The ids of the patient's studies on it."""
        own = {str(one.get("id")) for one in self.studies}
        return [one for one in ids(self.bundle) if one in own]

    def known_studies(self) -> list[dict[str, Any]]:
        """The patient's studies, one at least. Raises ``NotTested``."""
        if not self.studies:
            raise NotTested("no study of the patient was found")
        return self.studies

    def known_study(self) -> tuple[str, str]:
        """The address of the DICOMweb root, and the StudyInstanceUID to retrieve below it.

        Raises ``NotTested``.
        """
        if self.root is None or self.study is None:
            raise NotTested("no study with the address of its images was found")
        return self.root, self.study

    def known_capability(self) -> tuple[str, str]:
        """As ``known_study``, where its address is a capability URL. Raises ``NotTested``."""
        found = self.known_study()
        if not self.is_local:
            raise NotTested(
                "the address is no capability URL, but for all of the patient's studies"
            )
        return found

    def known_instance(self) -> tuple[str, SeenInstance]:
        """The address of the study, and an instance in it. Raises ``NotTested``."""
        root, study = self.known_study()
        if not self.instances:
            raise NotTested("no instance of the study is known")
        return f"{root}/studies/{study}", self.instances[0]

    async def search(self, *parameters: tuple[str, str], patient: bool = True) -> dict[str, Any]:
        """The Bundle that a search brings, for the token's patient. Raises ``Violated``."""
        own = [("patient", self.patient)] if patient and self.patient is not None else []
        return (await self.client.ask(self.url("ImagingStudy", [*own, *parameters]))).resource(
            "Bundle"
        )

    def announces(self, parameter: str) -> bool:
        """Whether the CapabilityStatement has this search parameter of ImagingStudy."""
        return any(
            one.get("name") == parameter for one in objects(self.imaging_study().get("searchParam"))
        )

    def imaging_study(self) -> dict[str, Any]:
        """What the CapabilityStatement says of ImagingStudy."""
        for rest in objects(self.metadata.get("rest")):
            for one in objects(rest.get("resource")):
                if one.get("type") == "ImagingStudy":
                    return one
        return {}


Look = Callable[[Visit], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` returns what was seen when requirement ``number`` is kept.

    Raises ``Violated`` or ``NotTested``.

    ``says``: what is demanded, where it is something beside the requirement's text.
    """

    number: int
    checked: str
    look: Look
    says: str | None = None


def objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects of a list; none when it is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """The strings of a list; none when it is none."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def resources(bundle: Mapping[str, Any], resource_type: str) -> list[dict[str, Any]]:
    """The Bundle's resources of a type."""
    found = [entry.get("resource") for entry in objects(bundle.get("entry"))]
    return [
        one for one in found if isinstance(one, dict) and one.get("resourceType") == resource_type
    ]


def ids(bundle: Mapping[str, Any]) -> list[str]:
    """The ids of its ImagingStudies."""
    return [str(one.get("id")) for one in resources(bundle, "ImagingStudy")]


def link(bundle: Mapping[str, Any], relation: str, base: str) -> str | None:
    """The absolute URL of a link."""
    for one in objects(bundle.get("link")):
        url = one.get("url")
        if one.get("relation") == relation and isinstance(url, str):
            return urljoin(base + "/", url)
    return None


def patient_of(study: Mapping[str, Any]) -> str | None:
    """The id in the subject's reference."""
    subject = study.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    match = _PATIENT.fullmatch(reference) if isinstance(reference, str) else None
    return None if match is None else match[1]


def uid_of(study: Mapping[str, Any]) -> str | None:
    """The StudyInstanceUID of an ImagingStudy."""
    for one in objects(study.get("identifier")):
        value = one.get("value")
        if one.get("system") == "urn:dicom:uid" and isinstance(value, str):
            uid = value.removeprefix("urn:oid:")
            return uid if is_uid(uid) else None
    return None


def patient_in(token: str | None) -> str | None:
    """The ``patient`` of an access token that is a JWT.

    Only to know what to ask for, so nothing is verified.
    """
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    found = claims.get("patient") if isinstance(claims, dict) else None
    return found if isinstance(found, str) else None


def counted(number: int, noun: str) -> str:
    """``1 study``, ``2 studies``."""
    return (
        f"{number} {noun}"
        if number == 1
        else f"{number} {noun.removesuffix('y') + 'ie' * noun.endswith('y')}s"
    )


def none_of(faults: Iterable[str], total: int) -> None:
    """Raise ``Violated`` with how often each fault was met."""
    counts = Counter(faults)
    if counts:
        raise Violated(
            "; ".join(f"{fault} ({count} of {total})" for fault, count in counts.most_common(8))
        )

"""Shared state of a run's checks, and readers of FHIR resources that several of them use."""

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sidecar.conformance.client import Client
from sidecar.conformance.levels import Guide, Levels, NotTested, RequirementLevel, Violated
from sidecar.conformance.reading import key_of, keys, link, objects, resources

DICOM = "multipart/related; type=application/dicom; transfer-syntax=*"
DICOM_JSON = "application/dicom+json"


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """Instance in an answer. ``digest`` is the SHA-256 of its bytes, if they were retrieved."""

    series: str
    uid: str
    digest: bytes | None = None

    @property
    def path(self) -> str:
        """The path of the instance below its study."""
        return f"series/{self.series}/instances/{self.uid}"


@dataclass
class RunContext:
    """State of a run: the observations of its checks, for later checks.

    - ``patient``: FHIR id of the token's patient, as soon as it is known
    - ``guide``: text of the guide that the server is held to
    - ``origin``: origin of an app's pages
    - ``other``, ``backend``, ``expired``: clients with further tokens; ``other_patient``: FHIR id
    - ``is_service``: whether the token is a Backend Services client's, which may have many patients
    - ``advertised``: the smart-configuration that names this base, and what it says of it
    - ``studies``: the patient's ImagingStudies, all of them if ``has_all_pages``
    - ``foreign``: number of other patients' ImagingStudies that came with them
    - ``endpoints``: Endpoints by reference
    - ``study``: UID of the study that is retrieved below ``root``
    - ``is_local``: whether ``root`` is a capability URL, for one study or one answer
    - ``needs_token``: whether retrievals below ``root`` carry the token (in 2026-08 not always)
    - ``pages_seen``: the pages of the first search
    - ``rows``: study rows of QIDO-RS
    - ``patients_inside``: PatientIDs in the instances
    - ``patient_ids``, ``names``: texts that errors must not contain
    - ``absent_…``: made-up identifiers, of nobody
    """

    client: Client
    patient: str | None
    guide: Guide
    origin: str
    other: Client | None = None
    other_patient: str | None = None
    backend: Client | None = None
    is_service: bool = False
    expired: Client | None = None
    advertised: tuple[dict[str, Any], list[str]] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    bundle: dict[str, Any] = field(default_factory=dict)
    studies: list[dict[str, Any]] = field(default_factory=list)
    foreign: int = 0
    has_all_pages: bool = False
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    study: str | None = None
    root: str | None = None
    is_local: bool = False
    needs_token: bool = True
    pages_seen: list[dict[str, Any]] = field(default_factory=list)
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

    def url(self, path: str, *parameters: tuple[str, str]) -> str:
        """Return the address of ``path`` below the FHIR base."""
        query = urlencode(parameters, safe=":/|,")
        return f"{self.base}/{path}" + (f"?{query}" if query else "")

    def search_url(self, *parameters: tuple[str, str]) -> str:
        """Return the address of a search for the token's patient, if that is known."""
        own = [("patient", self.patient)] if self.patient is not None else []
        return self.url("ImagingStudy", *own, *parameters)

    def known_patient(self) -> str:
        """Return the token's patient. Raises ``NotTested``."""
        if self.patient is None:
            raise NotTested("the token's patient is not known (--patient)")
        return self.patient

    def raise_if_service(self) -> None:
        """Raise ``NotTested`` where a client with many patients sees more than an app."""
        if self.is_service:
            raise NotTested("a Backend Services client may have other patients, too")

    def first_bundle(self) -> dict[str, Any]:
        """Return the first page of the patient's studies. Raises ``NotTested``."""
        if not self.client.has_token:
            raise NotTested("no --token was given")
        if not self.bundle:
            raise NotTested("the search for the patient's studies brought no Bundle")
        return self.bundle

    def first_page_keys(self) -> list[str]:
        """Return the keys of the patient's studies on the first page."""
        own = {key_of(study) for study in self.studies}
        return [key for key in keys(self.bundle) if key in own]

    def read_url(self) -> str | None:
        """Return the address of an ImagingStudy on the first page."""
        studies = resources(self.bundle, "ImagingStudy")
        own = (study for study in studies if study in self.studies)
        return next((self.url(f"ImagingStudy/{study.get('id')}") for study in own), None)

    def known_studies(self) -> list[dict[str, Any]]:
        """Return the patient's studies, one at least. Raises ``NotTested``."""
        self.first_bundle()
        if not self.studies:
            raise NotTested("no study of the patient was found")
        return self.studies

    def known_study(self) -> tuple[str, str]:
        """Return the DICOMweb root, and the StudyInstanceUID to retrieve below it.

        Raises ``NotTested``.
        """
        self.known_studies()
        if self.root is None or self.study is None:
            raise NotTested("no study with the address of its images was found")
        return self.root, self.study

    def study_url(self) -> str:
        """Return the address of the study. Raises ``NotTested``."""
        return "{}/studies/{}".format(*self.known_study())

    def known_capability(self) -> tuple[str, str]:
        """Return ``known_study`` if its address is a capability URL. Raises ``NotTested``."""
        study = self.known_study()
        if not self.is_local:
            raise NotTested(
                "the address is no capability URL, but for all of the patient's studies"
            )
        return study

    def known_instance(self) -> tuple[str, SeenInstance]:
        """Return the address of the study, and an instance in it. Raises ``NotTested``."""
        url = self.study_url()
        if not self.instances:
            raise NotTested("no instance of the study is known")
        return url, self.instances[0]

    async def search(self, *parameters: tuple[str, str]) -> dict[str, Any]:
        """Return the Bundle of a search, for the token's patient. Raises ``Violated``."""
        return (await self.client.request(self.search_url(*parameters))).resource("Bundle")

    async def pages(self, bundle: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """Return a Bundle and at most ``Limits.pages`` pages behind it, and whether these are all.

        Raises ``Violated``.
        """
        pages = [bundle]
        while (following := link(pages[-1], "next", self.base)) is not None:
            if len(pages) >= self.client.limits.pages:
                return pages, False
            pages.append((await self.client.request(following)).resource("Bundle"))
        return pages, True

    def store_endpoints(self, bundle: Mapping[str, Any]) -> None:
        """Store a Bundle's Endpoints by their references."""
        for entry in objects(bundle.get("entry")):
            resource = entry.get("resource")
            if isinstance(resource, dict) and resource.get("resourceType") == "Endpoint":
                url = str(entry.get("fullUrl"))
                # What is for this Bundle alone is no resource that can be read (SIA-33).
                if "id" in resource and not url.startswith("urn:uuid:"):
                    self.endpoints[f"Endpoint/{resource['id']}"] = resource
                self.endpoints[url] = resource

    def announces(self, parameter: str) -> bool:
        """Return whether the CapabilityStatement has this search parameter of ImagingStudy."""
        announced = objects(self.imaging_study().get("searchParam"))
        return any(search_parameter.get("name") == parameter for search_parameter in announced)

    def imaging_study(self) -> dict[str, Any]:
        """Return ImagingStudy in the CapabilityStatement; empty if it is not there."""
        for rest in objects(self.metadata.get("rest")):
            for resource in objects(rest.get("resource")):
                if resource.get("type") == "ImagingStudy":
                    return resource
        return {}


CheckFunction = Callable[[RunContext], Awaitable[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """Check of requirement ``number``. ``title`` says what part of it is checked.

    ``levels``: how much that part demands, where no ``Violated`` says otherwise. ``function``
    returns what was seen when the requirement is kept, and raises ``Violated`` or ``NotTested``.
    ``requirement`` is the text where it is not that of ``REQUIREMENTS``.
    """

    number: int
    levels: Levels
    title: str
    function: CheckFunction
    requirement: str | None = None


Fault = tuple[RequirementLevel, str]


def raise_for_faults(faults: Iterable[Fault], total: int) -> None:
    """Raise ``Violated`` with the count of each fault, if there is any, and the strictest level."""
    counts = Counter(faults)
    if counts:
        shown = counts.most_common(8)
        text = "; ".join(f"{fault} ({count} of {total})" for (_, fault), count in shown)
        raise Violated(
            text, level=min((level for level, _ in counts), key=list(RequirementLevel).index)
        )

"""Search parameters of ImagingStudy and their readers (https://hl7.org/fhir/R4/search.html)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC

from sidecar.access.facts import is_fhir_id
from sidecar.common.errors import BadRequest
from sidecar.dicom.uid import is_uid
from sidecar.fhir.dates import parse_date_filter
from sidecar.fhir.imaging_study import UID_SYSTEM, Site
from sidecar.fhir.result_parameters import read_result
from sidecar.fhir.search import IdentifierFilter, Search
from sidecar.fhir.token_search import parse_token, split, unescaped

MAXIMUM_COUNT = 500
OTHER_PATIENT = ""
"""Patient reference that is nobody's here, such as another server's; it is no token's patient."""


def _patient(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    for alternative in value.split(","):
        reference = alternative.removeprefix(site.ehr_fhir_url + "/")
        patient = reference.removeprefix("Patient/")
        if not patient:
            raise BadRequest("The patient parameter is empty.", reason="bad_patient")
        search.patients.add(patient if is_fhir_id(patient) else OTHER_PATIENT)


def read_patient_identifier(
    search: Search, name: str, value: str, modifier: str | None, site: Site
) -> None:
    """Read the identifiers of a patient. Raises ``BadRequest``."""
    for alternative in split(value, ","):
        *systems, code = (unescaped(part) for part in split(alternative, "|"))
        if len(systems) > 1 or not code:
            raise BadRequest("A patient's identifier is system|value.", reason="bad_patient")
        search.patient_identifiers.add((systems[0] if systems else None, code))


def _identifier(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    """Read ``system|code``, ``code``, ``|code`` (no system) or ``system|`` (R4 search.html#token).

    Alternatives are separated by commas.
    """
    uids: set[str] = set()
    accession_numbers: set[str] = set()
    any_uid = False
    for alternative in split(value, ","):
        *systems, code = (unescaped(part) for part in split(alternative, "|"))
        system = systems[0] if systems else None
        if len(systems) > 1:
            continue
        is_accession = system in (None, site.accession_system or "")
        if is_accession and code and not code.startswith("urn:oid:"):
            accession_numbers.add(code)
        if system is None and is_uid(code.removeprefix("urn:oid:")):
            uids.add(code.removeprefix("urn:oid:"))
        elif system in (UID_SYSTEM, "urn:ietf:rfc:3986"):
            any_uid = any_uid or (system == UID_SYSTEM and not code)
            uids |= {code.removeprefix("urn:oid:")} if code else set()
    search.identifiers.append(
        IdentifierFilter(frozenset(uids), frozenset(accession_numbers), any_uid)
    )


def _dates(into: str) -> "Reader":
    def read(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
        filters = tuple(
            parse_date_filter(alternative, site.zone or UTC) for alternative in value.split(",")
        )
        getattr(search, into).append(filters)

    return read


def _token(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    search.tokens.append(parse_token(name, value, negated=modifier == "not"))


def _uid(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    code = lambda text: text.removeprefix("urn:oid:")  # noqa: E731
    search.tokens.append(parse_token(name, value, negated=modifier == "not", code=code))


def _endpoint(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    code = lambda text: text.removeprefix(site.fhir_base + "/").removeprefix("Endpoint/")  # noqa: E731
    search.tokens.append(parse_token(name, value, code=code))


def _after(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    search.after_text = value


def _result(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    search.result = read_result(search.result, name, value, maximum_count=MAXIMUM_COUNT)


Reader = Callable[[Search, str, str, str | None, Site], None]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Search parameter: its reader, and its type and text in the CapabilityStatement.

    Without a ``kind`` it is not in the CapabilityStatement.
    """

    read: Reader
    kind: str = ""
    documentation: str = ""
    modifiers: tuple[str, ...] = ()


_TOKEN_MODIFIERS = ("not", "missing")
# subject:Patient=123 names the type of the reference (R4 search.html#reference).
_REFERENCE_MODIFIERS = ("Patient", "identifier")
CHAINS = ("patient.identifier", "subject.identifier")

PARAMETERS: dict[str, Parameter] = {
    "patient": Parameter(
        _patient,
        "reference",
        "Patient/[id] or [id]: the patient of the access token; also "
        "patient.identifier=system|value",
        _REFERENCE_MODIFIERS,
    ),
    "subject": Parameter(_patient, "reference", "The same as patient", _REFERENCE_MODIFIERS),
    "patient.identifier": Parameter(
        read_patient_identifier, "token", "system|value of the access token's patient"
    ),
    "subject.identifier": Parameter(
        read_patient_identifier, "token", "The same as patient.identifier"
    ),
    "identifier": Parameter(
        _identifier,
        "token",
        "urn:oid:[StudyInstanceUID], urn:dicom:uid|urn:oid:[UID], or an accession number, with or "
        "without its system",
        ("missing",),
    ),
    "started": Parameter(_dates("started"), "date", "When the study began", ("missing",)),
    "_lastUpdated": Parameter(
        _dates("last_updated"), "date", "When this server first saw the study as it is now"
    ),
    "_id": Parameter(
        _token, "token", "The study's id: its StudyInstanceUID where that has at most 64 characters"
    ),
    "modality": Parameter(_token, "token", "A modality of the study, such as CT", _TOKEN_MODIFIERS),
    "status": Parameter(_token, "token", "available", _TOKEN_MODIFIERS),
    "bodysite": Parameter(
        _token, "token", "BodyPartExamined of a series, such as CHEST", _TOKEN_MODIFIERS
    ),
    "series": Parameter(_uid, "token", "The UID of a series of the study", _TOKEN_MODIFIERS),
    "instance": Parameter(_uid, "token", "The SOPInstanceUID of an instance of the study"),
    "dicom-class": Parameter(_uid, "token", "The SOPClassUID of an instance of the study"),
    "endpoint": Parameter(_endpoint, "reference", "Endpoint/[id]: the patient's"),
    "_after": Parameter(_after),
} | dict.fromkeys(
    ("_include", "_count", "_sort", "_summary", "_elements", "_total", "_format", "_pretty"),
    Parameter(_result),
)

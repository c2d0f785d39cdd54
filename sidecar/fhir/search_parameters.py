"""Search parameters of ImagingStudy and their readers (https://hl7.org/fhir/R4/search.html)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC

from sidecar.access.facts import is_fhir_id
from sidecar.common.errors import BadRequest, NotSupported
from sidecar.dicom.uid import is_uid
from sidecar.fhir.dates import parse_date_filter
from sidecar.fhir.imaging_study import UID_SYSTEM, Site
from sidecar.fhir.result_parameters import read_result
from sidecar.fhir.search import IdentifierFilter, Search
from sidecar.fhir.token_search import alternatives, parse_text, parse_token, split, unescaped

MAXIMUM_COUNT = 500
OTHER_PATIENT = ""
"""Patient reference that is nobody's here, such as another server's; it is no token's patient."""


def _patient(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    if modifier == "identifier":
        _patient_identifier(search, name, value, modifier, site)
        return
    for alternative in value.split(","):
        reference = alternative.removeprefix(site.ehr_fhir_url + "/")
        patient = reference.removeprefix("Patient/")
        if not patient:
            raise BadRequest("The patient parameter is empty.", reason="bad_patient")
        search.patients.add(patient if is_fhir_id(patient) else OTHER_PATIENT)


def _patient_identifier(
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
    found = list(alternatives(value))
    numbers = [pair for pair in found if not pair[1].startswith("urn:oid:")]
    uids = {
        code.removeprefix("urn:oid:")
        for system, code in found
        if (system in (UID_SYSTEM, "urn:ietf:rfc:3986") and code)
        or (system is None and is_uid(code.removeprefix("urn:oid:")))
    }
    search.identifiers.append(
        IdentifierFilter(
            frozenset(uids),
            _accession_numbers(numbers, site),
            any_uid=(UID_SYSTEM, "") in found,
            any_accession=_is_any_accession(found, site),
            negated=modifier == "not",
        )
    )


def _accession_numbers(found: Iterable[tuple[str | None, str]], site: Site) -> frozenset[str]:
    systems = (None, site.accession_system or "")
    return frozenset(code for system, code in found if code and system in systems)


def _is_any_accession(found: Collection[tuple[str | None, str]], site: Site) -> bool:
    return bool(site.accession_system) and (site.accession_system, "") in found


def _order(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    """Read the order's identifiers: placer order numbers, and accession numbers."""
    if modifier is None:
        raise NotSupported(
            "The archive knows orders by identifier alone: use basedon:identifier.",
            reason="unsupported_filter",
        )
    found = list(alternatives(value))
    search.identifiers.append(
        IdentifierFilter(
            accession_numbers=_accession_numbers(found, site),
            any_accession=_is_any_accession(found, site),
            order_numbers=frozenset(code for system, code in found if code and not system),
        )
    )


def _dates(into: str) -> "Reader":
    def read(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
        filters = tuple(
            parse_date_filter(alternative, site.zone or UTC) for alternative in value.split(",")
        )
        getattr(search, into).append(filters)

    return read


def _token(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    if modifier == "text":
        search.texts.append(parse_text(name, value))
    else:
        search.tokens.append(parse_token(name, value, negated=modifier == "not"))


def _name(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    search.texts.append(parse_text(name, value))


def _unsupported(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    raise NotSupported(
        f"The filter {name} is not supported: the archive does not know of it.",
        reason="unsupported_filter",
    )


def _person(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    raise NotSupported(
        f"The archive knows people by name alone: use {name}.name.", reason="unsupported_filter"
    )


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


_MISSING = ("missing",)
_TOKEN = ("not", "missing")
# subject:Patient=123 names the type of the reference (R4 search.html#reference).
_PATIENT = ("Patient", "identifier", "missing")
CHAINS = {
    f"{reference}{kind}.{name}": f"{reference}.{name}"
    for references, kinds, name in (
        (("patient", "subject"), ("", ":Patient"), "identifier"),
        (
            ("referrer", "performer", "interpreter"),
            ("", ":Practitioner", ":PractitionerRole"),
            "name",
        ),
    )
    for reference in references
    for kind in kinds
}
"""Chains as they may be written -> the parameter."""
NAMES_IN_R5 = {"based-on": "basedon", "body-site": "bodysite"}
"""Names that are others in R5 -> the parameter (https://hl7.org/fhir/R5/imagingstudy.html#search)."""

RESULTS = ("_include", "_count", "_sort", "_summary", "_elements", "_total", "_format", "_pretty")
"""Parameters that say what is returned of the studies, and how."""

PARAMETERS: dict[str, Parameter] = {
    "patient": Parameter(
        _patient,
        "reference",
        "Patient/[id] or [id]: the patient of the access token; also "
        "patient.identifier=system|value",
        _PATIENT,
    ),
    "subject": Parameter(_patient, "reference", "The same as patient", _PATIENT),
    "patient.identifier": Parameter(
        _patient_identifier, "token", "system|value of the access token's patient"
    ),
    "subject.identifier": Parameter(_patient_identifier, "token", "The same as patient.identifier"),
    "identifier": Parameter(
        _identifier,
        "token",
        "urn:oid:[StudyInstanceUID], urn:dicom:uid|urn:oid:[UID], or an accession number, with or "
        "without its system",
        _TOKEN,
    ),
    "started": Parameter(_dates("started"), "date", "When the study began", _MISSING),
    "_lastUpdated": Parameter(
        _dates("last_updated"),
        "date",
        "When this server first saw the study as it is now",
        _MISSING,
    ),
    "_id": Parameter(
        _token,
        "token",
        "The study's id: its StudyInstanceUID where that has at most 64 characters",
        _TOKEN,
    ),
    "modality": Parameter(_token, "token", "A modality of the study, such as CT", _TOKEN),
    "status": Parameter(_token, "token", "available", _TOKEN),
    "bodysite": Parameter(
        _token, "token", "BodyPartExamined of a series, such as CHEST", (*_TOKEN, "text")
    ),
    "reason": Parameter(_token, "token", "A code of the study's reason", (*_TOKEN, "text")),
    "series": Parameter(_uid, "token", "The UID of a series of the study", _TOKEN),
    "instance": Parameter(_uid, "token", "The SOPInstanceUID of an instance of the study", _TOKEN),
    "dicom-class": Parameter(_uid, "token", "The SOPClassUID of an instance of the study", _TOKEN),
    "endpoint": Parameter(
        _endpoint, "reference", "Endpoint/[id]: the patient's", ("Endpoint", "missing")
    ),
    # Only by identifier, only by name: the CapabilityStatement does not name them.
    "basedon": Parameter(_order, modifiers=("identifier", "missing")),
    "referrer": Parameter(_person, modifiers=_MISSING),
    "performer": Parameter(_person, modifiers=_MISSING),
    "interpreter": Parameter(_person, modifiers=_MISSING),
    "referrer.name": Parameter(_name),
    "performer.name": Parameter(_name),
    "interpreter.name": Parameter(_name),
    "_after": Parameter(_after),
    **dict.fromkeys(RESULTS, Parameter(_result)),
    "_include": Parameter(_result, modifiers=("iterate", "recurse")),
    # An ImagingStudy here has no value of these: :missing is answered.
    **dict.fromkeys(
        ("encounter", "_tag", "_profile", "_security", "_source"),
        Parameter(_unsupported, modifiers=_MISSING),
    ),
    # Filters of R4 that are not here.
    **dict.fromkeys(("_filter", "_query", "_text", "_content", "_list"), Parameter(_unsupported)),
}

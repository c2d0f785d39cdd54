"""``GET [base]/ImagingStudy?…`` -> a ``Search`` (SIA-20..24; https://hl7.org/fhir/R4/search.html).

Parameters that we do not know, and those without a value, are ignored and left out of
``link.self``, or refused when the client prefers ``handling=strict``; modifiers and chains that we
do not have are always refused, as R4 demands.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from urllib.parse import urlencode

from sidecar.access.facts import is_fhir_id
from sidecar.common.errors import BadRequest, NotSupported
from sidecar.dicom.uid import is_uid
from sidecar.fhir.cursor import Cursor
from sidecar.fhir.dates import DateFilter, parse_date_filter
from sidecar.fhir.imaging_study import UID_SYSTEM, Site
from sidecar.fhir.result_parameters import ResultParameters, read_result
from sidecar.fhir.token_search import TokenFilter, parse_token, split, unescaped

MAXIMUM_PARAMETERS = 50
MAXIMUM_COUNT = 500
MAXIMUM_LENGTH = 7_000
"""Characters of all parameters, encoded: they stand in the links of each page."""
MAXIMUM_ALTERNATIVES = 500
"""Limit of values in all parameters, those that commas separate counted one by one: dates are compared one by one."""
_SHOWN_NAME = re.compile(r"[A-Za-z_-]{1,40}", re.ASCII)
_NEEDS_VALUE = frozenset({"_id", "identifier", "series", "instance", "endpoint"})
"""What says which study it is."""
_REFUSES_EMPTY = frozenset(
    {"patient", "subject", "patient.identifier", "subject.identifier", "_after"}
)
"""Those whose readers refuse an empty value."""
OTHER_PATIENT = ""
"""Stands for a patient reference that can be nobody here (another server's, a malformed id): never the token's."""


@dataclass(frozen=True, slots=True)
class IdentifierFilter:
    """Alternatives of one ``identifier`` parameter: StudyInstanceUIDs, AccessionNumbers.

    ``any_uid``: every study's.
    """

    uids: frozenset[str]
    accession_numbers: frozenset[str]
    any_uid: bool = False


@dataclass(slots=True)
class Search:
    """What is asked for.

    ``patients``: every FHIR id that the request names; all must be the token's (SIA-22).

    ``patient_identifiers``: system (``None``: any) and value of each identifier that it names; all
    must be that patient's. Each element of ``identifiers``, ``started``, ``last_updated``,
    ``tokens`` has alternatives, and all elements must hold; ``missing`` says of parameters whether
    a study must have no such value. ``used`` has the parameters as they were understood, for
    ``link.self``, ``ignored`` the names of the others; ``after_text`` is the sealed ``_after``,
    ``after`` what is in it.
    """

    patients: set[str] = field(default_factory=set)
    patient_identifiers: set[tuple[str | None, str]] = field(default_factory=set)
    identifiers: list[IdentifierFilter] = field(default_factory=list)
    started: list[tuple[DateFilter, ...]] = field(default_factory=list)
    last_updated: list[tuple[DateFilter, ...]] = field(default_factory=list)
    tokens: list[TokenFilter] = field(default_factory=list)
    missing: list[tuple[str, bool]] = field(default_factory=list)
    result: ResultParameters = field(default_factory=ResultParameters)
    after_text: str | None = None
    after: Cursor | None = None
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list, compare=False)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What was understood, without the place of the page: what a cursor is sealed for."""
        return [pair for pair in self.used if pair[0] != "_after"]

    def names(self) -> set[str]:
        """The token parameters and ``:missing`` ones: what must be known of studies."""
        return {one.name for one in self.tokens} | {name for name, _ in self.missing}


def parse_search(
    parameters: Sequence[tuple[str, str]], site: Site, *, strict: bool = False
) -> Search:
    """Return the search that ``parameters`` (decoded names and values) mean.

    Raises ``BadRequest``.
    """
    _check_size(parameters)
    search = Search()
    for name, value in parameters:
        base, modifier = _name(name)
        known = PARAMETERS.get(base)
        if known is None and not base.startswith("_"):
            _refuse_chains(name)
        if known is None:
            _unknown(base, strict=strict)
            _ignore(search, base)
            continue
        if modifier is not None and modifier not in known.modifiers:
            raise NotSupported(
                f"The search parameter {base} has no such modifier here.", reason="bad_modifier"
            )
        if len(value) > 4_096 or not value.isprintable():
            raise BadRequest(
                f"The value of {base} is too long or has control characters.", reason="bad_value"
            )
        if _is_empty(base, value, strict=strict):
            _ignore(search, name)
            continue
        if modifier == "missing":
            search.missing.append((base, _boolean(base, value)))
        elif modifier == "identifier":
            _patient_identifier(search, base, value, modifier, site)
        else:
            known.read(search, base, value, modifier, site)
        search.used.append((base if modifier == "Patient" else name, value))
    return search


def _check_size(parameters: Sequence[tuple[str, str]]) -> None:
    # Those that our own links add do not count: what we wrote ourselves can be followed.
    counted = [(name, value) for name, value in parameters if name not in ("_after", "patient")]
    if len(counted) > MAXIMUM_PARAMETERS or len(parameters) > MAXIMUM_PARAMETERS + 2:
        raise BadRequest("There are too many search parameters.", reason="too_many_parameters")
    if (
        len(urlencode([pair for pair in parameters if pair[0] != "_after"], errors="replace"))
        > MAXIMUM_LENGTH
    ):
        raise BadRequest("The search is too long for the links of its pages.", reason="too_long")
    if sum(value.count(",") + 1 for _, value in parameters) > MAXIMUM_ALTERNATIVES:
        raise BadRequest(
            f"The search has more than {MAXIMUM_ALTERNATIVES} values (those separated by commas counted one by one).",
            reason="too_many_alternatives",
        )


def _name(name: str) -> tuple[str, str | None]:
    """The parameter and its modifier.

    Chains to Patient.identifier count as parameters of their own.
    """
    if name.replace(":Patient.", ".", 1) in _CHAINS:
        return name.replace(":Patient.", ".", 1), None
    base, _, modifier = name.partition(":")
    return base, modifier or (None if base == name else "")


def _refuse_chains(name: str) -> None:
    if "." in name:
        raise NotSupported("Chained search parameters are not supported.", reason="chained")


def _unknown(name: str, *, strict: bool) -> None:
    if name in ("_has", "_filter", "_query", "_revinclude", "_text", "_content", "_list"):
        # These select: ignoring them would answer another question.
        raise NotSupported(
            f"The search parameter {name} is not supported.", reason="unsupported_parameter"
        )
    if strict:
        named = (
            f"search parameter {name}"
            if _SHOWN_NAME.fullmatch(name)
            else "name of a search parameter"
        )
        raise NotSupported(
            f"The {named} is not supported (Prefer: handling=strict).", reason="strict"
        )


def _is_empty(name: str, value: str, *, strict: bool) -> bool:
    """Whether a parameter has no value, and is to be ignored.

    Raises ``BadRequest`` when it must have one.
    """
    if value.strip(",") or name in _REFUSES_EMPTY:
        return False
    if name in _NEEDS_VALUE:
        raise BadRequest(f"The search parameter {name} has no value.", reason="bad_value")
    if strict:
        raise NotSupported(
            f"The search parameter {name} has no value (Prefer: handling=strict).", reason="strict"
        )
    return True


def _ignore(search: Search, name: str) -> None:
    shown = name if _SHOWN_NAME.fullmatch(name.partition(":")[0]) else "…"
    if shown not in search.ignored:
        search.ignored.append(shown)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"{name}:missing is true or false.", reason="bad_value")
    return value == "true"


def _patient(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    for alternative in value.split(","):
        reference = alternative.removeprefix(site.ehr_fhir_url + "/")
        patient = reference.removeprefix("Patient/")
        if not patient:
            raise BadRequest("The patient parameter is empty.", reason="bad_patient")
        search.patients.add(patient if is_fhir_id(patient) else OTHER_PATIENT)


def _patient_identifier(
    search: Search, name: str, value: str, modifier: str | None, site: Site
) -> None:
    for alternative in split(value, ","):
        *systems, code = (unescaped(part) for part in split(alternative, "|"))
        if len(systems) > 1 or not code:
            raise BadRequest("A patient's identifier is system|value.", reason="bad_patient")
        search.patient_identifiers.add((systems[0] if systems else None, code))


def _identifier(search: Search, name: str, value: str, modifier: str | None, site: Site) -> None:
    """``system|code``, ``code``, ``|code`` (no system), ``system|`` (R4 search.html#token).

    Commas mean "or".
    """
    uids: set[str] = set()
    accession_numbers: set[str] = set()
    any_uid = False
    for alternative in split(value, ","):
        *systems, code = (unescaped(part) for part in split(alternative, "|"))
        system = systems[0] if systems else None
        if len(systems) > 1:
            continue
        if (
            system in (None, site.accession_system or "")
            and code
            and not code.startswith("urn:oid:")
        ):
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
    """A search parameter: how it is read, what the CapabilityStatement says of it (``kind`` empty: nothing)."""

    read: Reader
    kind: str = ""
    documentation: str = ""
    modifiers: tuple[str, ...] = ()


_TOKEN_MODIFIERS = ("not", "missing")
# subject:Patient=123 names the type of the reference (R4 search.html#reference).
_REFERENCE_MODIFIERS = ("Patient", "identifier")
_CHAINS = ("patient.identifier", "subject.identifier")

PARAMETERS: dict[str, Parameter] = {
    "patient": Parameter(
        _patient,
        "reference",
        "Patient/<id> or <id>: the patient of the access token; also patient.identifier=system|value",
        _REFERENCE_MODIFIERS,
    ),
    "subject": Parameter(_patient, "reference", "The same as patient", _REFERENCE_MODIFIERS),
    "patient.identifier": Parameter(
        _patient_identifier, "token", "system|value of the access token's patient"
    ),
    "subject.identifier": Parameter(_patient_identifier, "token", "The same as patient.identifier"),
    "identifier": Parameter(
        _identifier,
        "token",
        "urn:oid:<StudyInstanceUID>, urn:dicom:uid|urn:oid:<UID>, or an accession number, with or without its system",
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
    "endpoint": Parameter(_endpoint, "reference", "Endpoint/<id>: the patient's"),
    "_after": Parameter(_after),
} | dict.fromkeys(
    ("_include", "_count", "_sort", "_summary", "_elements", "_total", "_format", "_pretty"),
    Parameter(_result),
)

SUPPORTED = tuple(PARAMETERS)
"""Names of the search parameters."""

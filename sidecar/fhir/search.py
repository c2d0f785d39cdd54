"""``GET [base]/ImagingStudy?…`` -> a ``Search`` (SIA-20..24; https://hl7.org/fhir/R4/search.html).

Parameters that we do not know are ignored and left out of ``link.self``, or refused when the client prefers
``handling=strict``; modifiers and chains that we do not have are always refused, as R4 demands.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

import orjson

from sidecar.access.token import is_fhir_id
from sidecar.common.errors import BadRequest, NotSupported
from sidecar.common.uid import is_uid
from sidecar.fhir.dates import DateFilter, parse_date_filter

MAXIMUM_PARAMETERS = 50
MAXIMUM_COUNT = 500
UID_SYSTEM = "urn:dicom:uid"
OTHER_PATIENT = ""
"""Stands for a patient reference that can be nobody here (another server's, a malformed id): never the token's."""

_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)

# Result parameters of R4 that change nothing in what we return.
_WITHOUT_EFFECT = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after the study with this sort key (``started`` in microseconds, UID)."""

    started: int
    uid: str

    def encode(self) -> str:
        """The opaque text in a ``next`` link."""
        return base64.urlsafe_b64encode(orjson.dumps([self.started, self.uid])).decode().rstrip("=")

    @staticmethod
    def decode(text: str) -> "Cursor":
        """The cursor of a ``next`` link. It only says where to go on; permission is decided anew on each page."""
        try:
            started, uid = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, binascii.Error):
            raise BadRequest("The page link is damaged; search anew.", reason="bad_cursor") from None
        if not isinstance(started, int) or not isinstance(uid, str) or not is_uid(uid):
            raise BadRequest("The page link is damaged; search anew.", reason="bad_cursor")
        return Cursor(started, uid)


@dataclass(frozen=True, slots=True)
class IdentifierFilter:
    """Alternatives of one ``identifier`` parameter: StudyInstanceUIDs, AccessionNumbers."""

    uids: frozenset[str]
    accession_numbers: frozenset[str]


@dataclass(slots=True)
class Search:
    """What is asked for. ``patients``: every FHIR id that the request names; all must be the token's (SIA-22).

    Each element of ``identifiers``, ``started`` and ``last_updated`` has alternatives, and all elements must hold.
    ``used`` has the parameters as they were understood, for ``link.self``.
    """

    patients: set[str] = field(default_factory=set)
    identifiers: list[IdentifierFilter] = field(default_factory=list)
    started: list[tuple[DateFilter, ...]] = field(default_factory=list)
    last_updated: list[tuple[DateFilter, ...]] = field(default_factory=list)
    include_endpoint: bool = False
    count: int | None = None
    after: Cursor | None = None
    used: list[tuple[str, str]] = field(default_factory=list)


def parse_search(
    parameters: Sequence[tuple[str, str]], *, ehr_fhir_url: str, zone: tzinfo, strict: bool = False
) -> Search:
    """Return the search that ``parameters`` (decoded names and values) mean. Raises ``BadRequest``."""
    if len(parameters) > MAXIMUM_PARAMETERS:
        raise BadRequest("There are too many search parameters.", reason="too_many_parameters")
    search = Search()
    for name, value in parameters:
        base, modifier = _name(name)
        reader = _READERS.get(base)
        if reader is None:
            _unknown(base, strict=strict)
            continue
        if modifier is not None and modifier not in _MODIFIERS.get(base, ()):
            raise NotSupported(f"The search parameter {base} has no such modifier here.", reason="bad_modifier")
        if len(value) > 4_096 or not value.isprintable():
            raise BadRequest(f"The value of {base} is too long or has control characters.", reason="bad_value")
        reader(search, value, ehr_fhir_url, zone)
        search.used.append((base if modifier in (None, "Patient") else name, value))
    return search


def _name(name: str) -> tuple[str, str | None]:
    base, _, modifier = name.partition(":")
    if base.split(".")[0] in ("patient", "subject") and "." in name:
        raise NotSupported("Chained search parameters are not supported.", reason="chained")
    return base, modifier or (None if base == name else "")


def _unknown(name: str, *, strict: bool) -> None:
    if name in _WITHOUT_EFFECT:
        return
    if name in ("_has", "_filter", "_query", "_revinclude"):
        # These select: ignoring them would answer another question.
        raise NotSupported(f"The search parameter {name} is not supported.", reason="unsupported_parameter")
    if strict:
        raise NotSupported("A search parameter is not supported (Prefer: handling=strict).", reason="strict")


def _patient(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
    for alternative in value.split(","):
        reference = alternative.removeprefix(ehr_fhir_url + "/")
        patient = reference.removeprefix("Patient/")
        if not patient:
            raise BadRequest("The patient parameter is empty.", reason="bad_patient")
        search.patients.add(patient if is_fhir_id(patient) else OTHER_PATIENT)


def _identifier(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
    uids: set[str] = set()
    accession_numbers: set[str] = set()
    for alternative in value.split(","):
        system, bar, code = alternative.rpartition("|")
        if system in (UID_SYSTEM, "urn:ietf:rfc:3986") or (not system and code.startswith("urn:oid:")):
            uids.add(code.removeprefix("urn:oid:"))
        elif not system:
            accession_numbers.add(code)
            if not bar and is_uid(code):
                uids.add(code)
        # Our identifiers have no other system: such an alternative matches nothing.
    search.identifiers.append(IdentifierFilter(frozenset(uids), frozenset(accession_numbers)))


def _dates(into: str) -> Callable[[Search, str, str, tzinfo], None]:
    def read(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
        filters = tuple(parse_date_filter(alternative, zone) for alternative in value.split(","))
        getattr(search, into).append(filters)

    return read


def _include(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
    if value not in ("ImagingStudy:endpoint", "ImagingStudy:endpoint:Endpoint", "*"):
        raise NotSupported("Only _include=ImagingStudy:endpoint is supported.", reason="bad_include")
    search.include_endpoint = True


def _count(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
    if not _COUNT.fullmatch(value):
        raise BadRequest("_count is a whole number.", reason="bad_count")
    search.count = min(int(value), MAXIMUM_COUNT)


def _after(search: Search, value: str, ehr_fhir_url: str, zone: tzinfo) -> None:
    search.after = Cursor.decode(value)


_READERS: dict[str, Callable[[Search, str, str, tzinfo], None]] = {
    "patient": _patient,
    "subject": _patient,
    "identifier": _identifier,
    "started": _dates("started"),
    "_lastUpdated": _dates("last_updated"),
    "_include": _include,
    "_count": _count,
    "_after": _after,
}
# subject:Patient=123 names the type of the reference (R4 search.html#reference).
_MODIFIERS = {"patient": ("Patient",), "subject": ("Patient",)}

SUPPORTED = tuple(_READERS)
"""Names of the search parameters, for the CapabilityStatement."""

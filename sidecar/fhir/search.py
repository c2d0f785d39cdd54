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
from urllib.parse import urlencode

import orjson

from sidecar.access.token import is_fhir_id
from sidecar.common.errors import BadRequest, NotSupported
from sidecar.common.uid import is_uid
from sidecar.fhir.dates import DateFilter, parse_date_filter

MAXIMUM_PARAMETERS = 50
MAXIMUM_COUNT = 500
MAXIMUM_LENGTH = 7_000
"""Characters of all parameters, encoded: they stand in the links of each page."""
UID_SYSTEM = "urn:dicom:uid"
OTHER_PATIENT = ""
"""Stands for a patient reference that can be nobody here (another server's, a malformed id): never the token's."""

_MAXIMUM_TIME = 2**43
"""Milliseconds since 1970: the year 2248."""
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_PIECES = re.compile(r"\\.|.", re.DOTALL)
_ESCAPE = re.compile(r"\\([,|$\\])")

# Result parameters of R4 that change nothing in what we return.
_WITHOUT_EFFECT = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after the study with this sort key (``started`` in microseconds, UID).

    ``as_of``: when the first page was asked for, in milliseconds since 1970. All pages of a search say that as their
    ``meta.lastUpdated``: a study of an earlier page may have changed since.
    """

    started: int
    uid: str
    as_of: int = 0

    def encode(self) -> str:
        """The opaque text in a ``next`` link."""
        return base64.urlsafe_b64encode(orjson.dumps([self.started, self.uid, self.as_of])).decode().rstrip("=")

    @staticmethod
    def decode(text: str) -> "Cursor":
        """The cursor of a ``next`` link. It only says where to go on; permission is decided anew on each page."""
        try:
            padded = (text + "=" * (-len(text) % 4)).encode("ascii")
            started, uid, as_of = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
            found = Cursor(started, uid, as_of)
            is_time = type(as_of) is int and abs(as_of) < _MAXIMUM_TIME
            if type(started) is int and is_time and is_uid(uid) and found.encode() == text:
                return found
        except (ValueError, TypeError, binascii.Error):
            pass
        raise BadRequest("The page link is damaged; search anew.", reason="bad_cursor")


@dataclass(frozen=True, slots=True)
class IdentifierFilter:
    """Alternatives of one ``identifier`` parameter: StudyInstanceUIDs, AccessionNumbers; ``any_uid``: every study's."""

    uids: frozenset[str]
    accession_numbers: frozenset[str]
    any_uid: bool = False


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
    _check_size(parameters)
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


def _check_size(parameters: Sequence[tuple[str, str]]) -> None:
    # Those that our own links add do not count: what we wrote ourselves can be followed.
    counted = [(name, value) for name, value in parameters if name not in ("_after", "patient")]
    if len(counted) > MAXIMUM_PARAMETERS or len(parameters) > MAXIMUM_PARAMETERS + 2:
        raise BadRequest("There are too many search parameters.", reason="too_many_parameters")
    if len(urlencode([pair for pair in parameters if pair[0] != "_after"], errors="replace")) > MAXIMUM_LENGTH:
        raise BadRequest("The search is too long for the links of its pages.", reason="too_long")


def _name(name: str) -> tuple[str, str | None]:
    base, _, modifier = name.partition(":")
    if "." in name:
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
    """``system|code``, ``code``, ``|code`` (no system), ``system|`` (R4 search.html#token); commas mean "or"."""
    uids: set[str] = set()
    accession_numbers: set[str] = set()
    any_uid = False
    for alternative in _split(value, ","):
        *systems, code = (_unescaped(part) for part in _split(alternative, "|"))
        system = systems[0] if systems else None
        if len(systems) > 1 or (system not in (None, "", UID_SYSTEM, "urn:ietf:rfc:3986")):
            continue  # Our identifiers have no other system: such an alternative matches nothing.
        if system and not code:
            any_uid = any_uid or system == UID_SYSTEM
        elif system or (system is None and code.startswith("urn:oid:")):
            uids.add(code.removeprefix("urn:oid:"))
        elif code:
            accession_numbers.add(code)
            if system is None and is_uid(code):
                uids.add(code)
    search.identifiers.append(IdentifierFilter(frozenset(uids), frozenset(accession_numbers), any_uid))


def _split(value: str, separator: str) -> list[str]:
    """Split where the separator is not escaped by a backslash (R4 search.html#escaping); escapes stay."""
    parts = [""]
    for piece in _PIECES.findall(value):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)


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

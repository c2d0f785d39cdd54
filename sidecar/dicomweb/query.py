"""The client's QIDO-RS parameters, parsed and built anew (PS3.18 10.6.1, 8.3.4).

The client's matching keys for the patient are set aside, and ours are added. Each parameter that
remains is a DICOM attribute that we know, in one canonical spelling. Others are ignored (PS3.18
8.3), unless they may be meant to identify a patient or a study.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sidecar.common.errors import BadRequest
from sidecar.dicom.dictionary import STANDARD, vr_of
from sidecar.dicom.json_model import tag

MAXIMUM_PARAMETERS = 100
MAXIMUM_VALUE_LENGTH = 4_096
MAXIMUM_LIMIT = 10_000
MAXIMUM_STEPS = 8
"""Limit of tags in the path of an attribute in sequences."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}", re.ASCII)
_OTHER_NAME = re.compile(r"[a-z_][A-Za-z_-]{0,63}", re.ASCII)
_IDENTITY = re.compile(
    r"patient|person|subject|issuer|identifier|uid|mrn|^_?id$|^pid$", re.ASCII | re.IGNORECASE
)
"""Names that may be meant to identify a patient or a study."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)

# PS3.4 C.2.2.2.5, PS3.5 6.2: a date, time or both, or a range. "." and ":" come from ACR-NEMA.
_DATE = r"(?:[0-9]{8}|[0-9]{4}\.[0-9]{2}\.[0-9]{2})"
_TIME = r"(?:[0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:\.[0-9]{1,6})?)?)?)"
_DATETIME = r"(?:[0-9]{4,14}(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})?)"
_RANGES = {
    "DA": re.compile(rf" *(?:{_DATE}(?: *- *{_DATE}?)?|- *{_DATE}|\*) *", re.ASCII),
    "TM": re.compile(rf" *(?:{_TIME}(?: *- *{_TIME}?)?|- *{_TIME}|\*) *", re.ASCII),
    "DT": re.compile(rf" *(?:{_DATETIME}(?: *- *{_DATETIME}?)?|- *{_DATETIME}|\*) *", re.ASCII),
}

# PatientID, its issuer, type and qualifiers, other IDs, other names, other IDs with issuers.
_PATIENT_IDENTITY = frozenset(
    {"00100020", "00100021", "00100022", "00100024", "00101000", "00101001", "00101002"}
)


def includefield(*keywords: str) -> tuple[str, str]:
    """Return the query parameter that requests these attributes (PS3.18 8.3.4.3), by tag."""
    return "includefield", ",".join(map(tag, keywords))


class PatientKey(NamedTuple):
    """A matching key for the patient: its name as written, its attribute, and its value."""

    name: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class Matching:
    """A query without its patient: ``parameters`` are matching keys and ``includefield``.

    ``limit`` is ``None`` for all rows. ``is_capped``: the client asked for more than ``limit``.
    ``ignored`` has the names of unsupported parameters, each printable ASCII without quotes.
    Nothing is matched by ``patient_keys``: the patient is always the token's.
    """

    parameters: tuple[tuple[str, str], ...]
    limit: int | None
    offset: int
    ignored: tuple[str, ...] = ()
    is_capped: bool = False
    patient_keys: tuple[PatientKey, ...] = field(default=(), compare=False)

    def of_study(self, study: str) -> "Matching":
        """Return the query restricted to this study, in place of any study that it names."""
        name = tag("StudyInstanceUID")
        others = tuple(pair for pair in self.parameters if pair[0] != name)
        return replace(self, parameters=((name, study), *others))


class _Ignored(Exception):
    """The archive does not get this parameter or field."""


class _Patient(Exception):
    """A parameter is a matching key for the patient, by this attribute."""


def parse_matching(parameters: Sequence[tuple[str, str]], *, strict: bool = False) -> Matching:
    """Return the query of ``parameters`` (decoded names and values). Raises ``BadRequest``.

    ``strict``: refuse parameters that would be ignored (RFC 7240 4.4, ``handling=strict``).
    """
    if len(parameters) > MAXIMUM_PARAMETERS:
        raise BadRequest("There are too many query parameters.", reason="bad_query")
    paging: dict[str, int] = {}
    keys: dict[str, str] = {}
    fields: dict[str, None] = {}
    ignored: dict[str, None] = {}
    patient_keys: list[PatientKey] = []
    for name, value in parameters:
        if len(value) > MAXIMUM_VALUE_LENGTH or not value.isprintable():
            raise _bad("a value that is too long or has control characters")
        try:
            _read(name, value, paging, keys, fields)
        except _Patient as attribute:
            patient_keys.append(PatientKey(name, str(attribute), value))
        except _Ignored:
            if strict:
                raise not_supported() from None
            ignored[name] = None
    include = "all" if "all" in fields else ",".join(fields)
    limit = paging.get("limit")
    return Matching(
        (*keys.items(), *((("includefield", include),) if include else ())),
        None if limit is None else min(limit, MAXIMUM_LIMIT),
        paging.get("offset", 0),
        tuple(ignored),
        is_capped=limit is not None and limit > MAXIMUM_LIMIT,
        patient_keys=tuple(patient_keys),
    )


def not_supported() -> BadRequest:
    """Return the refusal of a parameter that would be ignored (RFC 7240, ``handling=strict``)."""
    return _bad("a parameter that is not supported (Prefer: handling=strict)")


def _read(
    name: str, value: str, paging: dict[str, int], keys: dict[str, str], fields: dict[str, None]
) -> None:
    if name in ("limit", "offset"):
        _set_number(paging, name, value)
    elif name == "fuzzymatching":
        if value not in ("true", "false", ""):
            raise _bad("fuzzymatching that is neither true nor false")
        if value != "false":
            raise _Ignored
    elif name == "charset":
        if value.lower() != "utf-8":
            raise _Ignored
    elif name == "includefield":
        included = [_field(item) for item in value.split(",") if item]
        fields |= dict.fromkeys(filter(None, included))
        if None in included:
            raise _Ignored
    else:
        _set_key(keys, name, value)


def _set_number(paging: dict[str, int], name: str, value: str) -> None:
    if not value:
        raise _Ignored
    if name in paging or not _NUMBER.fullmatch(value):
        raise _bad(f"{name} that is not one whole number")
    paging[name] = int(value)


def _set_key(keys: dict[str, str], name: str, value: str) -> None:
    if _OTHER_NAME.fullmatch(name) and not _IDENTITY.search(name):
        raise _Ignored
    attribute = _path(name)
    if _PATIENT_IDENTITY & set(attribute.split(".")):
        raise _Patient(attribute)
    if attribute in keys:
        raise _bad("an attribute that is given twice")
    # dcm4chee ignores a date that it cannot read, and answers with all rows.
    pattern = _RANGES.get(vr_of(int(attribute.rpartition(".")[2], 16)))
    if pattern is not None and value and not all(map(pattern.fullmatch, value.split("\\"))):
        raise _bad("a date or time, or a range of them, that is malformed")
    if value:
        keys[attribute] = value


def _field(item: str) -> str | None:
    """Return the attribute that each row shall have; ``None`` for an unknown attribute."""
    try:
        return "all" if item == "all" else _path(item)
    except (BadRequest, _Ignored):
        return None


def _path(name: str) -> str:
    """Return an attribute's tag, or its path in sequences with points between the tags."""
    steps = name.split(".", MAXIMUM_STEPS)
    if len(steps) > MAXIMUM_STEPS:
        raise _bad("an attribute in too many sequences")
    attributes = [_attribute(step) for step in steps]
    if None in attributes:
        raise _Ignored  # The tag is private, or nobody defines it.
    return ".".join(filter(None, attributes))


def _attribute(step: str) -> str | None:
    """Return the tag of a keyword or tag, in upper case; ``None`` for an unknown tag."""
    if _TAG.fullmatch(step):
        entry = STANDARD.get(int(step, 16))
        return step.upper() if entry is not None and entry.keyword else None
    if _KEYWORD.fullmatch(step):
        try:
            return tag(step)
        except KeyError:
            pass
    raise _bad("a name that is no DICOM keyword or tag")


def _bad(what: str) -> BadRequest:
    return BadRequest(f"The query has {what}.", reason="bad_query")

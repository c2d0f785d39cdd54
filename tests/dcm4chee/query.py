"""QIDO-RS as dcm4chee answers it: its strict parameters, its two limits, its attribute sets, its
order or none.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from pydicom.uid import ExplicitVRLittleEndian

from sidecar.demo.archive.attributes import LEVELS, value_representation
from sidecar.demo.archive.index import Index
from sidecar.demo.archive.matching import Matcher, compile_key
from sidecar.demo.archive.query import AttributeKey, RowSearch, search
from sidecar.dicom.json_model import tag, text
from sidecar.dicomweb.paths import Query
from tests.dcm4chee.attributes import ALWAYS, MATCHED, defaults, notes
from tests.dcm4chee.behaviour import AE_TITLE, Behaviour, Mode

_PATTERNS = {
    "limit": r"[1-9]\d{0,4}",
    "offset": r"0|[1-9]\d{0,4}",
    "fuzzymatching": "true|false",
    "includedefaults": "true|false",
    "incomplete": "true|false",
    "allOfModalitiesInStudy": "true|false",
    "merged": "true|false",
    "patientVerificationStatus": "UNVERIFIED|VERIFIED|NOT_FOUND|VERIFICATION_FAILED",
    "ExpirationState": "UPDATEABLE|FROZEN|REJECTED|EXPORT_SCHEDULED|FAILED_TO_EXPORT"
    "|FAILED_TO_REJECT",
}
_NO_ATTRIBUTES = frozenset(
    {*_PATTERNS, "accept", "access_token", "charset", "count", "ExpirationDate", "StudySizeInKB"}
)
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_UID_OF_LEVEL = {
    "studies": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instances": "SOPInstanceUID",
}


class Refused(Exception):
    """The query is answered with ``status`` and ``message``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Asked:
    """A query's parameters. ``fields``: tags to return besides; ``order``: tags to sort by;
    ``limit`` of 0: none.
    """

    keys: tuple[AttributeKey, ...]
    fields: frozenset[str]
    everything: bool
    with_defaults: bool
    order: tuple[str, ...]
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in DICOM JSON, and how many more there are when the archive itself cut them short."""

    rows: list[dict[str, Any]]
    remaining: int


def parse_query(query_string: str, mode: Mode = "measured") -> Asked:
    """Read a raw query string. Raises ``Refused``.

    As in its QueryAttributes: a value is split at commas before its percent-encoding is undone,
    whatever the attribute.
    """
    given: dict[str, list[str]] = {}
    for pair in filter(None, query_string.split("&")):
        name, _, value = pair.partition("=")
        given.setdefault(unquote_plus(name), []).extend(
            unquote_plus(one) for one in value.split(",")
        )
    for name, pattern in _PATTERNS.items():
        if name in given and not re.fullmatch(pattern, given[name][0], re.ASCII):
            raise Refused(400, _violation(name, pattern, given[name][0], mode))
    fields = given.pop("includefield", [])
    order = given.pop("orderby", [])
    keys = {
        _attribute(name): values for name, values in given.items() if name not in _NO_ATTRIBUTES
    }
    return Asked(
        keys=tuple(
            _key(name, values, mode)
            for name, values in keys.items()
            if name.split(".")[0] in MATCHED
        ),
        # An attribute that is asked for is returned as well.
        fields=frozenset(_attribute(one).split(".")[0] for one in [*fields, *keys] if one != "all"),
        everything="all" in fields,
        with_defaults=given.get("includedefaults") != ["false"],
        order=tuple(_attribute(one) for one in order),
        limit=int(given.get("limit", ["0"])[0]),
        offset=int(given.get("offset", ["0"])[0]),
    )


def _violation(name: str, pattern: str, value: str, mode: Mode) -> str:
    """The report of its bean validation, which repeats what was given."""
    if mode == "documented":
        return f"{name} must match {pattern}"
    return f'[PARAMETER]\r[search.{name}]\r[must match "{pattern}"]\r[{value}]\r\r'


def _attribute(name: str) -> str:
    """Tags joined by dots: ``RequestAttributesSequence.00400009`` -> ``00400275.00400009``. Unknown
    names are a 400.
    """
    try:
        return ".".join(
            step.upper() if _TAG.fullmatch(step) else tag(step) for step in name.split(".")
        )
    except KeyError:
        raise Refused(400, f"Illegal query attribute: {name}") from None


def _key(name: str, values: Sequence[str], mode: Mode) -> AttributeKey:
    tags = tuple(name.split("."))
    return AttributeKey(tags, _matcher(tags[-1], values, mode))


def _matcher(attribute: str, values: Sequence[str], mode: Mode) -> Matcher:
    vr = value_representation(attribute)
    if attribute == tag("PatientID"):
        values = values[:1]  # Its patient is looked up by one ID.
        if mode == "measured" and "\\" in values[0]:
            return lambda found: False
    if vr == "UI" and any("," in value for value in values):
        return lambda found: False
    try:
        return compile_key(vr, "\\".join(values))
    except ValueError:
        if mode == "measured" and vr in ("DA", "DT", "TM"):
            return lambda found: True
        raise Refused(400, f"Illegal value of {attribute}") from None


def answer(index: Index, query: Query, asked: Asked, behaviour: Behaviour, root: str) -> Page:
    """Return the page of rows that is asked for. Raises ``Refused``."""
    rows = matching_rows(index, query, asked, root)
    if behaviour.query_maximum is not None and len(rows) > behaviour.query_maximum:
        raise Refused(413, f"Query count exceeds {behaviour.query_maximum}: narrow the query")
    rows = _ordered(rows, asked, query)[asked.offset :]
    remaining = 0
    if behaviour.qido_maximum and (asked.limit == 0 or asked.limit > behaviour.qido_maximum):
        remaining = max(0, len(rows) - behaviour.qido_maximum)
    size = behaviour.qido_maximum if remaining else asked.limit or len(rows)
    return Page([_written(row, query, asked, behaviour) for row in rows[:size]], remaining)


def matching_rows(index: Index, query: Query, asked: Asked, root: str) -> list[dict[str, Any]]:
    """Everything that matches, with all attributes."""
    return search(index, query, RowSearch(asked.keys, frozenset(), True, None, 0, False), root)


def _ordered(rows: list[dict[str, Any]], asked: Asked, query: Query) -> list[dict[str, Any]]:
    """As asked; without ``orderby`` as the database likes, which may be another order for each
    page.
    """
    if asked.order:
        return sorted(
            rows, key=lambda row: [str(row.get(name, {}).get("Value", "")) for name in asked.order]
        )
    uid = _UID_OF_LEVEL[query.level]
    return sorted(
        rows, key=lambda row: hashlib.sha256(f"{asked.offset} {text(row, uid)}".encode()).digest()
    )


def _written(
    row: Mapping[str, Any], query: Query, asked: Asked, behaviour: Behaviour
) -> dict[str, Any]:
    own = {
        tag("RetrieveAETitle"): {"vr": "AE", "Value": [AE_TITLE]},
        tag("InstanceAvailability"): {
            "vr": "CS",
            "Value": [behaviour.availability(text(row, "StudyInstanceUID") or "")],
        },
        tag("AvailableTransferSyntaxUID"): {"vr": "UI", "Value": [ExplicitVRLittleEndian]},
    }
    everything = {**row, **own}
    if asked.everything:
        return dict(sorted({**everything, **notes(behaviour.mode)}.items()))
    level = LEVELS[query.level]
    wanted = set(asked.fields) | {tag("RetrieveURL")}
    if query.study is not None:
        wanted.add(tag("StudyInstanceUID"))  # What the path says is a key like any other.
    if query.series is not None:
        wanted.add(tag("SeriesInstanceUID"))
    if asked.with_defaults:
        above = {
            "study_in_path": query.study is not None,
            "series_in_path": query.series is not None,
        }
        wanted |= defaults(level, behaviour.mode, **above)
    elif behaviour.is_measured:
        wanted |= {*ALWAYS, tag("StudyInstanceUID")}
    if "77770010" in wanted:
        everything |= notes(behaviour.mode)
    return {
        name: everything.get(name, {"vr": value_representation(name)}) for name in sorted(wanted)
    }

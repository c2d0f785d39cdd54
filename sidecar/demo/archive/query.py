"""QIDO-RS (PS3.18 10.6): the parameters of a search, and the rows that match."""

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_has_tag

from sidecar.common.errors import BadRequest
from sidecar.demo.archive.attributes import (
    ALWAYS_RETURNED,
    LEVELS,
    RETURNED_IF_PRESENT,
    Level,
    level_of,
    value_representation,
)
from sidecar.demo.archive.index import Index
from sidecar.demo.archive.instance import Attributes
from sidecar.demo.archive.matching import Matcher, compile_key
from sidecar.dicom.json_model import tag, text
from sidecar.dicomweb.paths import Query

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AttributeKey:
    """Matching key. ``tags`` is the attribute's path: the tags of its sequences, and its own."""

    tags: tuple[str, ...]
    matches: Matcher


@dataclass(frozen=True, slots=True)
class RowSearch:
    """Parameters of a search. ``fields``: further tags to return; ``limit``: ``None`` for all."""

    keys: tuple[AttributeKey, ...]
    fields: frozenset[str]
    all_fields: bool
    limit: int | None
    offset: int
    fuzzy: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """Study, series or instance: its attributes with those above it, and its instances."""

    attributes: Mapping[str, Any]
    instances: Sequence[Attributes]


def parse_search(parameters: Sequence[tuple[str, str]]) -> RowSearch:
    """Read the decoded query parameters (PS3.18 8.3.4, 10.6.1.2). Raises ``BadRequest``."""
    keys: list[AttributeKey] = []
    fields: set[str] = set()
    paging: dict[str, int] = {}
    fuzzy = False
    for name, value in parameters:
        if name in ("limit", "offset"):
            if name in paging or not _NUMBER.fullmatch(value):
                raise BadRequest(f"{name} must be one whole number.", reason="bad_query")
            paging[name] = int(value)
        elif name == "includefield":
            fields |= {item if item == "all" else _tags(item)[0] for item in value.split(",")}
        elif name == "fuzzymatching":
            if value not in ("true", "false"):
                raise BadRequest("fuzzymatching must be true or false.", reason="bad_query")
            fuzzy = value == "true"
        elif name != "accept":
            keys.append(_key(name, value))
    return RowSearch(
        tuple(keys),
        frozenset(fields - {"all"}),
        "all" in fields,
        paging.get("limit"),
        paging.get("offset", 0),
        fuzzy,
    )


def _key(name: str, value: str) -> AttributeKey:
    tags = _tags(name)
    try:
        return AttributeKey(tags, compile_key(value_representation(tags[-1]), value))
    except ValueError:
        raise BadRequest(f"The value of {name} is malformed.", reason="bad_query") from None


def _tags(name: str) -> tuple[str, ...]:
    """Return ``("00400275", "00400009")`` for ``RequestAttributesSequence.00400009``."""
    return tuple(_tag(step) for step in name.split("."))


def _tag(step: str) -> str:
    if _TAG.fullmatch(step) and dictionary_has_tag(int(step, 16)):
        return step.upper()
    try:
        return tag(step)
    except KeyError:
        raise BadRequest(
            "A query parameter is no DICOM keyword or tag.", reason="bad_query"
        ) from None


def search(index: Index, query: Query, parameters: RowSearch, root: str) -> list[dict[str, Any]]:
    """Return the rows of a search in DICOM JSON, by patient, date and numbers.

    ``root`` is the DICOMweb root's URL.
    """
    level = LEVELS[query.level]
    matches = [
        candidate
        for candidate in _candidates(index, query, level)
        if _matches(candidate, parameters.keys, level)
    ]
    end = None if parameters.limit is None else parameters.offset + parameters.limit
    return [
        _row(candidate, parameters, query, level, root)
        for candidate in matches[parameters.offset : end]
    ]


def _candidates(index: Index, query: Query, level: Level) -> Iterator[Candidate]:
    for study in index.studies:
        if query.study not in (None, text(study.attributes, "StudyInstanceUID")):
            continue
        if level is Level.STUDY:
            yield Candidate(
                study.attributes, [instance.attributes for instance in study.instances()]
            )
            continue
        for series in study.series:
            if query.series not in (None, text(series.attributes, "SeriesInstanceUID")):
                continue
            above = ChainMap(series.attributes, study.attributes)
            if level is Level.SERIES:
                yield Candidate(above, [instance.attributes for instance in series.instances])
            else:
                for instance in series.instances:
                    yield Candidate(
                        ChainMap(instance.attributes, *above.maps), [instance.attributes]
                    )


def _matches(candidate: Candidate, keys: Sequence[AttributeKey], level: Level) -> bool:
    """Return whether all keys match. A key of a lower level matches if it matches any instance."""
    for key in keys:
        is_own = level_of(key.tags[0]) <= level
        searched = [candidate.attributes] if is_own else candidate.instances
        if not any(key.matches(_values(attributes, key.tags)) for attributes in searched):
            return False
    return True


def _values(attributes: Mapping[str, Any], tags: Sequence[str]) -> list[Any]:
    values = attributes.get(tags[0], {}).get("Value", [])
    if len(tags) == 1:
        return [value for value in values if value is not None]
    items = [item for item in values if isinstance(item, Mapping)]
    return [value for item in items for value in _values(item, tags[1:])]


def _row(
    candidate: Candidate, parameters: RowSearch, query: Query, level: Level, root: str
) -> dict[str, Any]:
    requested = {key.tags[0] for key in parameters.keys} | parameters.fields
    # PS3.18 10.6.3.3: a row has the attributes of the levels above that the path does not name.
    in_path = {Level.STUDY: query.study, Level.SERIES: query.series, Level.INSTANCE: None}
    levels = [level, *(above for above in Level if above < level and in_path[above] is None)]
    always = requested.union(*(ALWAYS_RETURNED[row_level] for row_level in levels))
    row: dict[str, Any] = {name: {"vr": value_representation(name)} for name in always}
    optional = always.union(*(RETURNED_IF_PRESENT[row_level] for row_level in levels))
    for name in candidate.attributes if parameters.all_fields else optional:
        element = candidate.attributes.get(name)
        if element is not None and "BulkDataURI" not in element:
            row[name] = element
    row[tag("SpecificCharacterSet")] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    row[tag("RetrieveURL")] = {"vr": "UR", "Value": [_url(candidate.attributes, level, root)]}
    return dict(sorted(row.items()))


def _url(attributes: Mapping[str, Any], level: Level, root: str) -> str:
    study, series, instance = (
        text(attributes, uid) for uid in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    url = f"{root}/studies/{study}"
    if level >= Level.SERIES:
        url += f"/series/{series}"
    return url + f"/instances/{instance}" if level is Level.INSTANCE else url

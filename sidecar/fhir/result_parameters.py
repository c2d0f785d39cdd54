"""Result parameters: elements, number and order (https://hl7.org/fhir/R4/search.html#return)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.common.errors import BadRequest, Ignorable, NotAcceptable

Json = Mapping[str, Any]

SORTS = ("started", "-started", "_lastUpdated", "-_lastUpdated", "_id", "-_id")
_INCLUDES = ("ImagingStudy:endpoint", "ImagingStudy:endpoint:Endpoint", "ImagingStudy:*", "*")
_SUMMARIES = ("true", "false", "text", "data", "count")
_TOTALS = ("none", "estimate", "accurate")
_JSON_FORMATS = ("text/json", "application/json", "application/fhir+json")
_COUNT = re.compile(r"[0-9]{1,15}", re.ASCII)
_ELEMENT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}(?:\.[A-Za-z][A-Za-z0-9]{0,63})*", re.ASCII)

# R4 imagingstudy.html: what is marked as summary: all of ours but the instances of series.
_SUMMARY = frozenset(
    {
        "identifier",
        "status",
        "modality",
        "subject",
        "encounter",
        "started",
        "basedOn",
        "referrer",
        "interpreter",
        "endpoint",
        "numberOfSeries",
        "numberOfInstances",
        "procedureReference",
        "procedureCode",
        "location",
        "reasonCode",
        "reasonReference",
        "description",
        "series",
        "note",
    }
)
# R4 endpoint.html: all that ours have is marked as summary.
_SUMMARY_OF_ENDPOINT = frozenset(
    {"extension", "status", "connectionType", "period", "payloadType", "payloadMimeType", "address"}
)
# Whatever is asked for: min 1, and the extension that says whether a token is needed (SIA-31).
_MANDATORY = {
    "ImagingStudy": frozenset({"status", "subject"}),
    "Endpoint": frozenset({"extension", "status", "connectionType", "payloadType", "address"}),
}
_ALWAYS = frozenset({"resourceType", "id", "meta"})
_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}


@dataclass(frozen=True, slots=True)
class ResultParameters:
    """Result parameters of a search.

    ``sort``: names, ``-`` for descending. ``count``: studies in a page, 0 for the total alone.
    """

    include_endpoint: bool = False
    count: int | None = None
    sort: tuple[str, ...] = ()
    summary: str = "false"
    elements: frozenset[str] = frozenset()
    total: str = "accurate"
    pretty: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether resources are returned with all of their elements."""
        return not self.elements and self.summary not in ("true", "text")

    @property
    def only_total(self) -> bool:
        """Whether ``_summary=count`` or ``_count=0`` was given, which mean the same."""
        return self.summary == "count" or self.count == 0


def read_result(
    result: ResultParameters, name: str, value: str, *, maximum_count: int
) -> ResultParameters:
    """Return ``result`` with a parameter of ``name`` read into it.

    Raises ``BadRequest``; ``Ignorable`` for other orders, and for resources that we do not have.
    """
    match name:
        case "_include":
            _check_include(value)
            return replace(result, include_endpoint=True)
        case "_count":
            return replace(result, count=min(_number(value), maximum_count))
        case "_sort":
            return replace(result, sort=_sort(value))
        case "_summary":
            return replace(result, summary=_one_of(name, value, _SUMMARIES))
        case "_elements":
            return replace(result, elements=result.elements | _elements(value))
        case "_total":
            return replace(result, total=_one_of(name, value, _TOTALS))
        case "_pretty":
            return replace(result, pretty=_one_of(name, value, ("true", "false")) == "true")
    if json_format(value).partition(";")[0] not in _JSON_FORMATS:  # _format
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept")
    return result


def json_format(value: str) -> str:
    """Return a ``_format`` as a media type.

    ``json`` is written out, and the ``+`` is restored that form decoding makes a space.
    """
    name, semicolon, rest = value.partition(";")
    name = name.strip().lower().replace("fhir json", "fhir+json")
    return ("application/fhir+json" if name == "json" else name) + semicolon + rest


def _check_include(value: str) -> None:
    if value not in _INCLUDES:
        raise Ignorable("Only _include=ImagingStudy:endpoint is supported.", reason="bad_include")


def _number(value: str) -> int:
    if not _COUNT.fullmatch(value):
        raise BadRequest("_count is a whole number.", reason="bad_count")
    return int(value)


def _one_of(name: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise BadRequest(f"{name} is one of {', '.join(values)}.", reason="bad_value")
    return value


def _sort(value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    if not set(names) <= set(SORTS) or len({name.lstrip("-") for name in names}) < len(names):
        raise Ignorable(f"_sort takes {', '.join(SORTS)}, each once.", reason="bad_sort")
    return names


def _elements(value: str) -> frozenset[str]:
    paths = [
        path.removeprefix("ImagingStudy.").removeprefix("Endpoint.") for path in value.split(",")
    ]
    if not all(map(_ELEMENT.fullmatch, paths)):
        raise BadRequest("_elements is a list of element names.", reason="bad_value")
    return frozenset(path.partition(".")[0] for path in paths)


def subset(resource: Json, result: ResultParameters) -> Json:
    """Return what ``_summary`` or ``_elements`` leaves of a resource, tagged SUBSETTED if less."""
    names = _names(result, resource["resourceType"])
    if names is None:
        return resource
    # A contained Endpoint stays with the reference to it.
    if "endpoint" in names:
        names |= {"contained"}
    left = {name: value for name, value in resource.items() if name in names}
    if result.summary == "true" and not result.elements and "series" in left:
        left["series"] = [
            {name: series[name] for name in series if name != "instance"}
            for series in left["series"]
        ]
    return left | {"meta": {**resource.get("meta", {}), "tag": [_SUBSETTED]}}


def _names(result: ResultParameters, kind: str) -> frozenset[str] | None:
    """Return the names of the elements that are left; ``None`` for all."""
    if result.elements:
        return _ALWAYS | _MANDATORY[kind] | result.elements
    match result.summary:
        case "true":
            return _ALWAYS | (_SUMMARY_OF_ENDPOINT if kind == "Endpoint" else _SUMMARY)
        case "text":
            return _ALWAYS | _MANDATORY[kind] | {"text"}
        case _:  # `data` leaves out the narrative, of which there is none.
            return None

"""Selection of the studies that pass a search, their order and their page (SIA-20, 21)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sidecar.dicom.json_model import Row, text, texts
from sidecar.dicom.uid import is_uid
from sidecar.fhir.cursor import Cursor
from sidecar.fhir.dates import DateFilter, DateRange, Started
from sidecar.fhir.imaging_study import (
    DICOM_TERMINOLOGY,
    UID_SYSTEM,
    Site,
    accession_number,
    modality_codes,
    study_id,
    study_started,
    study_uid,
)
from sidecar.fhir.search import IdentifierFilter, Search
from sidecar.fhir.token_search import TokenFilter, Value

STATUS_SYSTEM = "http://hl7.org/fhir/imagingstudy-status"
DEFAULT_SORT = ("-started",)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN_START = -(2**62)


@dataclass(frozen=True, slots=True)
class Details:
    """Details of studies beyond their rows, as far as a search needs them.

    - ``series``: StudyInstanceUID -> series rows
    - ``holding``: filter on instances -> StudyInstanceUIDs of the studies that have one
    - ``endpoint``: id of the patient's Endpoint; ``None`` when it is contained and has none
    """

    series: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    holding: Mapping[TokenFilter, frozenset[str]] = field(default_factory=dict)
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class MatchedStudy:
    """Study that passed: its row, its place in the order, and its last observed change."""

    row: Row
    key: Cursor
    last_updated: datetime


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Page: its studies, their number on all pages, and where the next one begins."""

    studies: Sequence[MatchedStudy]
    total: int
    next_after: Cursor | None


def passing(
    rows: Iterable[Row],
    search: Search,
    *,
    seen: Mapping[str, datetime],
    site: Site,
    details: Details,
) -> Iterator[MatchedStudy | None]:
    """Yield each study that passes, unsorted, and ``None`` for each other one (``in_slices``)."""
    for row in rows:
        uid = study_uid(row)
        if not is_uid(uid):
            yield None  # Could not be retrieved either: no URL can name it.
            continue
        began = study_started(row, site)
        last_updated = seen[uid]
        if _is_wanted(row, search, began, last_updated, details, site):
            keys = _keys(search.result.sort or DEFAULT_SORT, began, last_updated)
            yield MatchedStudy(row, Cursor(keys, uid), last_updated)
        else:
            yield None


def narrowed(
    rows: Iterable[Row], search: Search, seen: Mapping[str, datetime], site: Site
) -> Iterator[Row | None]:
    """Yield the rows that can still pass, and ``None`` for each other one (``in_slices``).

    The archive is queried for details of these alone.
    """
    by_id = [token for token in search.tokens if token.name == "_id"]
    for row in rows:
        uid = study_uid(row)
        can_pass = (
            is_uid(uid)
            and all(_is_identified(row, identifier) for identifier in search.identifiers)
            and _passes_by_dates(search, study_started(row, site), seen[uid])
            and all(token.matches([("", study_id(uid))]) for token in by_id)
        )
        yield row if can_pass else None


def _span(moment: datetime) -> DateRange:
    return DateRange(moment, moment + timedelta(milliseconds=1))


def page_of(studies: Iterable[MatchedStudy], search: Search, page_size: int) -> StudyPage:
    """Return the page of ``search`` from all studies that pass."""
    found = sorted(studies, key=lambda study: (study.key.keys, study.key.uid))
    # The page begins behind a study, not at a number: what arrives meanwhile shifts nothing.
    rest = found
    if search.after is not None:
        border = (search.after.keys, search.after.uid)
        rest = [study for study in found if (study.key.keys, study.key.uid) > border]
    size = page_size if search.result.count is None else search.result.count
    page = [] if search.result.only_total else rest[:size]
    return StudyPage(page, len(found), page[-1].key if page and len(rest) > len(page) else None)


def _keys(sort: Sequence[str], began: Started | None, last_updated: datetime) -> tuple[int, ...]:
    """Return the sort keys, smallest first; a study without a start is the oldest."""
    start = _microseconds(began.span.start) if began else _UNKNOWN_START
    values = {"started": start, "_lastUpdated": _microseconds(last_updated)}
    return tuple(-values[name[1:]] if name.startswith("-") else values[name] for name in sort)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _is_wanted(
    row: Row,
    search: Search,
    began: Started | None,
    last_updated: datetime,
    details: Details,
    site: Site,
) -> bool:
    return (
        all(_is_identified(row, identifier) for identifier in search.identifiers)
        and _passes_by_dates(search, began, last_updated)
        and all(_has(row, token, details) for token in search.tokens)
        and all(_is_missing(row, name, began, details) is wanted for name, wanted in search.missing)
    )


def _passes_by_dates(search: Search, began: Started | None, last_updated: datetime) -> bool:
    return _passes(search.started, began.span if began else None) and _passes(
        search.last_updated, _span(last_updated)
    )


def satisfies(row: Row, search: Search, details: Details, site: Site) -> bool:
    """Return whether a study's rows pass ``search``, apart from ``_lastUpdated``."""
    return _is_wanted(row, search, study_started(row, site), _EPOCH, details, site)


def _is_identified(row: Row, wanted: IdentifierFilter) -> bool:
    return (
        wanted.any_uid
        or study_uid(row) in wanted.uids
        or accession_number(row) in wanted.accession_numbers
    )


def _passes(filters: Iterable[tuple[DateFilter, ...]], value: DateRange | None) -> bool:
    return all(
        value is not None and any(alternative.matches(value) for alternative in alternatives)
        for alternatives in filters
    )


def _has(row: Row, wanted: TokenFilter, details: Details) -> bool:
    if details.holding and wanted in details.holding:
        return study_uid(row) in details.holding[wanted]
    return wanted.matches(_values(row, wanted.name, details))


def _is_missing(row: Row, name: str, began: Started | None, details: Details) -> bool:
    if name == "started":
        return began is None
    return name != "identifier" and not _values(row, name, details)


def _values(row: Row, name: str, details: Details) -> list[Value]:
    """Return the study's values for a token parameter."""
    series = details.series.get(study_uid(row), ())
    match name:
        case "_id":
            return [("", study_id(study_uid(row)))]
        case "status":
            return [(STATUS_SYSTEM, "available")]
        case "modality":
            return [(DICOM_TERMINOLOGY, code) for code in modality_codes(row, series)]
        case "bodysite":
            sites = [value.strip() for part in series for value in texts(part, "BodyPartExamined")]
            return [("", body_site) for body_site in sites if body_site]
        case "series":
            uids = [text(part, "SeriesInstanceUID") for part in series]
            return [(UID_SYSTEM, uid) for uid in uids if uid]
        case "endpoint":
            return [] if details.endpoint is None else [("", details.endpoint)]
        case _:
            return []

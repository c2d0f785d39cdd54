"""Which studies pass a search, in which order, which page (SIA-20, 21)."""

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
    """What the archive said of studies beyond their rows, as far as a search needs it.

    ``series``: StudyInstanceUID -> series rows; ``holding``: filter on instances ->
    StudyInstanceUIDs of the studies that have one; ``endpoint``: id of the patient's Endpoint,
    ``None`` when it is contained and has none.
    """

    series: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    holding: Mapping[TokenFilter, frozenset[str]] = field(default_factory=dict)
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class MatchedStudy:
    """A study that passed: its row, where it stands in the order, when it was last seen to change."""

    row: Row
    key: Cursor
    last_updated: datetime


@dataclass(frozen=True, slots=True)
class StudyPage:
    """One page: its studies, how many there are on all pages, where the next one begins."""

    studies: Sequence[MatchedStudy]
    total: int
    next_after: Cursor | None


def select(
    rows: Iterable[Row],
    search: Search,
    *,
    seen: Mapping[str, datetime],
    site: Site,
    page_size: int,
    details: Details = Details(),
) -> StudyPage:
    """Return the page of ``search`` over a patient's study rows: newest study first unless sorted, then by UID.

    ``seen``: when each study was first seen as it is (``Catalog``).
    """
    found = passing(rows, search, seen=seen, site=site, details=details)
    return page_of([one for one in found if one is not None], search, page_size)


def passing(
    rows: Iterable[Row],
    search: Search,
    *,
    seen: Mapping[str, datetime],
    site: Site,
    details: Details = Details(),
) -> Iterator[MatchedStudy | None]:
    """Each study that passes, in no order; ``None`` for one that does not (``in_slices``)."""
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
    """The rows that can still pass, by what they say themselves: only these are worth a question to the archive.

    ``None`` stands for each of the others (``in_slices``).
    """
    known = [one for one in search.tokens if one.name == "_id"]
    return (
        row
        if is_uid(uid := study_uid(row))
        and all(_is_identified(row, one) for one in search.identifiers)
        and _passes(search.started, began.span if (began := study_started(row, site)) else None)
        and _passes(search.last_updated, _span(seen[uid]))
        and all(one.matches([("", study_id(uid))]) for one in known)
        else None
        for row in rows
    )


def _span(moment: datetime) -> DateRange:
    return DateRange(moment, moment + timedelta(milliseconds=1))


def page_of(studies: Iterable[MatchedStudy], search: Search, page_size: int) -> StudyPage:
    """The page of those that pass."""
    found = sorted(studies, key=lambda one: (one.key.keys, one.key.uid))
    # The page begins behind a study, not at a number: what arrives meanwhile shifts nothing.
    rest = found
    if search.after is not None:
        border = (search.after.keys, search.after.uid)
        rest = [one for one in found if (one.key.keys, one.key.uid) > border]
    size = page_size if search.result.count is None else search.result.count
    page = [] if search.result.only_total else rest[:size]
    return StudyPage(page, len(found), page[-1].key if page and len(rest) > len(page) else None)


def _keys(sort: Sequence[str], began: Started | None, last_updated: datetime) -> tuple[int, ...]:
    """Whole numbers, smallest first; a study that does not say when it began is the oldest."""
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
        all(_is_identified(row, one) for one in search.identifiers)
        and _passes(search.started, began.span if began else None)
        and _passes(search.last_updated, _span(last_updated))
        and all(_has(row, one, details) for one in search.tokens)
        and all(_is_missing(row, name, began, details) is wanted for name, wanted in search.missing)
    )


def satisfies(row: Row, search: Search, details: Details, site: Site) -> bool:
    """Whether a study has what ``search`` asks of it, as far as its rows tell (not ``_lastUpdated``)."""
    return _is_wanted(row, search, study_started(row, site), _EPOCH, details, site)


def _is_identified(row: Row, wanted: IdentifierFilter) -> bool:
    return (
        wanted.any_uid
        or study_uid(row) in wanted.uids
        or accession_number(row) in wanted.accession_numbers
    )


def _passes(filters: Iterable[tuple[DateFilter, ...]], value: DateRange | None) -> bool:
    return all(
        value is not None and any(one.matches(value) for one in alternatives)
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
    """What the study has of a token parameter."""
    series = details.series.get(study_uid(row), ())
    match name:
        case "_id":
            return [("", study_id(study_uid(row)))]
        case "status":
            return [(STATUS_SYSTEM, "available")]
        case "modality":
            return [(DICOM_TERMINOLOGY, code) for code in modality_codes(row, series)]
        case "bodysite":
            return [
                ("", value.strip())
                for one in series
                for value in texts(one, "BodyPartExamined")
                if value.strip()
            ]
        case "series":
            return [(UID_SYSTEM, uid) for one in series if (uid := text(one, "SeriesInstanceUID"))]
        case "endpoint":
            return [] if details.endpoint is None else [("", details.endpoint)]
        case _:
            return []

"""Selection of the studies that pass a search, their order and their page (SIA-20, 21)."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from sidecar.common.slices import for_each, in_slices
from sidecar.dicom.json_model import Row, text, texts
from sidecar.fhir.attributes import Json, name_texts, placer_order_number, reasons
from sidecar.fhir.cursor import Cursor
from sidecar.fhir.dates import DateFilter, DateRange
from sidecar.fhir.imaging_study import DICOM_TERMINOLOGY, UID_SYSTEM, modality_codes
from sidecar.fhir.list_snapshot import ListedStudy, microseconds
from sidecar.fhir.search import IdentifierFilter, Search
from sidecar.fhir.token_search import TokenFilter, Value

STATUS_SYSTEM = "http://hl7.org/fhir/imagingstudy-status"
DEFAULT_SORT = ("-started",)
_OF_EACH_STUDY = frozenset(
    {"_id", "_lastUpdated", "identifier", "patient", "subject", "instance", "dicom-class"}
)
"""Parameters of which each study has a value."""


@dataclass(frozen=True, slots=True)
class Details:
    """Details of studies beyond their rows, as far as a search needs them.

    - ``series``: StudyInstanceUID -> series rows, of studies whose own are not known
    - ``holding``: filter on instances -> StudyInstanceUIDs of the studies that have one
    - ``endpoint``: id of the patient's Endpoint; ``None`` when it is contained and has none
    """

    series: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    holding: Mapping[TokenFilter, frozenset[str]] = field(default_factory=dict)
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Page: its studies, their number on all pages, and where the next one begins."""

    studies: Sequence[ListedStudy]
    total: int
    next_after: Cursor | None


async def passing(
    studies: Sequence[ListedStudy],
    search: Search,
    *,
    seen: Mapping[str, datetime],
    details: Details,
) -> list[ListedStudy]:
    """Return the studies that pass, unsorted. A study of many series is read in a thread.

    ``seen``: StudyInstanceUID -> its last observed change.
    """
    reads_series = bool(search.names())
    return await for_each(
        studies,
        lambda study: study if _is_wanted(study, search, seen, details) else None,
        lambda study: len(_series(study, details)) if reads_series else 0,
    )


def narrowed(
    studies: Iterable[ListedStudy], search: Search, seen: Mapping[str, datetime]
) -> Iterator[ListedStudy | None]:
    """Yield the studies that can still pass, and ``None`` for each other one (``in_slices``).

    The archive is queried for details of these alone.
    """
    by_id = [token for token in search.tokens if token.name == "_id"]
    for study in studies:
        can_pass = _passes_by_row(study, search, seen) and all(
            token.matches([("", study.id)]) for token in by_id
        )
        yield study if can_pass else None


async def in_order(
    studies: Sequence[ListedStudy], search: Search, seen: Mapping[str, datetime]
) -> list[ListedStudy]:
    """Return the studies in the order of ``search``. All but the sorting itself is in slices."""
    places = await in_slices(map(_place(search, seen), studies))
    return [studies[number] for number in sorted(range(len(studies)), key=places.__getitem__)]


def page_of(
    studies: Sequence[ListedStudy], search: Search, seen: Mapping[str, datetime], page_size: int
) -> StudyPage:
    """Return the page of ``search`` from all studies that pass, in order."""
    place = _place(search, seen)
    # The page begins behind a study, not at a number: what arrives meanwhile shifts nothing.
    after = search.after
    first = 0 if after is None else bisect_right(studies, (after.keys, after.uid), key=place)
    size = page_size if search.result.count is None else search.result.count
    page = [] if search.result.only_total else studies[first : first + size]
    has_more = bool(page) and first + size < len(studies)
    return StudyPage(page, len(studies), Cursor(*place(page[-1])) if has_more else None)


def _place(
    search: Search, seen: Mapping[str, datetime]
) -> Callable[[ListedStudy], tuple[tuple[int, ...], str]]:
    """Return what returns a study's sort keys, smallest first, and its UID.

    A study without a start is the oldest.
    """
    sort = search.result.sort or DEFAULT_SORT
    if sort == DEFAULT_SORT:
        return lambda study: ((-study.start,), study.uid)

    def place(study: ListedStudy) -> tuple[tuple[int, ...], str]:
        values = [_sort_value(study, name.removeprefix("-"), seen) for name in sort]
        keys = [-one if name[0] == "-" else one for name, one in zip(sort, values, strict=True)]
        return tuple(keys), study.uid

    return place


def _sort_value(study: ListedStudy, name: str, seen: Mapping[str, datetime]) -> int:
    match name:
        case "started":
            return study.start
        case "_lastUpdated":
            return microseconds(seen[study.uid])
    # The number has the order of the id, and can be negative.
    return int.from_bytes(study.id.encode().ljust(64, b"\0"))


def _is_wanted(
    study: ListedStudy, search: Search, seen: Mapping[str, datetime], details: Details
) -> bool:
    if not _passes_by_row(study, search, seen):
        return False
    # Each is read once, however many parameters there are: a study may have thousands of series.
    values = cache(lambda name: _values(study, name, details))
    texts = cache(lambda name: _texts(study, name, details))
    return (
        all(_has(study, token, details, values) for token in search.tokens)
        and all(text.matches(texts(text.name)) for text in search.texts)
        and all(
            _is_missing(study, name, values, texts) is wanted for name, wanted in search.missing
        )
    )


def _passes_by_row(study: ListedStudy, search: Search, seen: Mapping[str, datetime]) -> bool:
    began = DateRange(*study.began) if search.started and study.began else None
    return (
        all(_is_identified(study, identifier) for identifier in search.identifiers)
        and _passes(search.started, began)
        and (not search.last_updated or _passes(search.last_updated, _span(seen[study.uid])))
    )


def _span(moment: datetime) -> DateRange:
    return DateRange(moment, moment + timedelta(milliseconds=1))


def satisfies(study: ListedStudy, search: Search) -> bool:
    """Return whether a study passes ``search``, which has no ``_lastUpdated``."""
    return _is_wanted(study, search, {}, Details())


def _is_identified(study: ListedStudy, wanted: IdentifierFilter) -> bool:
    number = study.accession_number
    is_named = (
        wanted.any_uid
        or study.uid in wanted.uids
        or number in wanted.accession_numbers
        or (wanted.any_accession and number is not None)
    )
    if not is_named and wanted.order_numbers:
        is_named = placer_order_number(study.row) in wanted.order_numbers
    return is_named is not wanted.negated


def _passes(filters: Iterable[tuple[DateFilter, ...]], value: DateRange | None) -> bool:
    return all(
        value is not None and any(alternative.matches(value) for alternative in alternatives)
        for alternatives in filters
    )


def _has(
    study: ListedStudy,
    wanted: TokenFilter,
    details: Details,
    values: Callable[[str], list[Value]],
) -> bool:
    if details.holding and wanted in details.holding:
        return (study.uid in details.holding[wanted]) is not wanted.negated
    return wanted.matches(values(wanted.name))


def _is_missing(
    study: ListedStudy,
    name: str,
    values: Callable[[str], list[Value]],
    texts: Callable[[str], list[str]],
) -> bool:
    match name:
        case "started":
            return study.began is None
        case "basedon":
            return placer_order_number(study.row) is None
        case "reason":
            return reasons(study.row) is None
        case "referrer" | "interpreter" | "performer":
            return not texts(name + ".name")
        case _ if name in _OF_EACH_STUDY:
            return False
    return not values(name)


def _series(study: ListedStudy, details: Details) -> Sequence[Row]:
    return details.series.get(study.uid, ()) if study.series is None else study.series


def _reason_codings(study: ListedStudy) -> list[Json]:
    return [coding for reason in reasons(study.row) or () for coding in reason.get("coding", ())]


def _texts(study: ListedStudy, name: str, details: Details) -> list[str]:
    """Return the study's texts for a text parameter."""
    match name:
        case "referrer.name":
            return name_texts(study.row, "ReferringPhysicianName")
        case "interpreter.name":
            return name_texts(study.row, "NameOfPhysiciansReadingStudy")
        case "performer.name":
            keywords = ("PerformingPhysicianName", "OperatorsName")
            series = _series(study, details)
            return [text for row in series for one in keywords for text in name_texts(row, one)]
        case "reason":
            found = [reason.get("text") for reason in reasons(study.row) or ()]
            found += [coding.get("display") for coding in _reason_codings(study)]
            return [words for words in found if words]
        case _:
            return [code for _, code in _values(study, name, details)]


def _values(study: ListedStudy, name: str, details: Details) -> list[Value]:
    """Return the study's values for a token parameter."""
    series = _series(study, details)
    match name:
        case "_id":
            return [("", study.id)]
        case "status":
            return [(STATUS_SYSTEM, "available")]
        case "modality":
            codes = study.modalities or modality_codes(study.row, series)
            return [(DICOM_TERMINOLOGY, code) for code in codes]
        case "bodysite":
            sites = [value.strip() for part in series for value in texts(part, "BodyPartExamined")]
            return [("", body_site) for body_site in sites if body_site]
        case "reason":
            return [(one.get("system", ""), one["code"]) for one in _reason_codings(study)]
        case "series":
            # R4's element is an id, which has no system.
            uids = [text(part, "SeriesInstanceUID") for part in series]
            return [(system, uid) for uid in uids if uid for system in ("", UID_SYSTEM)]
        case "endpoint":
            return [] if details.endpoint is None else [("", details.endpoint)]
        case _:
            return []

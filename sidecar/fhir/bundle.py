"""Which studies pass a search, in which order, which page; and the searchset Bundle (SIA-24)."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sidecar.common.dicom_json import Row
from sidecar.common.uid import is_uid
from sidecar.fhir.catalog import Catalog
from sidecar.fhir.dates import DateFilter, Span
from sidecar.fhir.imaging_study import Site, accession_number, study_started, study_uid
from sidecar.fhir.search import Cursor, IdentifierFilter, Search

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNKNOWN_START = -(2**62)


@dataclass(frozen=True, slots=True)
class Found:
    """A study that passed: its row, where it stands in the order, when it was last seen to change."""

    row: Row
    key: Cursor
    last_updated: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its studies, how many there are on all pages, where the next one begins."""

    studies: Sequence[Found]
    total: int
    next_after: Cursor | None


def select(rows: Iterable[Row], search: Search, *, patient: str, site: Site, catalog: Catalog, page_size: int) -> Page:
    """Return the page of ``search`` over a patient's study rows: newest study first, then by UID."""
    found = []
    for row in rows:
        uid = study_uid(row)
        if not is_uid(uid):
            continue  # Could not be retrieved either: no URL can name it.
        began = study_started(row, site)
        last_updated = catalog.observe(patient, uid, row)
        if not (
            all(_is_identified(row, one) for one in search.identifiers)
            and _passes(search.started, began.span if began else None)
            and _passes(search.last_updated, Span(last_updated, last_updated + _MILLISECOND))
        ):
            continue
        key = (began.span.start - _EPOCH) // timedelta(microseconds=1) if began else _UNKNOWN_START
        found.append(Found(row, Cursor(key, uid), last_updated))
    found.sort(key=lambda one: (-one.key.started, one.key.uid))
    return _page(found, search, page_size)


def _page(found: list[Found], search: Search, page_size: int) -> Page:
    # The page begins behind a study, not at a number: what arrives meanwhile shifts nothing.
    rest = found
    if search.after is not None:
        border = (-search.after.started, search.after.uid)
        rest = [one for one in found if (-one.key.started, one.key.uid) > border]
    size = page_size if search.count is None else search.count
    page = rest[:size]
    return Page(page, len(found), page[-1].key if page and len(rest) > len(page) else None)


def _is_identified(row: Row, wanted: IdentifierFilter) -> bool:
    return wanted.any_uid or study_uid(row) in wanted.uids or accession_number(row) in wanted.accession_numbers


def _passes(filters: Iterable[tuple[DateFilter, ...]], value: Span | None) -> bool:
    return all(value is not None and any(one.matches(value) for one in alternatives) for alternatives in filters)


def searchset(
    studies: Sequence[Mapping[str, Any]],
    included: Sequence[Mapping[str, Any]],
    *,
    fhir_base: str,
    search: Search,
    patient: str,
    page: Page,
    as_of: datetime,
) -> dict[str, Any]:
    """Return the Bundle.

    ``as_of``: ``Catalog.now()`` before the PACS was asked; as ``meta.lastUpdated`` of every page a safe
    ``_lastUpdated=gt`` for the next sync.
    """
    if search.after is not None:
        as_of = min(as_of, _EPOCH + search.after.as_of * _MILLISECOND)
    links = [{"relation": "self", "url": _link(fhir_base, search, patient, search.after)}]
    if page.next_after is not None:
        following = replace(page.next_after, as_of=(as_of - _EPOCH) // _MILLISECOND)
        links.append({"relation": "next", "url": _link(fhir_base, search, patient, following)})
    entries = [_entry(resource, fhir_base, "match") for resource in studies]
    entries += [_entry(resource, fhir_base, "include") for resource in included]
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"lastUpdated": instant(as_of)},
        "type": "searchset",
        "total": page.total,
        "link": links,
    }
    # FHIR JSON has no empty arrays.
    return bundle | ({"entry": entries} if entries else {})


def instant(moment: datetime) -> str:
    """A FHIR instant in milliseconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(resource: Mapping[str, Any], fhir_base: str, mode: str) -> dict[str, Any]:
    url = f"{fhir_base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def _link(fhir_base: str, search: Search, patient: str, after: Cursor | None) -> str:
    parameters = [(name, value) for name, value in search.used if name != "_after"]
    if not search.patients:
        parameters.insert(0, ("patient", patient))
    if after is not None:
        parameters.append(("_after", after.encode()))
    return f"{fhir_base}/ImagingStudy?{urlencode(parameters)}"

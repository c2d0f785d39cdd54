"""From rows to the Bundle that a request gets, as ``web`` puts the pieces together."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sidecar.fhir.bundle import entry, instant, open_cursor, searchset
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import Site, imaging_study
from sidecar.fhir.result_parameters import subset
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from sidecar.fhir.select import Details, StudyPage
from tests.fhir.observing import observe
from tests.fhir.rows import DCM4CHEE, ORTHANC_EMPTY, ORTHANC_ULTRASOUND, Row, row
from tests.fhir.selection import select

EHR = "https://ehr.example.org/fhir"
BASE = "https://imaging.example.org/fhir"
SITE = Site(EHR, UTC, fhir_base=BASE)
LINKS = PageLinks(b"key")
NOW = datetime(2024, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def parse(*parameters: tuple[str, str]) -> Search:
    """What the request means; a cursor is opened as ``web`` does it."""
    search = parse_search(parameters, SITE)
    search.after = open_cursor(search, "123", LINKS)
    return search


def found(
    rows: Iterable[Row],
    search: Search,
    *,
    page_size: int = 50,
    catalog: Catalog | None = None,
    details: Details | None = None,
) -> StudyPage:
    catalog, rows = catalog or Catalog(clock=NOW.timestamp), list(rows)
    return select(
        rows,
        search,
        seen=observe(catalog, "123", rows),
        site=SITE,
        page_size=page_size,
        details=details or Details(),
    )


def uids_of(page: StudyPage) -> list[str]:
    return [study.uid for study in page.studies]


def matching(
    rows: Iterable[Row], *parameters: tuple[str, str], details: Details | None = None
) -> set[str]:
    return set(uids_of(found(rows, parse(*parameters), details=details)))


def answer(
    rows: Iterable[Row],
    search: Search,
    *,
    page_size: int = 50,
    contained: bool = False,
    as_of: datetime = NOW,
) -> dict[str, Any]:
    """Return the Bundle that a request gets."""
    rows = list(rows)
    catalog = Catalog(clock=NOW.timestamp)
    seen = observe(catalog, "123", rows)
    page = found(rows, search, page_size=page_size, catalog=catalog)
    endpoints = Endpoints(BASE, contained=contained)
    resources = [
        imaging_study(
            study.row,
            patient="123",
            endpoint=endpoints.reference("123"),
            site=SITE,
            last_updated=instant(seen[study.uid]),
            contained=endpoints.resource("123") if contained else None,
        )
        for study in page.studies
    ]
    entries = [
        entry(f"{BASE}/ImagingStudy/{study['id']}", subset(study, search.result), "match")
        for study in resources
    ]
    if search.result.include_endpoint and resources and not contained:
        entries.append(entry(f"{BASE}/Endpoint/123", endpoints.resource("123"), "include"))
    bundle = searchset(
        entries,
        fhir_base=BASE,
        search=search,
        patient="123",
        page=page,
        as_of=as_of,
        page_links=LINKS,
    )
    read: dict[str, Any] = json.loads(b"".join(bundle.parts))
    return read


def link(bundle: dict[str, Any], relation: str) -> str | None:
    return next((str(one["url"]) for one in bundle["link"] if one["relation"] == relation), None)


def follow(url: str) -> Search:
    """Return the search that a link means."""
    return parse(*parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))


def study(
    uid: str, day: str | None = "20240229", clock: str | None = "091500", **attributes: object
) -> Row:
    return row(StudyInstanceUID=uid, StudyDate=day, StudyTime=clock, **attributes)


REAL = [ORTHANC_ULTRASOUND, ORTHANC_EMPTY, DCM4CHEE]

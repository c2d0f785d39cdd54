"""From rows to the Bundle that a request gets, as ``web`` puts the pieces together."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sidecar.fhir.bundle import Page, instant, searchset, select
from sidecar.fhir.catalog import Catalog
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import Site, imaging_study
from sidecar.fhir.search import Search, parse_search
from tests.fhir.rows import DCM4CHEE, ORTHANC_EMPTY, ORTHANC_ULTRASOUND, Row, row

EHR = "https://ehr.example.org/fhir"
BASE = "https://imaging.example.org/fhir"
SITE = Site(EHR, UTC)
NOW = datetime(2024, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def parse(*parameters: tuple[str, str]) -> Search:
    return parse_search(parameters, ehr_fhir_url=EHR, zone=UTC)


def found(rows: Iterable[Row], search: Search, *, page_size: int = 50, catalog: Catalog | None = None) -> Page:
    catalog = catalog or Catalog(clock=NOW.timestamp)
    return select(rows, search, patient="123", site=SITE, catalog=catalog, page_size=page_size)


def uids_of(page: Page) -> list[str]:
    return [one.key.uid for one in page.studies]


def matching(rows: Iterable[Row], *parameters: tuple[str, str]) -> set[str]:
    return set(uids_of(found(rows, parse(*parameters))))


def answer(
    rows: Iterable[Row], search: Search, *, page_size: int = 50, contained: bool = False, as_of: datetime = NOW
) -> dict[str, Any]:
    """Return the Bundle that a request gets."""
    page = found(rows, search, page_size=page_size)
    endpoints = Endpoints(BASE, contained=contained)
    studies = [
        imaging_study(
            one.row, patient="123", endpoint=endpoints.reference("123"), site=SITE,
            last_updated=instant(one.last_updated), contained=endpoints.resource("123") if contained else None,
        )
        for one in page.studies
    ]  # fmt: skip
    included = [endpoints.resource("123")] if search.include_endpoint and studies and not contained else []
    return searchset(studies, included, fhir_base=BASE, search=search, patient="123", page=page, as_of=as_of)


def link(bundle: dict[str, Any], relation: str) -> str | None:
    return next((str(one["url"]) for one in bundle["link"] if one["relation"] == relation), None)


def follow(url: str) -> Search:
    """Return the search that a link means."""
    return parse(*parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))


def study(uid: str, day: str | None = "20240229", clock: str | None = "091500", **attributes: object) -> Row:
    return row(StudyInstanceUID=uid, StudyDate=day, StudyTime=clock, **attributes)


REAL = [ORTHANC_ULTRASOUND, ORTHANC_EMPTY, DCM4CHEE]

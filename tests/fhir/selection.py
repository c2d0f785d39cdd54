"""Selection of a page from all rows at once, as the handlers do it in slices."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sidecar.dicom.json_model import Row
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.search import Search
from sidecar.fhir.select import Details, StudyPage, page_of, passing

NO_DETAILS = Details()


def select(
    rows: Iterable[Row],
    search: Search,
    *,
    seen: Mapping[str, datetime],
    site: Site,
    page_size: int,
    details: Details = NO_DETAILS,
) -> StudyPage:
    found = passing(rows, search, seen=seen, site=site, details=details)
    return page_of([study for study in found if study is not None], search, page_size)

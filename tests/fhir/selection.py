"""Selection of a page from all rows at once, as the handlers do it in slices."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from sidecar.dicom.json_model import Row
from sidecar.dicom.uid import is_uid
from sidecar.fhir.imaging_study import Site
from sidecar.fhir.list_snapshot import listed_study
from sidecar.fhir.search import Search
from sidecar.fhir.select import Details, StudyPage, in_order, page_of, passing

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
    studies = [listed_study(row, None, site) for row in rows]
    usable = [study for study in studies if is_uid(study.uid)]
    passed = asyncio.run(passing(usable, search, seen=seen, details=details))
    return page_of(asyncio.run(in_order(passed, search, seen)), search, seen, page_size)

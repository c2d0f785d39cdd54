"""ImagingStudy resources made of rows."""

from typing import Any

from fhir.resources.R4B.imagingstudy import ImagingStudy

from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import SeriesRows, Site, imaging_study
from tests.fhir.profile import check_imaging_study
from tests.fhir.rows import Row, row

EHR = "https://ehr.example.org/fhir"
ENDPOINTS = Endpoints("https://imaging.example.org/fhir")
UNKNOWN_ZONE = Site(EHR)


def build(
    study: Row, series: list[SeriesRows] | None = None, site: Site = UNKNOWN_ZONE
) -> dict[str, Any]:
    """Return the checked resource of a row."""
    resource = imaging_study(
        study,
        patient="123",
        endpoint=ENDPOINTS.reference("123"),
        site=site,
        last_updated="2024-03-01T00:00:00.000Z",
        series=series,
    )
    check_imaging_study(resource)
    ImagingStudy.model_validate(resource)
    return resource


def study(**attributes: object) -> Row:
    return row(StudyInstanceUID="1.2.3", **attributes)

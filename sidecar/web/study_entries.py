"""Make the ImagingStudies of a page, and the entries of the Bundle that are made of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from sidecar.authorization.authorizer import Request
from sidecar.authorization.capability_urls import Issued
from sidecar.authorization.study_facts import series_uid
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.slices import batched, for_each
from sidecar.dicom.uid import is_uid
from sidecar.fhir.bundle import entry, instant
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import SeriesRows, Site, imaging_study
from sidecar.fhir.list_snapshot import BundleEntry, ListedStudy, ListSnapshot
from sidecar.fhir.r5 import DEFAULT_VERSION, in_version
from sidecar.fhir.result_parameters import ResultParameters, subset
from sidecar.web.count_report import CountReport


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """What the resources of an answer depend on beside their studies.

    ``seen``: StudyInstanceUID -> last change. ``issued``: the same -> an address of its own.
    """

    request: Request
    view: VisibleStudies
    snapshot: ListSnapshot
    seen: Mapping[str, datetime]
    version: str
    result: ResultParameters
    issued: Mapping[str, Issued]


class StudyEntries:
    """Maker of ImagingStudies. ``detail``: ``study``, ``series`` or ``instance``."""

    def __init__(
        self, endpoints: Endpoints, site: Site, counts: CountReport, *, detail: str
    ) -> None:
        self._endpoints = endpoints
        self._site = site
        self._counts = counts
        self._detail = detail

    async def of(self, studies: Sequence[ListedStudy], answer: StudyAnswer) -> list[BundleEntry]:
        """Return the entries of ``studies``."""
        if answer.result.is_whole and not answer.issued:
            patient, seen, version = answer.request.permit.patient, answer.seen, answer.version
            find = answer.snapshot.remembered_entry
            found = [find(study, version, (patient, seen[study.uid])) for study in studies]
            remembered = [entry for entry in found if entry is not None]
            if len(remembered) == len(studies):
                return remembered
        asked: dict[str, list[SeriesRows]] = {}
        for few in batched([study for study in studies if not self._is_known(study)]):
            rows = await asyncio.gather(*(self._ask_series(study, answer.view) for study in few))
            asked |= zip((study.uid for study in few), rows, strict=True)
        return await for_each(
            studies,
            lambda study: self._entry(study, asked, answer),
            lambda study: _parts(study, asked.get(study.uid)),
        )

    def _is_known(self, study: ListedStudy) -> bool:
        """Return whether the list has all that the resource needs."""
        if not self._needs_series(study):
            return True
        return self._detail != "instance" and study.packed_series is not None

    def _needs_series(self, study: ListedStudy) -> bool:
        return self._detail != "study" or not study.names_modalities

    async def _ask_series(self, study: ListedStudy, view: VisibleStudies) -> list[SeriesRows]:
        series: Sequence[Any] = (await view.series_of([study.uid]))[study.uid]
        if self._detail != "instance":
            return [SeriesRows(row) for row in series]
        usable = [row for row in series if is_uid(series_uid(row))]
        instances = await asyncio.gather(
            *(view.instances(study.uid, series_uid(row)) for row in usable)
        )
        return [SeriesRows(row, rows) for row, rows in zip(usable, instances, strict=True)]

    def _entry(
        self, study: ListedStudy, asked: Mapping[str, list[SeriesRows]], answer: StudyAnswer
    ) -> BundleEntry:
        own = answer.issued.get(study.uid)
        if own is None and answer.result.is_whole:
            return self._whole_entry(study, answer.version, asked, answer)
        whole = self._whole_entry(study, DEFAULT_VERSION, asked, answer)
        resource = orjson.loads(whole.resource)
        if own is not None:
            resource["endpoint"] = [{"reference": own.full_url}]
            resource.pop("contained", None)
        left = in_version(subset(resource, answer.result), answer.version)
        return entry(self._url(study), left, "match")

    def _whole_entry(
        self,
        study: ListedStudy,
        version: str,
        asked: Mapping[str, list[SeriesRows]],
        answer: StudyAnswer,
    ) -> BundleEntry:
        """Return the entry with the patient's Endpoint and all elements, made once if possible."""
        patient, last_updated = answer.request.permit.patient, answer.seen[study.uid]

        def make() -> BundleEntry:
            resource = self._resource(study, asked.get(study.uid), answer.request, last_updated)
            return entry(self._url(study), in_version(resource, version), "match")

        if study.uid in asked:  # They may change while the list is as it is.
            return make()
        return answer.snapshot.entry(study, version, (patient, last_updated), make)

    def _url(self, study: ListedStudy) -> str:
        return f"{self._endpoints.fhir_base}/ImagingStudy/{study.id}"

    def _resource(
        self,
        study: ListedStudy,
        asked: Sequence[SeriesRows] | None,
        request: Request,
        last_updated: datetime,
    ) -> dict[str, Any]:
        patient = request.permit.patient
        series = asked
        if series is None and self._needs_series(study):
            series = [SeriesRows(row) for row in study.series or ()]
        if series is not None:
            self._counts.note(study.row, series, request.record.request_id)
        return imaging_study(
            study.row,
            patient=patient,
            endpoint=self._endpoints.reference(patient),
            site=self._site,
            last_updated=instant(last_updated),
            series=series,
            contained=self._endpoints.resource(patient) if self._endpoints.contained else None,
        )


def _parts(study: ListedStudy, asked: Sequence[SeriesRows] | None) -> int:
    """Return the number of series and instances of which a resource is made."""
    if asked is None:
        return len(study.packed_series or ())
    return sum(1 + len(rows.instances or ()) for rows in asked)

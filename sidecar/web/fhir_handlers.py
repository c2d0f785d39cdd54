"""Answer ImagingStudy searches and reads, and reads of Endpoint (SIA-20..24, 31)."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from sidecar.access.facts import AnswerKind, Part, Token, is_fhir_id
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer, Request
from sidecar.authorization.capability_urls import Issued
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.study_facts import series_uid
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.errors import BadRequest, NotFound
from sidecar.common.slices import batched, in_slices
from sidecar.dicom.json_model import Row, texts
from sidecar.dicom.uid import is_uid
from sidecar.fhir.bundle import instant, open_cursor, searchset
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import (
    SeriesRows,
    Site,
    imaging_study,
    is_study_id,
    study_id,
    study_uid,
)
from sidecar.fhir.result_parameters import subset
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from sidecar.fhir.select import StudyPage, narrowed, page_of, passing
from sidecar.web.count_report import CountReport
from sidecar.web.middleware import RECORD, TARGET, authorization, hold_place
from sidecar.web.negotiate import (
    answer,
    fhir_version,
    how_to_read,
    is_strict,
    search_parameters,
    wants_fresh,
)
from sidecar.web.search_lookups import search_details


class ImagingFhir:
    """The handlers. ``detail``: ``study``, ``series`` or ``instance``."""

    def __init__(
        self,
        authorizer: Authorizer,
        catalog: Catalog,
        endpoints: Endpoints,
        site: Site,
        page_links: PageLinks,
        limits: RequestLimits,
        counts: CountReport,
        *,
        detail: str,
        page_size: int,
    ) -> None:
        self._authorizer = authorizer
        self._catalog = catalog
        self._endpoints = endpoints
        self._site = site
        self._page_links = page_links
        self._limits = limits
        self._counts = counts
        self._detail = detail
        self._page_size = page_size

    async def search_compartment(self, http: web.Request) -> web.Response:
        """Answer ``GET [base]/Patient/{patient}/ImagingStudy?…``."""
        patient = http[TARGET].segments[2]
        return await self.search(http, patient if is_fhir_id(patient) else "")

    async def search(self, http: web.Request, compartment: str | None = None) -> web.Response:
        """Answer ``GET [base]/ImagingStudy?…`` and ``POST [base]/ImagingStudy/_search``.

        ``compartment``: the patient in the path, ``None``: it names none.
        """
        record = http[RECORD]
        token = await self._authorizer.token(record, authorization(http))
        # What the token is for is decided before its parameters are looked at: 401 and 403 come
        # before 400.
        await self._authorizer.may_search(record, token, compartment)
        parameters = await search_parameters(http)
        record.searches(http.path, parameters)
        version = fhir_version(http, parameters)
        search = parse_search(parameters, self._site, strict=is_strict(http))
        permit = await self._permit(record, token, compartment, search)
        search.after = open_cursor(search, permit.patient, self._page_links)
        await hold_place(http, self._limits.search(token))
        fresh = wants_fresh(http)
        request = await self._authorizer.authorize(
            record,
            token,
            permit,
            search,
            study=None,
            named=search.patient_identifiers,
            fresh=fresh,
        )
        view = await self._authorizer.studies(request, fresh=fresh)
        self._authorizer.decisions.left_out(record, view.listing.shared)
        page = await self._page(search, permit, view)
        issued = await self._authorizer.issue(
            request, [study_uid(study.row) for study in page.studies]
        )
        resources: list[dict[str, Any]] = []
        for few in batched(page.studies):
            resources += await asyncio.gather(
                *(
                    self._resource(study.row, view, request, instant(study.last_updated), issued)
                    for study in few
                )
            )
        bundle = searchset(
            resources,
            self._included(search, permit.patient, issued, others=len(resources) > len(issued)),
            fhir_base=self._endpoints.fhir_base,
            search=search,
            patient=permit.patient,
            page=page,
            as_of=view.oldest.moment,
            page_links=self._page_links,
        )
        # Id, time and seals of the links differ each time: a client has the answer when the rest is
        # the same.
        following = page.next_after and [page.next_after.uid, self._page_links.key_id]
        identity = [bundle.get("entry"), page.total, following]
        # Addresses that are permissions are not compressed beside what the client wrote
        # (link.self).
        return answer(
            http,
            bundle,
            version=version,
            identity=identity,
            pretty=search.result.pretty,
            gzip=not issued,
        )

    def _included(
        self, search: Search, patient: str, issued: Mapping[str, Issued], *, others: bool
    ) -> dict[str, dict[str, Any]]:
        """Return the Endpoints that come with the studies, by URL.

        ``others``: some of the studies have no address of their own.
        """
        included = {
            address.full_url: self._endpoints.capability(
                address.root, until=instant(datetime.fromtimestamp(int(address.expires_at), UTC))
            )
            for address in issued.values()
        }
        if search.result.include_endpoint and others and not self._endpoints.contained:
            url = f"{self._endpoints.fhir_base}/Endpoint/{patient}"
            included[url] = self._endpoints.resource(patient)
        return included

    async def _permit(
        self, record: AccessRecord, token: Token, compartment: str | None, search: Search
    ) -> PatientPermit:
        """Permit the search of the one patient whom the request names (SIA-22).

        It names none: of the token's own.
        """
        named = search.patients if compartment is None else search.patients | {compartment}
        permits = [
            await self._authorizer.permit(record, token, Interaction.SEARCH, patient)
            for patient in sorted(named) or (None,)
        ]
        if len(permits) > 1:  # Each of them may be a backend client's.
            raise BadRequest("A search is for one patient.", reason="several_patients")
        return permits[0]

    async def _page(self, search: Search, permit: PatientPermit, view: VisibleStudies) -> StudyPage:
        seen = view.last_updated(
            await self._catalog.look(permit.patient, view.listing.rows, view.listing.series)
        )
        endpoint = None if self._endpoints.contained else permit.patient
        worth = await in_slices(narrowed(view.rows, search, seen, self._site))
        details = await search_details(search, worth, view, endpoint)
        studies = await in_slices(
            passing(view.rows, search, seen=seen, site=self._site, details=details)
        )
        return page_of(studies, search, self._page_size)

    async def read(self, http: web.Request) -> web.Response:
        """Answer ``GET [base]/ImagingStudy/{id}``.

        Another patient's study and a made-up id get the same 404.
        """
        record = http[RECORD]
        token = await self._authorizer.token(record, authorization(http))
        permit = await self._authorizer.permit(record, token, Interaction.READ)
        version, result = how_to_read(http)
        wanted = http[TARGET].segments[2]
        if not is_study_id(wanted):
            raise NotFound("There is no such resource.", reason="unknown_id")
        await hold_place(http, self._limits.search(token))
        fresh = wants_fresh(http)
        study = wanted if is_uid(wanted) else None
        if study is not None:
            record.part = Part(study)
        request = await self._authorizer.authorize(
            record, token, permit, wanted, study=study, fresh=fresh
        )
        if study is not None:
            await self._authorizer.study(request, Part(study), AnswerKind.LISTED)
        view = await self._authorizer.studies(request, fresh=fresh)
        shown = {
            study_id(uid): row
            for row in view.listing.rows
            if study_id(uid := study_uid(row)) == wanted and view.shows_row(uid, None)
        }
        self._authorizer.unless_own(record, wanted, shown, view.listing.shared)
        row = shown[wanted]
        uid = study_uid(row)
        if uid != wanted:
            await self._authorizer.study(request, Part(uid), AnswerKind.LISTED)
        seen = await self._catalog.look(permit.patient, view.listing.rows, view.listing.series)
        last_updated = instant(view.last_updated(seen)[uid])
        resource = await self._resource(view.row(row), view, request, last_updated, {})
        return answer(http, subset(resource, result), version=version, pretty=result.pretty)

    async def read_endpoint(self, http: web.Request) -> web.Response:
        """Answer ``GET [base]/Endpoint/{id}``: the standing Endpoint of the patient (SIA-31)."""
        record = http[RECORD]
        token = await self._authorizer.token(record, authorization(http))
        permit = await self._authorizer.permit(record, token, Interaction.READ)
        version, result = how_to_read(http)
        own = () if self._endpoints.contained else (permit.patient,)
        self._authorizer.unless_own(record, http[TARGET].segments[2], own, shared=())
        resource = subset(self._endpoints.resource(permit.patient), result)
        return answer(http, resource, version=version, pretty=result.pretty)

    async def _resource(
        self,
        row: Row,
        view: VisibleStudies,
        request: Request,
        last_updated: str,
        issued: Mapping[str, Issued],
    ) -> dict[str, Any]:
        own, patient = issued.get(study_uid(row)), request.permit.patient
        contained = (
            self._endpoints.resource(patient) if self._endpoints.contained and own is None else None
        )
        endpoint = (
            self._endpoints.reference(patient) if own is None else {"reference": own.full_url}
        )
        series = await self._series(row, view)
        if series is not None:
            self._counts.note(row, series, request.record.request_id)
        return imaging_study(
            row,
            patient=patient,
            endpoint=endpoint,
            site=self._site,
            last_updated=last_updated,
            series=series,
            contained=contained,
        )

    async def _series(self, row: Row, view: VisibleStudies) -> list[SeriesRows] | None:
        if self._detail == "study" and texts(row, "ModalitiesInStudy"):
            return None
        uid = study_uid(row)
        series = (await view.series_of([uid]))[uid]
        if self._detail != "instance":
            return [SeriesRows(row) for row in series]
        usable = [row for row in series if is_uid(series_uid(row))]
        instances = await asyncio.gather(*(view.instances(uid, series_uid(row)) for row in usable))
        return [SeriesRows(row, rows) for row, rows in zip(usable, instances, strict=True)]

"""The FHIR routes: ImagingStudy search and read, Endpoint read, and what we say of ourselves (SIA-3, 20..24)."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import hdrs, web

from sidecar.access.facts import AnswerKind, Part, Token, is_fhir_id
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.access.reasons import Reason
from sidecar.audit.record import current_record
from sidecar.authorization.authorizer import Authorizer, Denied
from sidecar.authorization.capability_urls import Issued
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.study_facts import series_uid
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.errors import BadRequest, NotFound, Problem
from sidecar.common.slices import batched, in_slices
from sidecar.dicom.json_model import Row, texts
from sidecar.dicom.uid import is_uid
from sidecar.dicomweb.accept import parse_accept
from sidecar.ehr.discovery import Discovery, SmartConfiguration
from sidecar.fhir.bundle import instant, open_cursor, searchset
from sidecar.fhir.capability_statement import (
    OfferedFeatures,
    capability_statement,
    smart_configuration,
)
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.frames import structure_definition
from sidecar.fhir.imaging_study import (
    SeriesRows,
    Site,
    imaging_study,
    is_study_id,
    study_id,
    study_uid,
)
from sidecar.fhir.r5 import DEFAULT_VERSION, VERSIONS
from sidecar.fhir.result_parameters import ResultParameters, read_result, subset
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from sidecar.fhir.select import StudyPage, narrowed, page_of, passing
from sidecar.web.count_report import CountReport
from sidecar.web.errors import FHIR_JSON, json_response
from sidecar.web.held_places import hold_place
from sidecar.web.middleware import TARGET
from sidecar.web.negotiate import answer, fhir_version, is_strict, wants_fresh
from sidecar.web.search_lookups import search_details
from sidecar.web.target import form_parameters

BODY_SECONDS = 10
"""How long the body of a posted search may take."""


class RequestTimeout(Problem):
    """408."""

    status = 408
    code = "timeout"


_PUBLIC = {"Cache-Control": "public, max-age=300"}


class ImagingFhir:
    """The handlers. ``detail`` is ``study``, ``series`` or ``instance``.

    ``released`` the date of this version.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        catalog: Catalog,
        endpoints: Endpoints,
        discovery: Discovery,
        site: Site,
        page_links: PageLinks,
        offered: OfferedFeatures,
        limits: RequestLimits,
        counts: CountReport,
        *,
        detail: str,
        page_size: int,
        version: str,
        released: str,
    ) -> None:
        self._authorizer = authorizer
        self._catalog = catalog
        self._endpoints = endpoints
        self._discovery = discovery
        self._site = site
        self._page_links = page_links
        self._offered = offered
        self._limits = limits
        self._counts = counts
        self._detail = detail
        self._page_size = page_size
        self._version = version
        self._released = released

    async def search(self, request: web.Request) -> web.Response:
        """``GET [base]/ImagingStudy?…`` and ``POST [base]/ImagingStudy/_search``."""
        token = await self._authorizer.token(request)
        return await self._search(request, token, None)

    async def search_compartment(self, request: web.Request) -> web.Response:
        """``GET [base]/Patient/{patient}/ImagingStudy?…``."""
        token = await self._authorizer.token(request)
        patient = request[TARGET].segments[2]
        return await self._search(request, token, patient if is_fhir_id(patient) else "")

    async def _search(
        self, request: web.Request, token: Token, compartment: str | None
    ) -> web.Response:
        # What the token is for is decided before its parameters are looked at: 401 and 403 come
        # before 400.
        await self._authorizer.may_search(token, compartment)
        parameters = await _parameters(request)
        current_record().searches(request.path, parameters)
        version = fhir_version(request, parameters)
        search = parse_search(parameters, self._site, strict=is_strict(request))
        permit = await self._permit(token, compartment, search)
        await hold_place(request, self._limits.search(token))
        fresh = wants_fresh(request)
        for system, value in search.patient_identifiers:
            await self._authorizer.patient_named(permit, system, value, fresh=fresh)
        search.after = open_cursor(search, permit.patient, self._page_links)
        view = await self._authorizer.view(permit, fresh=fresh)
        self._authorizer.left_out(view.listing.shared)
        page = await self._page(search, permit, view)
        issued = await self._authorizer.issue(
            token, permit, [study_uid(found.row) for found in page.studies]
        )
        resources: list[dict[str, Any]] = []
        for few in batched(page.studies):
            resources += await asyncio.gather(
                *(
                    self._resource(found.row, view, permit, instant(found.last_updated), issued)
                    for found in few
                )
            )
        included = {
            one.full_url: self._endpoints.capability(one.root, until=_until(one))
            for one in issued.values()
        }
        if (
            search.result.include_endpoint
            and len(resources) > len(issued)
            and not self._endpoints.contained
        ):
            url = f"{self._endpoints.fhir_base}/Endpoint/{permit.patient}"
            included[url] = self._endpoints.resource(permit.patient)
        bundle = searchset(
            resources,
            included,
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
            request,
            bundle,
            version=version,
            identity=identity,
            pretty=search.result.pretty,
            gzip=not issued,
        )

    async def _permit(self, token: Token, compartment: str | None, search: Search) -> PatientPermit:
        """Every patient whom the request names must be the same permitted one (SIA-22).

        None: the token's own.
        """
        named = search.patients if compartment is None else search.patients | {compartment}
        permits = [
            await self._authorizer.permit(token, Interaction.SEARCH, one)
            for one in sorted(named) or (None,)
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
        found = await in_slices(
            passing(view.rows, search, seen=seen, site=self._site, details=details)
        )
        return page_of(found, search, self._page_size)

    async def read(self, request: web.Request) -> web.Response:
        """``GET [base]/ImagingStudy/{id}``: another patient's and a made-up id get the same 404."""
        token = await self._authorizer.token(request)
        permit = await self._authorizer.permit(token, Interaction.READ)
        version, result = _how_to_read(request)
        wanted = request[TARGET].segments[2]
        if not is_study_id(wanted):
            raise NotFound("There is no such resource.", reason="unknown_id")
        await hold_place(request, self._limits.search(token))
        fresh = wants_fresh(request)
        if is_uid(wanted):
            await self._authorizer.study(permit, Part(wanted), AnswerKind.LISTED, fresh=fresh)
        view = await self._authorizer.view(permit, fresh=fresh)
        for row in view.rows:
            uid = study_uid(row)
            if study_id(uid) == wanted:
                if uid != wanted:
                    await self._authorizer.study(permit, Part(uid), AnswerKind.LISTED, fresh=fresh)
                seen = await self._catalog.look(
                    permit.patient, view.listing.rows, view.listing.series
                )
                resource = await self._resource(
                    row, view, permit, instant(view.last_updated(seen)[uid]), {}
                )
                return answer(
                    request, subset(resource, result), version=version, pretty=result.pretty
                )
        raise self._authorizer.absent(wanted, view)

    async def read_endpoint(self, request: web.Request) -> web.Response:
        """``GET [base]/Endpoint/{id}``: the standing Endpoint of the token's patient (SIA-31)."""
        permit = await self._authorizer.permit(
            await self._authorizer.token(request), Interaction.READ
        )
        version, result = _how_to_read(request)
        if self._endpoints.contained or request[TARGET].segments[2] != permit.patient:
            raise Denied(Reason.ABSENT)
        resource = subset(self._endpoints.resource(permit.patient), result)
        return answer(request, resource, version=version, pretty=result.pretty)

    async def _resource(
        self,
        row: Row,
        view: VisibleStudies,
        permit: PatientPermit,
        last_updated: str,
        issued: Mapping[str, Issued],
    ) -> dict[str, Any]:
        own = issued.get(study_uid(row))
        contained = (
            self._endpoints.resource(permit.patient)
            if self._endpoints.contained and own is None
            else None
        )
        endpoint = (
            self._endpoints.reference(permit.patient)
            if own is None
            else {"reference": own.full_url}
        )
        series = await self._series(row, view)
        if series is not None:
            self._counts.note(row, series)
        return imaging_study(
            row,
            patient=permit.patient,
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
            return [SeriesRows(one) for one in series]
        usable = [one for one in series if is_uid(series_uid(one))]
        instances = await asyncio.gather(*(view.instances(uid, series_uid(one)) for one in usable))
        return [SeriesRows(one, rows) for one, rows in zip(usable, instances, strict=True)]

    async def metadata(self, request: web.Request) -> web.Response:
        """``GET [base]/metadata``, open and cacheable."""
        version, result = _how_to_read(request)
        statement = capability_statement(
            fhir_base=self._endpoints.fhir_base,
            version=self._version,
            released=self._released,
            smart=await self._smart(),
        )
        response = answer(request, statement, version=version, pretty=result.pretty)
        response.headers.update(_PUBLIC)
        return response

    async def structure_definition(self, request: web.Request) -> web.Response:
        """``GET [base]/StructureDefinition/number-of-frames``, open and cacheable: the extension that we use."""
        version, result = _how_to_read(request)
        definition = structure_definition(self._endpoints.fhir_base, self._released)
        response = answer(request, definition, version=version, pretty=result.pretty)
        response.headers.update(_PUBLIC)
        return response

    async def versions(self, request: web.Request) -> web.Response:
        """``GET [base]/$versions``: which FHIR versions there are (R4 capabilitystatement-operation-versions)."""
        if any(
            one.media_type == FHIR_JSON
            for one in parse_accept(request.headers.get(hdrs.ACCEPT, ""))
        ):
            values = [*(("version", one) for one in VERSIONS), ("default", DEFAULT_VERSION)]
            parameters = [{"name": name, "valueCode": one} for name, one in values]
            return json_response(
                {"resourceType": "Parameters", "parameter": parameters}, headers=_PUBLIC
            )
        body = {"versions": list(VERSIONS), "default": DEFAULT_VERSION}
        return json_response(body, content_type="application/json", headers=_PUBLIC)

    async def smart_configuration(self, request: web.Request) -> web.Response:
        """``GET [base]/.well-known/smart-configuration``, open and cacheable."""
        return json_response(await self._smart(), content_type="application/json", headers=_PUBLIC)

    async def _smart(self) -> dict[str, Any]:
        try:
            ehr = await self._discovery.configuration()
        except Problem:
            ehr = SmartConfiguration(None, None, None, None)
        return smart_configuration(
            self._offered,
            issuer=ehr.issuer,
            authorization=ehr.authorization_endpoint,
            token=ehr.token_endpoint,
        )


def _until(issued: Issued) -> str:
    return instant(datetime.fromtimestamp(int(issued.expires_at), UTC))


def _how_to_read(request: web.Request) -> tuple[str, ResultParameters]:
    """FHIR version and result parameters of a read (R4 http.html#summary).

    Others mean nothing here.
    """
    parameters = request[TARGET].parameters()
    result = ResultParameters()
    for name, value in parameters:
        if name in ("_summary", "_elements", "_format", "_pretty") and value not in ("", "count"):
            result = read_result(result, name, value, maximum_count=0)
    return fhir_version(request, parameters), result


async def _parameters(request: web.Request) -> list[tuple[str, str]]:
    parameters = request[TARGET].parameters()
    if request.method != "POST":
        return parameters
    if not request.body_exists or request.content_length == 0:
        return parameters
    if request.content_type != "application/x-www-form-urlencoded":
        raise BadRequest(
            "A search by POST has a body of application/x-www-form-urlencoded.", reason="bad_body"
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = (await request.read()).decode("ascii")
    except TimeoutError:
        raise RequestTimeout(
            "The body of the request did not come in time.", reason="slow_body"
        ) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not form-encoded.", reason="bad_body") from None
    # Both count (R4 http.html#search): a body cannot take back what the query string demands.
    return parameters + form_parameters(body)

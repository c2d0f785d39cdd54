"""The FHIR routes: ImagingStudy search and read, Endpoint read, and what we say of ourselves (SIA-3, 20..24)."""

import asyncio
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from aiohttp import hdrs, web

from sidecar.access.decision import Interaction, Part, PatientPermit, Reason
from sidecar.access.identity import PatientIdentifier
from sidecar.access.token import Token, is_fhir_id
from sidecar.common.dicom_json import Row, texts
from sidecar.common.errors import BadRequest, NotAcceptable, NotFound, Problem
from sidecar.common.uid import is_uid
from sidecar.fhir.bundle import instant, searchset, select
from sidecar.fhir.capabilities import capability_statement, smart_configuration
from sidecar.fhir.catalog import Catalog
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import SeriesRows, Site, imaging_study, study_uid
from sidecar.fhir.search import parse_search
from sidecar.pacs.media import accepts_json
from sidecar.pacs.studies import Studies
from sidecar.telemetry.access_record import current_record
from sidecar.tokens.discovery import Discovery, SmartConfiguration
from sidecar.web.errors import json_response
from sidecar.web.guard import Denied, Guard
from sidecar.web.middleware import TARGET
from sidecar.web.target import form_parameters

BODY_SECONDS = 10
"""How long the body of a posted search may take."""


class RequestTimeout(Problem):
    """408."""

    status = 408
    code = "timeout"


_JSON = frozenset({"application/fhir+json", "application/json"})
_PUBLIC = {"Cache-Control": "public, max-age=300"}


class ImagingFhir:
    """The handlers. ``detail`` is ``study``, ``series`` or ``instance``; ``released`` the date of this version."""

    def __init__(
        self,
        guard: Guard,
        studies: Studies,
        catalog: Catalog,
        endpoints: Endpoints,
        discovery: Discovery,
        site: Site,
        *,
        detail: str,
        page_size: int,
        version: str,
        released: str,
    ) -> None:
        self._guard = guard
        self._studies = studies
        self._catalog = catalog
        self._endpoints = endpoints
        self._discovery = discovery
        self._site = site
        self._detail = detail
        self._page_size = page_size
        self._version = version
        self._released = released

    async def search(self, request: web.Request) -> web.Response:
        """``GET [base]/ImagingStudy?…`` and ``POST [base]/ImagingStudy/_search``."""
        token = await self._guard.token(request)
        return await self._search(request, token, None)

    async def search_compartment(self, request: web.Request) -> web.Response:
        """``GET [base]/Patient/{patient}/ImagingStudy?…``."""
        token = await self._guard.token(request)
        patient = request[TARGET].segments[2]
        return await self._search(request, token, patient if is_fhir_id(patient) else "")

    async def _search(self, request: web.Request, token: Token, compartment: str | None) -> web.Response:
        # What the token is for is decided before its parameters are looked at: 401 and 403 come before 400.
        permit = self._guard.permit(token, Interaction.SEARCH, compartment)
        _check_acceptable(request)
        parameters = await _parameters(request)
        current_record().searches(request.path, parameters)
        search = parse_search(
            parameters,
            ehr_fhir_url=self._site.ehr_fhir_url,
            zone=self._site.zone or UTC,
            strict="handling=strict" in request.headers.get("Prefer", "").replace(" ", ""),
        )
        for patient in search.patients:
            permit = self._guard.permit(token, Interaction.SEARCH, patient)
        known_as = await self._guard.known_as(permit)
        as_of = self._catalog.now()
        rows = await self._studies.of_patient(known_as)
        page = select(
            rows, search, patient=permit.patient, site=self._site, catalog=self._catalog, page_size=self._page_size
        )
        resources = await asyncio.gather(
            *(self._resource(found.row, permit, known_as, instant(found.last_updated)) for found in page.studies)
        )
        included = []
        if search.include_endpoint and resources and not self._endpoints.contained:
            included = [self._endpoints.resource(permit.patient)]
        bundle = searchset(
            resources,
            included,
            fhir_base=self._endpoints.fhir_base,
            search=search,
            patient=permit.patient,
            page=page,
            as_of=as_of,
        )
        return json_response(bundle)

    async def read(self, request: web.Request) -> web.Response:
        """``GET [base]/ImagingStudy/{id}``: another patient's and a made-up id get the same 404."""
        permit = self._guard.permit(await self._guard.token(request), Interaction.READ)
        _check_acceptable(request)
        uid = request[TARGET].segments[2]
        if not is_uid(uid):
            raise NotFound("There is no such resource.", reason="unknown_id")
        await self._guard.study(permit, Part(uid))
        known_as = await self._guard.known_as(permit)
        for row in await self._studies.of_patient(known_as):
            if study_uid(row) == uid:
                seen = instant(self._catalog.observe(permit.patient, uid, row))
                return json_response(await self._resource(row, permit, known_as, seen))
        raise Denied(Reason.ABSENT)

    async def read_endpoint(self, request: web.Request) -> web.Response:
        """``GET [base]/Endpoint/{id}``: the standing Endpoint of the token's patient (SIA-31)."""
        permit = self._guard.permit(await self._guard.token(request), Interaction.READ)
        _check_acceptable(request)
        if self._endpoints.contained or request[TARGET].segments[2] != permit.patient:
            raise Denied(Reason.ABSENT)
        return json_response(self._endpoints.resource(permit.patient))

    async def _resource(
        self, row: Row, permit: PatientPermit, known_as: frozenset[PatientIdentifier], last_updated: str
    ) -> dict[str, Any]:
        contained = self._endpoints.resource(permit.patient) if self._endpoints.contained else None
        return imaging_study(
            row,
            patient=permit.patient,
            endpoint=self._endpoints.reference(permit.patient),
            site=self._site,
            last_updated=last_updated,
            series=await self._series(row, known_as),
            contained=contained,
        )

    async def _series(self, row: Row, known_as: frozenset[PatientIdentifier]) -> list[SeriesRows] | None:
        if self._detail == "study" and texts(row, "ModalitiesInStudy"):
            return None
        uid = study_uid(row)
        series = await self._studies.series(uid, known_as)
        if self._detail != "instance":
            return [SeriesRows(one) for one in series]
        series_uids = [found for one in series for found in texts(one, "SeriesInstanceUID")[:1]]
        instances = await asyncio.gather(*(self._studies.instances(uid, one, known_as) for one in series_uids))
        return [SeriesRows(one, rows) for one, rows in zip(series, instances, strict=True)]

    async def metadata(self, request: web.Request) -> web.Response:
        """``GET [base]/metadata``, open and cacheable."""
        _check_acceptable(request)
        statement = capability_statement(
            fhir_base=self._endpoints.fhir_base,
            version=self._version,
            released=self._released,
            smart=await self._smart(),
        )
        return json_response(statement, headers=_PUBLIC)

    async def smart_configuration(self, request: web.Request) -> web.Response:
        """``GET [base]/.well-known/smart-configuration``, open and cacheable."""
        return json_response(await self._smart(), content_type="application/json", headers=_PUBLIC)

    async def _smart(self) -> dict[str, Any]:
        try:
            ehr = await self._discovery.configuration()
        except Problem:
            ehr = SmartConfiguration(None, None, None, None)
        return smart_configuration(
            issuer=ehr.issuer, authorization=ehr.authorization_endpoint, token=ehr.token_endpoint
        )


def _check_acceptable(request: web.Request) -> None:
    accept: Sequence[str] = request.headers.getall(hdrs.ACCEPT, ())
    if not accepts_json(", ".join(accept), _JSON):
        raise NotAcceptable("This server speaks application/fhir+json.", reason="accept")


async def _parameters(request: web.Request) -> list[tuple[str, str]]:
    parameters = request[TARGET].parameters()
    if request.method != "POST":
        return parameters
    if request.content_type != "application/x-www-form-urlencoded":
        raise BadRequest("A search by POST has a body of application/x-www-form-urlencoded.", reason="bad_body")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = (await request.read()).decode("ascii")
    except TimeoutError:
        raise RequestTimeout("The body of the request did not come in time.", reason="slow_body") from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not form-encoded.", reason="bad_body") from None
    # Both count (R4 http.html#search): a body cannot take back what the query string demands.
    return parameters + form_parameters(body)

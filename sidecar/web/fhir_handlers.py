"""Answer ImagingStudy searches and reads, and reads of Endpoint (SIA-20..24, 31)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from sidecar.access.facts import AnswerKind, Part, is_fhir_id
from sidecar.access.permits import ALL_STUDIES, PatientPermit
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.capability_urls import Issued
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.visible_studies import VisibleStudies
from sidecar.common.errors import NotFound
from sidecar.common.slices import in_slices
from sidecar.dicom.uid import is_uid
from sidecar.fhir.bundle import entry, instant, open_cursor, searchset
from sidecar.fhir.catalog.catalog import Catalog
from sidecar.fhir.cursor import PageLinks
from sidecar.fhir.endpoint import Endpoints
from sidecar.fhir.imaging_study import Site, is_study_id
from sidecar.fhir.list_snapshot import ListedStudy, ListSnapshot, list_snapshot, listed_study
from sidecar.fhir.r5 import in_version
from sidecar.fhir.result_parameters import subset
from sidecar.fhir.search import Search
from sidecar.fhir.search_parser import parse_search
from sidecar.fhir.select import Details, StudyPage, in_order, narrowed, page_of, passing
from sidecar.web.middleware import RECORD, TARGET, authorization, hold_place
from sidecar.web.negotiate import (
    answer,
    answer_parts,
    fhir_version,
    how_to_read,
    is_strict,
    search_parameters,
    wants_fresh,
)
from sidecar.web.search_lookups import search_details
from sidecar.web.study_entries import StudyAnswer, StudyEntries


class ImagingFhir:
    """The handlers. ``entries`` makes what they answer with."""

    def __init__(
        self,
        authorizer: Authorizer,
        catalog: Catalog,
        endpoints: Endpoints,
        site: Site,
        page_links: PageLinks,
        limits: RequestLimits,
        entries: StudyEntries,
        *,
        page_size: int,
    ) -> None:
        self._authorizer = authorizer
        self._catalog = catalog
        self._endpoints = endpoints
        self._site = site
        self._page_links = page_links
        self._limits = limits
        self._entries = entries
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
        named = search.patients if compartment is None else search.patients | {compartment}
        permit = await self._authorizer.permit_search(record, token, named)
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
        snapshot = await self._snapshot(view)
        seen = view.last_updated(await snapshot.seen(permit.patient, self._catalog))
        page = await self._page(search, permit, view, snapshot, seen)
        issued = await self._authorizer.issue(request, [study.uid for study in page.studies])
        entries = await self._entries.of(
            page.studies,
            StudyAnswer(request, view, snapshot, seen, version, search.result, issued),
        )
        others = len(entries) > len(issued)
        included = self._included(search, permit.patient, issued, others=others)
        entries += [
            entry(url, in_version(resource, version), "include")
            for url, resource in included.items()
        ]
        bundle = searchset(
            entries,
            fhir_base=self._endpoints.fhir_base,
            search=search,
            patient=permit.patient,
            page=page,
            as_of=view.oldest.moment,
            page_links=self._page_links,
        )
        # Addresses that are permissions are not compressed beside what the client wrote
        # (link.self).
        return answer_parts(
            http,
            bundle.parts,
            version=version,
            identity=bundle.identity,
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
                address.full_url,
                address.root,
                until=instant(datetime.fromtimestamp(int(address.expires_at), UTC)),
            )
            for address in issued.values()
        }
        if search.result.include_endpoint and others and not self._endpoints.contained:
            url = f"{self._endpoints.fhir_base}/Endpoint/{patient}"
            included[url] = self._endpoints.resource(patient)
        return included

    async def _snapshot(self, view: VisibleStudies) -> ListSnapshot:
        listing = view.listing
        return await listing.derive(
            ListSnapshot,
            lambda: list_snapshot(
                listing.rows,
                listing.series,
                listing.whole_series,
                self._site,
                listing.spare_bytes,
            ),
        )

    async def _page(
        self,
        search: Search,
        permit: PatientPermit,
        view: VisibleStudies,
        snapshot: ListSnapshot,
        seen: Mapping[str, datetime],
    ) -> StudyPage:
        is_limited = view.visible is not ALL_STUDIES
        selection = None if is_limited else search.selection
        key = None if selection is None else (permit.patient, selection)
        found = None if key is None else snapshot.found(key)
        if found is None:
            studies = snapshot.studies
            if is_limited:
                series = view.series or {}
                studies = await in_slices(snapshot.study_of(row, series) for row in view.rows)
            details = await self._details(search, permit, view, studies, seen)
            passed = await passing(studies, search, seen=seen, details=details)
            found = await in_order(passed, search, seen)
            # What the archive was asked for may change while the list is as it is.
            if key is not None and not details.series and not details.holding:
                snapshot.remember(key, found)
        return page_of(found, search, seen, self._page_size)

    async def _details(
        self,
        search: Search,
        permit: PatientPermit,
        view: VisibleStudies,
        studies: Sequence[ListedStudy],
        seen: Mapping[str, datetime],
    ) -> Details:
        endpoint = None if self._endpoints.contained else permit.patient
        if not search.names():
            return Details(endpoint=endpoint)
        worth = await in_slices(narrowed(studies, search, seen))
        return await search_details(search, worth, view, endpoint)

    async def read(self, http: web.Request) -> web.Response:
        """Answer ``GET [base]/ImagingStudy/{id}``.

        Another patient's study and a made-up id get the same 404.
        """
        record = http[RECORD]
        token = await self._authorizer.token(record, authorization(http))
        wanted = http[TARGET].segments[2]
        uid = wanted if is_study_id(wanted) and is_uid(wanted) else None
        if uid is not None:
            record.part = Part(uid)
        permit = await self._authorizer.permit_read(record, token)
        version, result = how_to_read(http)
        if not is_study_id(wanted):
            raise NotFound("There is no such resource.", reason="unknown_id")
        await hold_place(http, self._limits.search(token))
        if permit is None:  # Last: what is wrong with the request must not show whose study it is.
            owners = await self._authorizer.owners(token, uid)
            permit = await self._authorizer.permit_owner(record, token, owners)
        fresh = wants_fresh(http)
        request = await self._authorizer.authorize(
            record, token, permit, wanted, study=uid, fresh=fresh
        )
        if uid is not None:
            await self._authorizer.study(request, Part(uid), AnswerKind.LISTED)
        view = await self._authorizer.studies(request, fresh=fresh)
        snapshot = await self._snapshot(view)
        study = snapshot.by_id.get(wanted)
        shown = {wanted: study} if study and view.shows_row(study.uid, None) else {}
        self._authorizer.unless_own(record, wanted, shown, view.listing.shared)
        study = shown[wanted]
        if study.uid != uid:
            await self._authorizer.study(request, Part(study.uid), AnswerKind.LISTED)
        seen = view.last_updated(await snapshot.seen(permit.patient, self._catalog))
        row = view.row(study.row)
        (found,) = await self._entries.of(
            [study if row is study.row else listed_study(row, None, self._site)],
            StudyAnswer(request, view, snapshot, seen, version, result, {}),
        )
        body = found.resource
        return answer_parts(
            http,
            [body],
            version=version,
            identity=body,
            pretty=result.pretty,
            last_modified=self._last_modified(view, seen[study.uid]),
        )

    def _last_modified(self, view: VisibleStudies, seen: datetime) -> datetime | None:
        """Return the second of the last change, ``None`` where the answer may change without one.

        It may within that second, and when what is shown of the study is decided anew.
        """
        changed = seen.replace(microsecond=0)
        is_over = self._catalog.now() >= changed + timedelta(seconds=1)
        return changed if is_over and view.visible is ALL_STUDIES else None

    async def read_endpoint(self, http: web.Request) -> web.Response:
        """Answer ``GET [base]/Endpoint/{id}``: the standing Endpoint of the patient (SIA-31)."""
        record = http[RECORD]
        token = await self._authorizer.token(record, authorization(http))
        wanted = http[TARGET].segments[2]
        permit = await self._authorizer.permit_read(record, token)
        version, result = how_to_read(http)
        if permit is None:
            owners = (wanted,) if is_fhir_id(wanted) else ()
            permit = await self._authorizer.permit_owner(record, token, owners)
        own = () if self._endpoints.contained else (permit.patient,)
        self._authorizer.unless_own(record, wanted, own, shared=())
        resource = subset(self._endpoints.resource(permit.patient), result)
        return answer(http, resource, version=version, pretty=result.pretty)

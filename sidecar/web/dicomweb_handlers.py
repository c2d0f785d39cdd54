"""``/fhir/Patient/<id>/$wado-rs/…`` and ``/wado-rs/…``: one DICOMweb root for one patient (SIA-32, 40..45)."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import orjson
from aiohttp import hdrs, web
from multidict import CIMultiDict

from sidecar.access.decision import Permitted
from sidecar.access.facts import Part, PatientIdentifier, Token, is_fhir_id
from sidecar.access.permits import Interaction, Operation, PatientPermit, StudyPermit
from sidecar.audit.record import current_record
from sidecar.authorization.authorizer import Guard
from sidecar.authorization.capability_urls import PREFIX
from sidecar.authorization.current_study import CurrentStudy
from sidecar.authorization.limits import RequestLimits
from sidecar.authorization.row_filter import shown_rows
from sidecar.authorization.visible_studies import PatientView
from sidecar.common.errors import BadGateway, BadRequest, NotAcceptable, NotFound, Problem, Unavailable
from sidecar.common.fair_queue import Place
from sidecar.common.invalidation import Invalidation
from sidecar.common.slices import in_slices, let_go
from sidecar.common.spans import span
from sidecar.dicom.json_model import Row, tag, text
from sidecar.dicom.owner import owner_of
from sidecar.dicomweb.accept import accepts_json, is_single, prefers_zip, upstream_accept
from sidecar.dicomweb.conditional import to_client, to_pacs
from sidecar.dicomweb.instance_check import scanner_for
from sidecar.dicomweb.paths import OBJECTS, Kind, Query, Retrieval, parse
from sidecar.dicomweb.query import Matching, parse_matching
from sidecar.dicomweb.response_head import check_head
from sidecar.dicomweb.rewrite import TooDeep, public_attributes, rewrite_row
from sidecar.dicomweb.row_matching import RowFilter
from sidecar.dicomweb.upstream_errors import NotSupported, QueryRefused
from sidecar.dicomweb.wado_uri import parse_wado_uri
from sidecar.fhir.endpoint import Endpoints
from sidecar.pacs.client import PacsClient
from sidecar.pacs.counts import is_counted
from sidecar.telemetry.metrics import Metrics
from sidecar.web.head_answer import head_answer
from sidecar.web.held_places import hold_place
from sidecar.web.middleware import TARGET
from sidecar.web.negotiate import is_strict
from sidecar.web.pieces import accepts_gzip, in_pieces
from sidecar.web.query_pages import Page, QueryKey, QueryPages, Source
from sidecar.web.stream import Streamer, without_multipart

log = logging.getLogger(__name__)

DICOM_JSON = "application/dicom+json"
DECIDED_SECONDS = 1
"""Age from which a decision is made again before its answer begins: a place, or the archive, was waited for."""

# Rendering parameters that go on to the PACS (PS3.18 8.3.5), each with the characters that it may have.
_RENDERING = {
    "viewport": re.compile(r"[0-9.,-]{1,100}", re.ASCII),
    "window": re.compile(r"[0-9a-zA-Z.,_-]{1,100}", re.ASCII),
    "quality": re.compile(r"[1-9][0-9]?|100", re.ASCII),
    "annotation": re.compile(r"[a-z,]{1,50}", re.ASCII),
}


class DicomWeb:
    """The handlers. ``public_base`` is our own base URL without trailing slash; limits in bytes."""

    def __init__(
        self,
        guard: Guard,
        pacs: PacsClient,
        streamer: Streamer,
        endpoints: Endpoints,
        limits: RequestLimits,
        metrics: Metrics,
        *,
        public_base: str,
        verify_instances: bool,
        metadata_row_bytes: int,
        invalidation: Invalidation,
    ) -> None:
        self._guard = guard
        self._pacs = pacs
        self._streamer = streamer
        self._endpoints = endpoints
        self._limits = limits
        self._metrics = metrics
        self._public_base = public_base
        self._verify = verify_instances
        self._metadata_row_bytes = metadata_row_bytes
        self._invalidation = invalidation
        self._pages = QueryPages(invalidation)

    async def below_patient(self, request: web.Request) -> web.StreamResponse:
        """``/fhir/Patient/{patient}/$wado-rs/…``: the patient in the URL must be the token's (SIA-12)."""
        segments = request[TARGET].segments
        patient = segments[2]
        _note_path(segments[4:])
        token = await self._guard.token(request)
        permit = await self._guard.permit(token, Interaction.RETRIEVE, patient if is_fhir_id(patient) else "")
        return await self._serve(request, token, permit, segments[4:], self._endpoints.address(permit.patient))

    async def below_token(self, request: web.Request) -> web.StreamResponse:
        """``/wado-rs/…``: the patient is the token's."""
        _note_path(request[TARGET].segments[1:])
        token = await self._guard.token(request)
        permit = await self._guard.permit(token, Interaction.RETRIEVE)
        return await self._serve(request, token, permit, request[TARGET].segments[1:], self._public_base + "/wado-rs")

    async def below_capability(self, request: web.Request) -> web.StreamResponse:
        """``/capability/{sealed}/…``: the DICOMweb root of one study, with the token that found it (SIA-50..54)."""
        segments = request[TARGET].segments
        resource = parse(segments[2:])
        _note(resource)
        study = resource.study if isinstance(resource, Query) else resource.part.study
        operation = Operation.QUERY if isinstance(resource, Query) else Operation.RETRIEVE
        token, permit, capability = await self._guard.capability(request, segments[1], study, operation)
        accept, parameters = _accept(request)
        root = f"{self._public_base}/{PREFIX}/{segments[1]}"
        if isinstance(resource, Query):
            # Without a study in the path it is this study's all the same; the address itself is not told to the trail.
            current_record().searches(f"/{PREFIX}/{resource.level}", parameters)
            if resource.study is None and resource.level != "studies":
                resource = replace(resource, study=capability.study)
            return await self._search(request, token, permit, resource, root, accept, parameters, only=capability.study)
        return await self._retrieve(request, token, permit, resource, root, accept, parameters)

    async def _serve(
        self, request: web.Request, token: Token, permit: PatientPermit, segments: Sequence[str], root: str
    ) -> web.StreamResponse:
        resource = parse(segments)
        _note(resource)
        accept, parameters = _accept(request)
        if isinstance(resource, Query):
            current_record().searches(request.path, parameters)
            return await self._search(request, token, permit, resource, root, accept, parameters)
        return await self._retrieve(request, token, permit, resource, root, accept, parameters)

    async def wado_uri(self, request: web.Request) -> web.StreamResponse:
        """``/wado-uri?requestType=WADO&…`` (PS3.18 chapter 9): one instance, of the token's patient."""
        token = await self._guard.token(request)
        permit = await self._guard.permit(token, Interaction.RETRIEVE)
        header = ", ".join(request.headers.getall(hdrs.ACCEPT, [])) or None
        asked = parse_wado_uri(request[TARGET].parameters(), header)
        _note(asked.retrieval)
        root = self._public_base + "/wado-rs"
        return await self._retrieve(request, token, permit, asked.retrieval, root, asked.accept, asked.rendering)

    async def _retrieve(
        self,
        request: web.Request,
        token: Token,
        permit: PatientPermit,
        resource: Retrieval,
        root: str,
        accept: str | None,
        parameters: Sequence[tuple[str, str]],
    ) -> web.StreamResponse:
        # Whoever may not have it does not take a place from others.
        # What is drawn of a whole study carries no patient inside, and no row of a part was looked at: so ask again.
        unnamed = resource.part.series is None and resource.kind not in (*OBJECTS, Kind.METADATA)
        clock, stamp = asyncio.get_running_loop().time, partial(self._invalidation.stamp, resource.part.study)
        began, before = clock(), stamp()
        names_patient = self._names_patient(resource.kind)
        study_permit = await self._guard.study(permit, resource.part, drawn=unnamed, names_patient=names_patient)
        permitted = Permitted.by(study_permit, study_permit.known_as)
        now = CurrentStudy(self._guard, self._pacs, permit, resource.part, study_permit.known_as)

        async def decide_again() -> None:
            """Decide on what the archive has opened, if a place or the archive was waited for, or something forgotten.

            It may not be the patient's any more, and the token may have expired.
            """
            if clock() - began < DECIDED_SECONDS and before == stamp():
                return
            current = await self._guard.token(request)
            permit_now = await self._guard.permit(current, Interaction.RETRIEVE, permit.patient)
            again = await self._guard.study(permit_now, resource.part, drawn=unnamed, names_patient=names_patient)
            if (permit_now, again) != (permit, study_permit):
                raise Unavailable(
                    "The hospital's records changed meanwhile; repeat the request.", reason="changed_meanwhile",
                    retry_after=1,
                )  # fmt: skip

        asked = upstream_accept(accept, resource, one_range=self._pacs.dialect.one_media_range)
        rendering = _rendering_parameters(parameters, resource)
        async with self._limits.transfer(token, resource) as places:
            with span("record"):
                self._guard.audit.permitted(current_record())
            with span("fetch"):
                return await self._stream(
                    request, study_permit, permitted, now, resource, root, accept=asked,
                    unwrap=is_single(accept, resource), zipped=prefers_zip(accept, resource),
                    parameters=rendering, decide_again=decide_again, places=places,
                )  # fmt: skip

    def _names_patient(self, kind: Kind) -> bool:
        """Whether an answer of this kind says whose it is, and can be believed."""
        if kind is Kind.METADATA:  # Orthanc writes a text without what it could not read: the instance tells.
            return not (self._verify and self._pacs.dialect.converts_text)
        return kind in OBJECTS

    async def _stream(
        self,
        request: web.Request,
        permit: StudyPermit,
        permitted: Permitted,
        now: CurrentStudy,
        resource: Retrieval,
        root: str,
        *,
        accept: str,
        unwrap: bool,
        zipped: bool,
        parameters: Sequence[tuple[str, str]],
        decide_again: Callable[[], Awaitable[None]],
        places: Sequence[Place],
    ) -> web.StreamResponse:
        conditions = to_pacs(request.headers, resource.kind)
        if request.method == hdrs.METH_HEAD and not zipped:
            told = await self._pacs.head(
                permit, resource, accept=accept, parameters=parameters, conditions=conditions
            )  # fmt: skip
            if told is not None:
                await decide_again()
                with contextlib.suppress(BadGateway):  # A GET says whether it is as wrong.
                    return head_answer(
                        told, resource.kind, unwrap=unwrap, is_conditional=bool(conditions),
                        ranged="Range" in conditions,
                    )  # fmt: skip
        # Before the archive lists what it will send: images that arrive meanwhile make the list longer, not shorter.
        expected = await now.expected() if is_counted(resource) else None
        async with self._pacs.open(
            permit, resource, accept=accept, parameters=parameters, conditions=conditions, expected=expected
        ) as upstream:
            await decide_again()
            if upstream.status == 304 and conditions:
                return web.Response(status=304, headers=to_client(upstream.headers, partial=False))
            if resource.frames and upstream.status in (400, 406) and not await now.has_frames(resource.frames):
                raise NotFound("There is no such frame.", reason="pacs_absent")
            if resource.kind is Kind.METADATA:
                await _unless_not_offered(upstream.status, now)
            head = check_head(
                upstream.status, upstream.headers, resource.kind, chunked=upstream.chunked, ranged="Range" in conditions
            )
            scanner = scanner_for(
                head, resource.kind, permitted, root=root, verify=self._verify, row_bytes=self._metadata_row_bytes,
                unwrap=unwrap, zipped=zipped,
                one_part=resource.kind is Kind.INSTANCE or len(resource.frames) == 1,
            )  # fmt: skip
            if resource.kind is Kind.METADATA:  # Some archives write application/json.
                head = replace(head, content_type=DICOM_JSON, media_type=DICOM_JSON)
            if zipped:
                head = replace(head, content_type="application/zip", media_type="application/zip")
            elif unwrap and head.boundary is not None:
                head = without_multipart(head, resource.kind)
            return await self._streamer.send(request, upstream, head, resource.kind.value, scanner, now, places)

    async def _search(
        self,
        request: web.Request,
        token: Token,
        permit: PatientPermit,
        query: Query,
        root: str,
        accept: str | None,
        parameters: Sequence[tuple[str, str]],
        *,
        only: str | None = None,
    ) -> web.Response:
        if not accepts_json(accept):
            raise NotAcceptable("Searches are answered in application/dicom+json.", reason="accept")
        matching = parse_matching(parameters, strict=is_strict(request))
        await hold_place(request, self._limits.search(token))
        if only is not None and query.study is None:
            await self._guard.study(permit, Part(only), whole=False)
            matching = matching.of_study(only)
        if query.study is not None:
            await self._guard.study(permit, Part(query.study, query.series), whole=False)
        view = await self._guard.view(permit) if permit.is_limited else None
        known_as = await self._guard.known_as(permit)
        with span("fetch"):
            # Of one study the owners have just been looked at.
            checked = only is not None or query.study is not None
            page, others = await self._page(permit, query, matching, known_as, view, checked=checked)
        rows = page.rows
        if others:
            await self._note_others(permit, query, known_as, others)
        try:
            written = await in_slices(
                b"," + orjson.dumps(rewrite_row(public_attributes(row), root))
                if only in (None, text(row, "StudyInstanceUID"))
                else None
                for row in rows
            )
            await let_go(rows)
            written[:1] = [b"[" + one[1:] for one in written[:1]] or [b"["]
            headers = CIMultiDict({hdrs.CONTENT_TYPE: DICOM_JSON})
            headers.extend((hdrs.WARNING, text) for text in _warnings(matching.ignored, more=page.more))
            return in_pieces([*written, b"]"], headers, gzip=accepts_gzip(request))
        except TooDeep:
            log.error("a row of the PACS is nested too deep")
            raise BadGateway("The image archive gave an answer that cannot be used.", reason="query_too_deep") from None

    async def _page(
        self,
        permit: PatientPermit,
        query: Query,
        matching: Matching,
        known_as: frozenset[PatientIdentifier],
        view: PatientView | None,
        *,
        checked: bool,
    ) -> tuple[Page, int]:
        """The patient's rows under every identifier, in one order, cut to the page that was asked for.

        With them: how many came that are not the patient's, and were left out. ``view``: what is shown of the
        patient's, ``None``: all. ``checked``: they are of one study, whose owners are known.
        """
        others, row_filter = 0, RowFilter(query, matching)
        identifiers = sorted(known_as, key=lambda known: (known.patient_id, known.issuer or ""))

        async def read(offset: int, limit: int | None) -> tuple[int, list[Row]]:
            nonlocal others
            count, others, own = 0, 0, list[Row]()
            for identifier in identifiers:
                if limit is not None and count >= limit:
                    break
                left = None if limit is None else limit - count
                found = await self._found(query, matching, row_filter, identifier, left, offset)
                mine = await in_slices(row if _is_own(row, query, identifier) else None for row in found)
                count += len(found)
                others += len(found) - len(mine)
                own += await in_slices(row if row_filter.is_wanted(row) else None for row in mine)
                await let_go(found)
            return count, own

        # Where others come as well and are left out, a limit would cut the patient's own.
        exact = view is None and all(
            self._pacs.dialect.writes_exactly(one.patient_id + (one.issuer or "")) for one in identifiers
        )
        source = Source(
            read,
            lambda own: self._kept(own, query, matching, known_as, view, checked=checked),
            lambda own: self._kept_before(own, query, matching, known_as, view),
            takes_limit=exact,
            takes_offset=exact and len(identifiers) == 1,
        )
        key = QueryKey(
            current_record().token_hash, permit.patient, known_as, query, matching.parameters,
            self._invalidation.of(query.study or ""),
        )  # fmt: skip
        page = await self._pages.page(
            key, source, offset=matching.offset, limit=matching.limit, peek=matching.is_capped
        )  # fmt: skip
        return page, others

    async def _found(
        self,
        query: Query,
        matching: Matching,
        row_filter: RowFilter,
        identifier: PatientIdentifier,
        limit: int | None,
        offset: int,
    ) -> list[Row]:
        who = [("PatientID", identifier.patient_id)]
        if identifier.issuer is not None:
            who.append(("IssuerOfPatientID", identifier.issuer))
        parameters = (*who, *matching.parameters, ("includefield", _checked_fields(query, row_filter)))
        try:
            return await self._pacs.search(query, _join_fields(parameters), limit=limit, offset=offset)
        except QueryRefused:
            if not matching.parameters:
                raise
            raise BadRequest("The archive refuses a value of this search.", reason="pacs_query_refused") from None

    async def _kept(
        self,
        own: list[Row],
        query: Query,
        matching: Matching,
        known_as: frozenset[PatientIdentifier],
        view: PatientView | None,
        *,
        checked: bool,
    ) -> list[tuple[Row, Row]]:
        """Those of the patient's ``own`` rows that may be seen: of studies that a read does not refuse.

        Each with the row that is shown of it.
        """
        if view is not None:
            if view.listing.shared:
                listed = await in_slices(text(row, "StudyInstanceUID") or "" for row in own)
                self._guard.left_out(view.listing.shared.intersection(listed))
            shown = zip(own, shown_rows(own, query, matching, view), strict=False)  # It may end at once.
            return await in_slices(None if one is None else (row, one) for row, one in shown)
        if checked:
            return await in_slices((row, row) for row in own)
        return await in_slices((row, row) for row in await self._unrefused(own, known_as))

    async def _kept_before(
        self,
        own: list[Row],
        query: Query,
        matching: Matching,
        known_as: frozenset[PatientIdentifier],
        view: PatientView | None,
    ) -> list[tuple[Row, Row]]:
        """The same of rows that were read for an earlier page. Their study may have been moved to somebody else."""
        own = await self._unrefused(own, known_as)
        return await self._kept(own, query, matching, known_as, view, checked=True)

    async def _unrefused(self, own: list[Row], known_as: frozenset[PatientIdentifier]) -> list[Row]:
        """Those of the rows whose studies a read does not refuse, by the owners that the archive names now."""
        named = await in_slices((uid, row) if (uid := text(row, "StudyInstanceUID")) else None for row in own)
        studies = await self._guard.unrefused((uid for uid, _ in named), known_as)
        return await in_slices(row if uid in studies else None for uid, row in named)

    async def _note_others(
        self, permit: PatientPermit, query: Query, known_as: frozenset[PatientIdentifier], rows: int
    ) -> None:
        """Count ``rows`` that were left out, unless the archive was corrected: then raise ``Denied``."""
        if query.study is not None:
            part = Part(query.study, query.series)
            if await self._guard.is_corrected(permit, part, known_as):
                log.warning("a study was corrected at the PACS while it was remembered", extra={"rows": rows})
                await self._guard.study(permit, part, whole=False)
                return
        log.warning("the PACS returned rows that were not asked for; they are left out", extra={"rows": rows})
        self._metrics.observe_foreign(query.level + "_row", rows)


def _is_own(row: Row, query: Query, identifier: PatientIdentifier) -> bool:
    return (
        owner_of(row).is_of(identifier)
        and query.study in (None, text(row, "StudyInstanceUID"))
        and query.series in (None, text(row, "SeriesInstanceUID"))
    )


def _note(resource: Retrieval | Query) -> None:
    """For the trail: what was asked for."""
    record = current_record()
    record.is_query = isinstance(resource, Query)
    if isinstance(resource, Retrieval):
        record.part, record.instances = resource.part, resource.kind in OBJECTS
    elif resource.study is not None:
        record.part = Part(resource.study, resource.series)


def _note_path(segments: Sequence[str]) -> None:
    """The same before anything is decided, as far as the path tells; what is wrong with it is said later."""
    with contextlib.suppress(Problem):
        _note(parse(segments))


def _checked_fields(query: Query, row_filter: RowFilter) -> str:
    """What a row must say to be looked at; a study says no series: it could be any of them."""
    keywords = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
    always = map(tag, keywords if query.level == "studies" else [*keywords, "SeriesInstanceUID"])
    return ",".join(dict.fromkeys((*always, *row_filter.fields)))


def _join_fields(parameters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """One includefield: Orthanc and dcm4chee read several, not every PACS does."""
    fields = [value for name, value in parameters if name == "includefield"]
    joined = "all" if "all" in fields else ",".join(fields)
    return [*((name, value) for name, value in parameters if name != "includefield"), ("includefield", joined)]


def _warnings(ignored: Sequence[str], *, more: bool) -> list[str]:
    """The Warning headers for query parameters that were ignored (PS3.18 8.3, 8.3.4.2).

    ``more``: and for rows beyond our own limit (8.3.4.4.1).
    """
    texts = ["There are additional results that can be requested"] if more else []
    if "fuzzymatching" in ignored:
        texts.append("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    if others := [name for name in ignored if name != "fuzzymatching"]:
        texts.append("Ignored query parameters: " + ", ".join(others))
    return [f'299 smart-imaging-sidecar "{one}"' for one in texts]


def _accept(request: web.Request) -> tuple[str | None, list[tuple[str, str]]]:
    """What the client accepts, and the query's other parameters.

    ``accept=`` in the query is for clients that cannot set headers; it comes before the header (PS3.18 8.3.3.1).
    """
    parameters = request[TARGET].parameters()
    in_query = [value for name, value in parameters if name == "accept"]
    if len(in_query) > 1:
        raise BadRequest("The parameter accept is given twice.", reason="bad_accept")
    others = [(name, value) for name, value in parameters if name != "accept"]
    # Form encoding makes a space of a "+" that is not written %2B.
    in_query = [value.replace("application/dicom ", "application/dicom+") for value in in_query]
    values = in_query or request.headers.getall(hdrs.ACCEPT, [])
    return ", ".join(values) if values else None, others


async def _unless_not_offered(status: int, now: CurrentStudy) -> None:
    """Raise ``NotSupported`` when an archive has no metadata of what is there, and the patient's, now."""
    if status in (405, 501) or (status in (400, 404) and not await now.is_corrected()):
        log.error("the PACS does not have metadata", extra={"upstream_status": status})
        raise NotSupported("metadata").because(f"status {status}")


def _rendering_parameters(parameters: Sequence[tuple[str, str]], resource: Retrieval) -> list[tuple[str, str]]:
    if resource.kind not in (Kind.RENDERED, Kind.THUMBNAIL):
        return []
    kept: dict[str, str] = {}
    for name, value in parameters:
        pattern = _RENDERING.get(name)
        if pattern is None:
            continue
        if name in kept or not pattern.fullmatch(value):
            raise BadRequest(f"The parameter {name} is malformed.", reason="bad_rendering")
        kept[name] = value
    return list(kept.items())

"""Answer ``/fhir/Patient/<id>/$wado-rs/…`` and ``/wado-rs/…``.

Each is the DICOMweb root of one patient (SIA-32, 40..45).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from aiohttp import hdrs, web

from sidecar.access.facts import Token, is_fhir_id
from sidecar.access.permits import Interaction, Operation, PatientPermit, StudyPermit
from sidecar.audit.record import AccessRecord
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.capability_urls import PREFIX
from sidecar.authorization.current_study import CurrentStudy
from sidecar.authorization.limits import HeldPlaces, RequestLimits
from sidecar.common.errors import NotFound, Problem, Unavailable
from sidecar.common.invalidation import Invalidation
from sidecar.common.spans import span
from sidecar.dicomweb.conditional import to_client, to_pacs
from sidecar.dicomweb.instance_check import scanner_for
from sidecar.dicomweb.paths import Kind, Query, Retrieval, parse
from sidecar.dicomweb.response_head import check_head
from sidecar.dicomweb.upstream_accept import AcceptedTypes, accepted_types
from sidecar.dicomweb.upstream_errors import ResourceNotOffered
from sidecar.dicomweb.wado_uri import parse_wado_uri
from sidecar.pacs.client import PacsClient, Parameters
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.web.dicomweb_request import (
    AskedFor,
    RetrievalRequest,
    answer_kind,
    asked_for,
    note,
    parse_path,
    rendering_parameters,
)
from sidecar.web.head_answer import head_answer
from sidecar.web.middleware import RECORD, TARGET, authorization
from sidecar.web.qido_handlers import QidoHandlers
from sidecar.web.stream import Streamer, client_head
from sidecar.web.target import form_parameters

log = logging.getLogger(__name__)

DECIDED_SECONDS = 1
"""Age in seconds from which a decision is made again before its answer begins.

A place, or the archive, was waited for.
"""


class DicomWeb:
    """The handlers. ``public_base``: our own base URL without trailing slash. Limits in bytes."""

    def __init__(
        self,
        authorizer: Authorizer,
        pacs: PacsClient,
        retrievals: RetrieveClient,
        qido: QidoHandlers,
        streamer: Streamer,
        limits: RequestLimits,
        *,
        public_base: str,
        verify_instances: bool,
        metadata_row_bytes: int,
        invalidation: Invalidation,
    ) -> None:
        self._authorizer = authorizer
        self._pacs = pacs
        self._retrievals = retrievals
        self._qido = qido
        self._streamer = streamer
        self._limits = limits
        self._public_base = public_base
        self._verify = verify_instances
        self._metadata_row_bytes = metadata_row_bytes
        self._invalidation = invalidation

    async def below_patient(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/fhir/Patient/{patient}/$wado-rs/…``: that is the token's patient (SIA-12)."""
        record, segments = request[RECORD], request[TARGET].segments
        parsed, patient = parse_path(record, segments[4:]), segments[2]
        token = await self._authorizer.token(record, authorization(request))
        permit = await self._authorizer.permit(
            record, token, Interaction.RETRIEVE, patient if is_fhir_id(patient) else ""
        )
        root = "/".join((self._public_base, *segments[:4]))
        return await self._serve(request, token, permit, parsed, root)

    async def below_token(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/wado-rs/…``: the patient is the token's."""
        record = request[RECORD]
        parsed = parse_path(record, request[TARGET].segments[1:])
        token = await self._authorizer.token(record, authorization(request))
        permit = await self._authorizer.permit(record, token, Interaction.RETRIEVE)
        return await self._serve(request, token, permit, parsed, self._public_base + "/wado-rs")

    async def below_capability(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/capability/{sealed}/…``: one study, for one token (SIA-50..54)."""
        record, segments = request[RECORD], request[TARGET].segments
        resource = parse(segments[2:])
        note(record, resource)
        study = resource.study if isinstance(resource, Query) else resource.part.study
        operation = Operation.QUERY if isinstance(resource, Query) else Operation.RETRIEVE
        token, permit, capability = await self._authorizer.capability(
            record, authorization(request), segments[1], study, operation
        )
        root = f"{self._public_base}/{PREFIX}/{segments[1]}"
        if isinstance(resource, Retrieval):
            return await self._serve(request, token, permit, resource, root)
        asked = asked_for(request, resource, root)
        # The address itself is not recorded.
        record.searches(f"/{PREFIX}/{resource.level}", asked.parameters)
        # Without a study in the path it is this study's all the same.
        if resource.study is None and resource.level != "studies":
            asked = asked._replace(resource=replace(resource, study=capability.study))
        return await self._qido.search(request, token, permit, asked, only=capability.study)

    def _serve(
        self,
        request: web.Request,
        token: Token,
        permit: PatientPermit,
        parsed: Retrieval | Query | Problem,
        root: str,
    ) -> Awaitable[web.StreamResponse]:
        """Answer what the path asks for, or raise what is wrong with it."""
        if isinstance(parsed, Problem):
            raise parsed
        if isinstance(parsed, Retrieval):
            return self._retrieve(request, token, permit, asked_for(request, parsed, root))
        query = asked_for(request, parsed, root)
        request[RECORD].searches(request.path, query.parameters)
        return self._qido.search(request, token, permit, query)

    async def wado_uri(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/wado-uri?requestType=WADO&…`` with one instance (PS3.18 chapter 9)."""
        record = request[RECORD]
        token = await self._authorizer.token(record, authorization(request))
        permit = await self._authorizer.permit(record, token, Interaction.RETRIEVE)
        header = ", ".join(request.headers.getall(hdrs.ACCEPT, [])) or None
        wanted = parse_wado_uri(form_parameters(request[TARGET].query), header)
        note(record, wanted.retrieval)
        root = self._public_base + "/wado-rs"
        asked = AskedFor(wanted.retrieval, root, wanted.accept, wanted.rendering)
        return await self._retrieve(request, token, permit, asked)

    async def _retrieve(
        self,
        http: web.Request,
        token: Token,
        permit: PatientPermit,
        asked: AskedFor[Retrieval],
    ) -> web.StreamResponse:
        # Whoever may not have it does not take a place from others.
        resource, record = asked.resource, http[RECORD]
        clock = asyncio.get_running_loop().time
        stamp = partial(self._invalidation.stamp, resource.part.study)
        began, before = clock(), stamp()
        request, study_permit = await self._authorize(record, token, permit, asked)

        async def decide_from_token_again() -> None:
            """Decide again, from the token on, now that the archive has opened its answer.

            It does so if a place or the archive was waited for, or something was forgotten: the
            part may not be the patient's any more, and the token may have expired.
            """
            if clock() - began < DECIDED_SECONDS and before == stamp():
                return
            token_now = await self._authorizer.token(record, authorization(http))
            permit_now = await self._authorizer.permit(
                record, token_now, Interaction.RETRIEVE, permit.patient
            )
            _, again = await self._authorize(record, token_now, permit_now, asked)
            if (permit_now, again) != (permit, study_permit):
                raise Unavailable(
                    "The hospital's records changed meanwhile; repeat the request.",
                    reason="changed_meanwhile",
                    retry_after=1,
                )

        accepted = accepted_types(
            asked.accept, resource, one_range=self._pacs.dialect.one_media_range
        )
        rendering = rendering_parameters(asked)
        async with self._limits.transfer(token, resource) as places:
            with span("record"):
                self._authorizer.audit.permitted(record)
            with span("fetch"):
                return await self._stream(
                    http,
                    request,
                    study_permit,
                    accepted,
                    rendering,
                    decide_from_token_again,
                    places,
                )

    async def _authorize(
        self,
        record: AccessRecord,
        token: Token,
        permit: PatientPermit,
        asked: AskedFor[Retrieval],
    ) -> tuple[RetrievalRequest, StudyPermit]:
        """Return the authorized request, and the permit for what it asks for."""
        part = asked.resource.part
        request = await self._authorizer.authorize(record, token, permit, asked, study=part.study)
        # Orthanc writes a text without what it could not read: the instance tells.
        reads_text = not (self._verify and self._pacs.dialect.converts_text)
        answer = answer_kind(asked.resource, reads_text=reads_text)
        return request, await self._authorizer.study(request, part, answer)

    async def _stream(
        self,
        http: web.Request,
        request: RetrievalRequest,
        permit: StudyPermit,
        accepted: AcceptedTypes,
        parameters: Parameters,
        decide_from_token_again: Callable[[], Awaitable[None]],
        places: HeldPlaces,
    ) -> web.StreamResponse:
        resource = request.asked.resource
        current_study = CurrentStudy(self._authorizer, self._pacs, request, permit)
        conditions = to_pacs(http.headers, resource.kind)
        if http.method == hdrs.METH_HEAD and not accepted.zipped:
            answer = await head_answer(
                self._retrievals,
                permit,
                resource,
                accept=accepted.upstream,
                parameters=parameters,
                conditions=conditions,
                unwrap=accepted.unwrap,
                decide_from_token_again=decide_from_token_again,
            )
            if answer is not None:
                return answer
        # Before the archive lists what it will send: images that arrive meanwhile make the list
        # longer, not shorter.
        expected = await current_study.expected() if resource.is_whole else None
        async with await self._retrievals.open(
            permit,
            resource,
            accept=accepted.upstream,
            parameters=parameters,
            conditions=conditions,
            expected=expected,
        ) as upstream:
            await decide_from_token_again()
            if upstream.status == 304 and conditions:
                return web.Response(status=304, headers=to_client(upstream.headers, partial=False))
            if (
                resource.frames
                and upstream.status in (400, 406)
                and not await current_study.has_frames(resource.frames)
            ):
                raise NotFound("There is no such frame.", reason="pacs_absent")
            if resource.kind is Kind.METADATA:
                await _unless_not_offered(upstream.status, current_study)
            head = check_head(
                upstream.status,
                upstream.headers,
                resource.kind,
                chunked=upstream.chunked,
                ranged="Range" in conditions,
            )
            scanner = scanner_for(
                head,
                resource,
                permit,
                root=request.asked.root,
                verify=self._verify,
                row_bytes=self._metadata_row_bytes,
                unwrap=accepted.unwrap,
                zipped=accepted.zipped,
            )
            sent = client_head(head, resource.kind, unwrap=accepted.unwrap, zipped=accepted.zipped)
            return await self._streamer.send(
                http, upstream, sent, resource.kind.value, scanner, current_study, places
            )


async def _unless_not_offered(status: int, current_study: CurrentStudy) -> None:
    """Raise ``ResourceNotOffered`` when an archive has no metadata of what is the patient's now."""
    if status in (405, 501) or (status in (400, 404) and not await current_study.is_corrected()):
        log.error("the PACS does not have metadata", extra={"upstream_status": status})
        raise ResourceNotOffered.named("metadata").because(f"status {status}")

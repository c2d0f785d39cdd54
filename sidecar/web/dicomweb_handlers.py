"""``/fhir/Patient/<id>/$wado-rs/…`` and ``/wado-rs/…``: one DICOMweb root for one patient (SIA-32, 40..45)."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from aiohttp import hdrs, web

from sidecar.access.facts import AnswerKind, Part, Token, is_fhir_id
from sidecar.access.permits import Interaction, Operation, PatientPermit, StudyPermit
from sidecar.audit.record import current_record
from sidecar.authorization.authorizer import Authorizer
from sidecar.authorization.capability_urls import PREFIX
from sidecar.authorization.current_study import CurrentStudy
from sidecar.authorization.limits import RequestLimits
from sidecar.common.errors import BadRequest, NotFound, Problem, Unavailable
from sidecar.common.fair_queue import HeldPlace
from sidecar.common.invalidation import Invalidation
from sidecar.common.spans import span
from sidecar.dicomweb.conditional import to_client, to_pacs
from sidecar.dicomweb.instance_check import scanner_for
from sidecar.dicomweb.paths import OBJECTS, Kind, Query, Retrieval, parse
from sidecar.dicomweb.response_head import check_head
from sidecar.dicomweb.upstream_accept import is_single, prefers_zip, upstream_accept
from sidecar.dicomweb.upstream_errors import ResourceNotOffered
from sidecar.dicomweb.wado_uri import parse_wado_uri
from sidecar.fhir.endpoint import Endpoints
from sidecar.pacs.client import PacsClient
from sidecar.pacs.counts import is_counted
from sidecar.pacs.retrieve import RetrieveClient
from sidecar.web.head_answer import head_answer
from sidecar.web.middleware import TARGET
from sidecar.web.qido_handlers import QidoHandlers
from sidecar.web.stream import Streamer, client_head

log = logging.getLogger(__name__)

DECIDED_SECONDS = 1
"""Age from which a decision is made again before its answer begins: a place, or the archive, was waited for."""

# Rendering parameters that go on to the PACS (PS3.18 8.3.5), each with the characters that it may
# have.
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
        authorizer: Authorizer,
        pacs: PacsClient,
        retrievals: RetrieveClient,
        qido: QidoHandlers,
        streamer: Streamer,
        endpoints: Endpoints,
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
        self._endpoints = endpoints
        self._limits = limits
        self._public_base = public_base
        self._verify = verify_instances
        self._metadata_row_bytes = metadata_row_bytes
        self._invalidation = invalidation

    async def below_patient(self, request: web.Request) -> web.StreamResponse:
        """``/fhir/Patient/{patient}/$wado-rs/…``: the patient in the URL must be the token's (SIA-12)."""
        segments = request[TARGET].segments
        patient = segments[2]
        _note_path(segments[4:])
        token = await self._authorizer.token(request)
        permit = await self._authorizer.permit(
            token, Interaction.RETRIEVE, patient if is_fhir_id(patient) else ""
        )
        return await self._serve(
            request, token, permit, segments[4:], self._endpoints.address(permit.patient)
        )

    async def below_token(self, request: web.Request) -> web.StreamResponse:
        """``/wado-rs/…``: the patient is the token's."""
        _note_path(request[TARGET].segments[1:])
        token = await self._authorizer.token(request)
        permit = await self._authorizer.permit(token, Interaction.RETRIEVE)
        return await self._serve(
            request, token, permit, request[TARGET].segments[1:], self._public_base + "/wado-rs"
        )

    async def below_capability(self, request: web.Request) -> web.StreamResponse:
        """``/capability/{sealed}/…``: the DICOMweb root of one study, with the token that found it (SIA-50..54)."""
        segments = request[TARGET].segments
        resource = parse(segments[2:])
        _note(resource)
        study = resource.study if isinstance(resource, Query) else resource.part.study
        operation = Operation.QUERY if isinstance(resource, Query) else Operation.RETRIEVE
        token, permit, capability = await self._authorizer.capability(
            request, segments[1], study, operation
        )
        accept, parameters = _accept(request)
        root = f"{self._public_base}/{PREFIX}/{segments[1]}"
        if isinstance(resource, Query):
            # Without a study in the path it is this study's all the same; the address itself is not
            # told to the trail.
            current_record().searches(f"/{PREFIX}/{resource.level}", parameters)
            if resource.study is None and resource.level != "studies":
                resource = replace(resource, study=capability.study)
            return await self._qido.search(
                request, token, permit, resource, root, accept, parameters, only=capability.study
            )
        return await self._retrieve(request, token, permit, resource, root, accept, parameters)

    async def _serve(
        self,
        request: web.Request,
        token: Token,
        permit: PatientPermit,
        segments: Sequence[str],
        root: str,
    ) -> web.StreamResponse:
        resource = parse(segments)
        _note(resource)
        accept, parameters = _accept(request)
        if isinstance(resource, Query):
            current_record().searches(request.path, parameters)
            return await self._qido.search(
                request, token, permit, resource, root, accept, parameters
            )
        return await self._retrieve(request, token, permit, resource, root, accept, parameters)

    async def wado_uri(self, request: web.Request) -> web.StreamResponse:
        """``/wado-uri?requestType=WADO&…`` (PS3.18 chapter 9): one instance, of the token's patient."""
        token = await self._authorizer.token(request)
        permit = await self._authorizer.permit(token, Interaction.RETRIEVE)
        header = ", ".join(request.headers.getall(hdrs.ACCEPT, [])) or None
        asked = parse_wado_uri(request[TARGET].parameters(), header)
        _note(asked.retrieval)
        root = self._public_base + "/wado-rs"
        return await self._retrieve(
            request, token, permit, asked.retrieval, root, asked.accept, asked.rendering
        )

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
        clock, stamp = (
            asyncio.get_running_loop().time,
            partial(self._invalidation.stamp, resource.part.study),
        )
        began, before = clock(), stamp()
        answer = self._answer(resource)
        study_permit = await self._authorizer.study(permit, resource.part, answer)
        now = CurrentStudy(
            self._authorizer, self._pacs, permit, resource.part, study_permit.known_as
        )

        async def decide_again() -> None:
            """Decide on what the archive has opened, if a place or the archive was waited for, or something forgotten.

            It may not be the patient's any more, and the token may have expired.
            """
            if clock() - began < DECIDED_SECONDS and before == stamp():
                return
            current = await self._authorizer.token(request)
            permit_now = await self._authorizer.permit(
                current, Interaction.RETRIEVE, permit.patient
            )
            again = await self._authorizer.study(permit_now, resource.part, answer)
            if (permit_now, again) != (permit, study_permit):
                raise Unavailable(
                    "The hospital's records changed meanwhile; repeat the request.",
                    reason="changed_meanwhile",
                    retry_after=1,
                )

        asked = upstream_accept(accept, resource, one_range=self._pacs.dialect.one_media_range)
        rendering = _rendering_parameters(parameters, resource)
        async with self._limits.transfer(token, resource) as places:
            with span("record"):
                self._authorizer.audit.permitted(current_record())
            with span("fetch"):
                return await self._stream(
                    request,
                    study_permit,
                    now,
                    resource,
                    root,
                    accept=asked,
                    unwrap=is_single(accept, resource),
                    zipped=prefers_zip(accept, resource),
                    parameters=rendering,
                    decide_again=decide_again,
                    places=places,
                )

    def _answer(self, retrieval: Retrieval) -> AnswerKind:
        """Return what an answer to this holds, and whether it can be believed."""
        if retrieval.kind in OBJECTS:
            return AnswerKind.NAMED
        # Orthanc writes a text without what it could not read: the instance tells.
        if retrieval.kind is Kind.METADATA:
            return (
                AnswerKind.UNNAMED
                if self._verify and self._pacs.dialect.converts_text
                else AnswerKind.NAMED
            )
        return AnswerKind.UNNAMED if retrieval.part.series is not None else AnswerKind.DRAWN

    async def _stream(
        self,
        request: web.Request,
        permit: StudyPermit,
        now: CurrentStudy,
        resource: Retrieval,
        root: str,
        *,
        accept: str,
        unwrap: bool,
        zipped: bool,
        parameters: Sequence[tuple[str, str]],
        decide_again: Callable[[], Awaitable[None]],
        places: Sequence[HeldPlace],
    ) -> web.StreamResponse:
        conditions = to_pacs(request.headers, resource.kind)
        if request.method == hdrs.METH_HEAD and not zipped:
            answer = await head_answer(
                self._retrievals,
                permit,
                resource,
                accept=accept,
                parameters=parameters,
                conditions=conditions,
                unwrap=unwrap,
                decide_again=decide_again,
            )
            if answer is not None:
                return answer
        # Before the archive lists what it will send: images that arrive meanwhile make the list
        # longer, not shorter.
        expected = await now.expected() if is_counted(resource) else None
        async with self._retrievals.open(
            permit,
            resource,
            accept=accept,
            parameters=parameters,
            conditions=conditions,
            expected=expected,
        ) as upstream:
            await decide_again()
            if upstream.status == 304 and conditions:
                return web.Response(status=304, headers=to_client(upstream.headers, partial=False))
            if (
                resource.frames
                and upstream.status in (400, 406)
                and not await now.has_frames(resource.frames)
            ):
                raise NotFound("There is no such frame.", reason="pacs_absent")
            if resource.kind is Kind.METADATA:
                await _unless_not_offered(upstream.status, now)
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
                root=root,
                verify=self._verify,
                row_bytes=self._metadata_row_bytes,
                unwrap=unwrap,
                zipped=zipped,
            )
            sent = client_head(head, resource.kind, unwrap=unwrap, zipped=zipped)
            return await self._streamer.send(
                request, upstream, sent, resource.kind.value, scanner, now, places
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
    """The same before anything is decided, as far as the path tells.

    What is wrong with it is said later.
    """
    with contextlib.suppress(Problem):
        _note(parse(segments))


def _accept(request: web.Request) -> tuple[str | None, list[tuple[str, str]]]:
    """What the client accepts, and the query's other parameters.

    ``accept=`` in the query is for clients that cannot set headers; it comes before the header
    (PS3.18 8.3.3.1).
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
    """Raise ``ResourceNotOffered`` when an archive has no metadata of what is there, and the patient's, now."""
    if status in (405, 501) or (status in (400, 404) and not await now.is_corrected()):
        log.error("the PACS does not have metadata", extra={"upstream_status": status})
        raise ResourceNotOffered.named("metadata").because(f"status {status}")


def _rendering_parameters(
    parameters: Sequence[tuple[str, str]], resource: Retrieval
) -> list[tuple[str, str]]:
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

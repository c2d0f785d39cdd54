"""DICOMweb archive over a folder of DICOM files: QIDO-RS and WADO-RS (PS3.18 10.4, 10.6).

It is the hospital's PACS in the demo and in the tests: answers, statuses and headers are the
standard's, and it has no tokens. It is read only, and shares the path grammar and the parser of the
Accept header with the sidecar.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import orjson
from aiohttp import hdrs, web

from sidecar.common.errors import NotAcceptable, NotFound, Problem
from sidecar.demo.archive.accept import choose_drawn_form, media_ranges
from sidecar.demo.archive.index import Index, read_folder
from sidecar.demo.archive.instance import StoredInstance
from sidecar.demo.archive.multipart import BodyPart, send
from sidecar.demo.archive.query import parse_search, search
from sidecar.demo.archive.render import draw, parse_rendering
from sidecar.demo.archive.retrieve import (
    drawable,
    instance_url,
    metadata,
    send_all_bulkdata,
    send_bulkdata,
    send_frames,
    send_objects,
    send_pixeldata,
)
from sidecar.dicomweb.media_types import MediaRange, accepts_json
from sidecar.dicomweb.paths import Kind, Query, Retrieval, parse

INDEX: web.AppKey[Index] = web.AppKey("index", Index)
"""Key of what the archive has."""
ROOT = "/dicom-web"
DICOM_JSON = "application/dicom+json"
_NOT_FUZZY = (
    '299 - "The fuzzymatching parameter is not supported. '
    'Only literal matching has been performed."'
)


def create_archive(folder: Path) -> web.Application:
    """Return an archive of the DICOM files in and below ``folder``, served below ``/dicom-web``.

    Blocks while it reads the folder, a few milliseconds a file. Files that come or change later are
    not seen. Raises ``NotADirectoryError``.
    """
    app = web.Application(middlewares=[_problems])
    app[INDEX] = read_folder(folder)
    archive = Archive(app[INDEX])
    # HEAD is answered as well; other methods are a 405.
    app.router.add_get(ROOT + "/{path:.*}", archive.answer)
    return app


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a ``Problem`` with its status and a line of text."""
    try:
        return await handler(request)
    except Problem as problem:
        return web.Response(status=problem.status, text=problem.diagnostics + "\n")


class Archive:
    """Handler of all requests, over an index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for any resource below the root."""
        resource = parse(request.match_info["path"].split("/"))
        root = f"{request.scheme}://{request.host}{ROOT}"
        accept = _accept(request)
        if isinstance(resource, Query):
            return self._search(request, resource, accept, root)
        instances = self._index.find(resource.part)
        if not instances:
            raise NotFound("There is no such study, series or instance.", reason="absent")
        if resource.kind is Kind.METADATA:
            return await self._metadata(instances, accept, root)
        return await self._retrieve(request, resource, instances, media_ranges(accept), root)

    def _search(
        self, request: web.Request, query: Query, accept: str | None, root: str
    ) -> web.Response:
        _require_json(accept)
        parameters = parse_search(list(request.query.items()))
        headers = {hdrs.WARNING: _NOT_FUZZY} if parameters.fuzzy else {}
        rows = search(self._index, query, parameters, root)
        if not rows:
            return web.Response(status=204, headers=headers)
        return web.Response(body=orjson.dumps(rows), content_type=DICOM_JSON, headers=headers)

    async def _metadata(
        self, instances: Sequence[StoredInstance], accept: str | None, root: str
    ) -> web.Response:
        _require_json(accept)
        # The metadata of many instances take longer than other requests should wait.
        body = await asyncio.to_thread(lambda: orjson.dumps(metadata(instances, root)))
        return web.Response(body=body, content_type=DICOM_JSON)

    async def _retrieve(
        self,
        request: web.Request,
        resource: Retrieval,
        instances: Sequence[StoredInstance],
        ranges: Sequence[MediaRange],
        root: str,
    ) -> web.StreamResponse:
        match resource.kind:
            case Kind.STUDY | Kind.SERIES | Kind.INSTANCE as kind:
                return await send_objects(
                    request, instances, ranges, root, one_instance=kind is Kind.INSTANCE
                )
            case Kind.FRAMES:
                return await send_frames(request, instances[0], resource.frames, ranges, root)
            case Kind.BULKDATA if resource.steps:
                return await send_bulkdata(request, instances[0], resource.steps, ranges, root)
            case Kind.BULKDATA:
                return await send_all_bulkdata(request, instances, ranges, root)
            case Kind.PIXELDATA:
                return await send_pixeldata(request, instances, ranges, root)
            case kind:
                return await _send_drawn(
                    request, kind, drawable(instances), resource.frames or (1,), ranges, root
                )


async def _send_drawn(
    request: web.Request,
    kind: Kind,
    instance: StoredInstance,
    frames: Sequence[int],
    ranges: Sequence[MediaRange],
    root: str,
) -> web.StreamResponse:
    """Answer with rendered frames of an image."""
    if max(frames) > instance.number_of_frames:
        raise NotFound("There is no such frame.", reason="no_frame")
    form = choose_drawn_form(ranges, one_image=len(frames) == 1)
    rendering = parse_rendering(request.query, form.media_type, thumbnail=kind is Kind.THUMBNAIL)

    def load(frame: int) -> BodyPart:
        body = io.BytesIO(draw(instance.path, frame, rendering))
        return BodyPart(
            rendering.media_type,
            f"{instance_url(instance, root)}/frames/{frame}/{kind.value}",
            body,
        )

    return await send(request, form, (partial(load, frame) for frame in frames))


def _accept(request: web.Request) -> str | None:
    """Return the query parameter, else the header (PS3.18 8.3.3.1)."""
    values = request.query.getall("accept", []) or request.headers.getall(hdrs.ACCEPT, [])
    return ", ".join(values) or None


def _require_json(accept: str | None) -> None:
    if not accepts_json(accept):
        raise NotAcceptable(f"This resource is {DICOM_JSON} alone.", reason="accept")

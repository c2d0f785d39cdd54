"""Answers of one or many parts (PS3.18 8.6.1, RFC 2387), loaded in turn, written in chunks."""

import asyncio
import io
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from aiohttp import hdrs, web

from sidecar.common.errors import Problem
from sidecar.demo.archive.accept import DataForm
from sidecar.web.send_buffers import abort_connection

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Part: ``content_type`` with parameters, the absolute URL of the resource, and its bytes."""

    content_type: str
    location: str
    body: BinaryIO

    @property
    def size(self) -> int:
        """Size in bytes."""
        if isinstance(self.body, io.BytesIO):
            return self.body.getbuffer().nbytes
        return os.fstat(self.body.fileno()).st_size


Load = Callable[[], BodyPart]
"""Function that opens or makes a part, in a thread. The part's body is closed afterwards."""


async def send(request: web.Request, form: DataForm, loads: Iterator[Load]) -> web.StreamResponse:
    """Answer with the parts in a multipart, or with the first part alone, depending on ``form``."""
    if form.multipart:
        return await send_multipart(request, form.media_type, loads)
    return await send_single(request, next(loads))


async def send_multipart(
    request: web.Request, media_type: str, loads: Iterator[Load]
) -> web.StreamResponse:
    """Answer with the parts as multipart/related; ``media_type`` is the root part's.

    The first part is loaded before the head is sent, so that its failure can be an error status.
    When a later part cannot be loaded, the connection is reset: the client sees no closing
    delimiter.
    """
    first = await asyncio.to_thread(next(loads))
    boundary = uuid.uuid4().hex
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: f'multipart/related; type="{media_type}"; boundary={boundary}'}
    )
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        await _write_part(response, boundary, first)
    finally:
        first.body.close()
    for load in loads:
        try:
            part = await asyncio.to_thread(load)
        except (Problem, OSError) as error:
            log.error("a multipart answer broke off", extra={"reason": type(error).__name__})
            abort_connection(request)
            return response
        with part.body:
            await _write_part(response, boundary, part)
    await response.write(f"--{boundary}--\r\n".encode())
    await response.write_eof()
    return response


async def send_single(request: web.Request, load: Load) -> web.StreamResponse:
    """Answer with a single part."""
    part = await asyncio.to_thread(load)
    with part.body:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: part.content_type})
        response.content_length = part.size
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _write_body(response, part)
            await response.write_eof()
    return response


async def _write_part(response: web.StreamResponse, boundary: str, part: BodyPart) -> None:
    head = [
        f"--{boundary}",
        f"{hdrs.CONTENT_TYPE}: {part.content_type}",
        f"{hdrs.CONTENT_LENGTH}: {part.size}",
        f"{hdrs.CONTENT_LOCATION}: {part.location}",
    ]
    await response.write("\r\n".join([*head, "", ""]).encode())
    await _write_body(response, part)
    await response.write(b"\r\n")


async def _write_body(response: web.StreamResponse, part: BodyPart) -> None:
    while chunk := await asyncio.to_thread(part.body.read, CHUNK_BYTES):
        await response.write(chunk)

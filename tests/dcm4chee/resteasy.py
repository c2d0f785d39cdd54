"""A multipart/related body as RESTEasy writes it for dcm4chee: no lengths, chunks, internal addresses in its parts."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from sidecar.web.abort import abort_connection

CHUNK_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class OutputPart:
    """``content_type`` with its parameters, the absolute URL that stands in Content-Location, and its bytes."""

    content_type: str
    location: str
    body: Callable[[], bytes | Path]


async def send(
    request: web.Request, parts: Iterator[OutputPart], media_type: str, *, status: int, headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with the parts; ``media_type`` is the root part's, with its transfer syntax."""
    boundary, start = str(uuid.uuid4()), f"<{uuid.uuid4()}@resteasy-multipart>"
    name, _, parameters = media_type.partition(";")
    content_type = f'multipart/related;start="{start}";{parameters + ";" if parameters else ""}type="{name}"'
    response = web.StreamResponse(
        status=status, headers={**headers, "Content-Type": f"{content_type};boundary={boundary}"}
    )
    response.enable_chunked_encoding()
    first = next(parts)
    opened = await asyncio.to_thread(first.body)  # What it raises can still be an error status.
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    part: OutputPart | None = first
    content_id = start
    while part is not None:
        head = (
            f"--{boundary}\r\nContent-ID: {content_id}\r\nContent-Location: {part.location}\r\n"
            f"Content-Type: {part.content_type}\r\n\r\n"
        )
        await response.write(head.encode())
        await _write(response, opened)
        await response.write(b"\r\n")
        content_id = f"<{uuid.uuid4()}@resteasy-multipart>"
        part = next(parts, None)
        if part is not None:
            try:
                opened = await asyncio.to_thread(part.body)
            except Exception:
                abort_connection(request)
                return response
    await response.write(f"--{boundary}--".encode())
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, body: bytes | Path) -> None:
    if isinstance(body, bytes):
        await response.write(body)
        return
    with body.open("rb") as file:
        await _copy(response, file)


async def _copy(response: web.StreamResponse, file: BinaryIO) -> None:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        await response.write(chunk)
